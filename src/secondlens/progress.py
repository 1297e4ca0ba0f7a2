"""How long functions report how far they are: they call a function, which the caller may give."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with a title, how many are done, and of how many."""
Count = Callable[[int, int], None]
"""Called with how many are done, and of how many."""


def silent(title: str, done: int, total: int) -> None:
    """Where nobody wants to know."""
