"""What `--jaxtyping-packages=secondlens,checked.checked` checks types with: beartype, but faster.

jaxtyping gives it functions that only check, with the signature of a function of the source and without its body. For
a nested function it makes them each time that the definition runs, as hooks of each forward pass are: a third of the
time of many tests. Equal signatures have equal checks, so those of nested functions are compiled once.
"""

import inspect
from typing import Any

from beartype import beartype

_compiled: dict[tuple[str, str, inspect.Signature], Any] = {}


def checked(function: Any) -> Any:
    """Return the function with checks of its arguments and its result."""
    if "<locals>" not in function.__qualname__ or function.__code__.co_filename != "<string>":
        return beartype(function)
    try:
        key = (function.__module__, function.__qualname__, inspect.signature(function))
        if key not in _compiled:
            _compiled[key] = beartype(function)
    except TypeError:  # an annotation or a default that cannot be hashed
        return beartype(function)
    return _compiled[key]
