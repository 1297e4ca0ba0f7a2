"""Files of other commands that a site shows: whatever is wrong with one is a clear error."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from secondlens.errors import AtlasError


@contextmanager
def reading(what: str, place: Path, instead: str) -> Iterator[None]:
    """Reads a file within; one that is missing, damaged or of another shape raises `AtlasError`.

    what: is read, e.g. "an audit". place: the file or folder. instead: what to give.
    """
    try:
        yield
    # Pydantic's and pyarrow's own errors are kinds of these.
    except (OSError, ValueError, KeyError) as error:
        raise AtlasError(f"cannot read {what} from {place}: {' '.join(str(error).split())[:200]}; {instead}") from error
