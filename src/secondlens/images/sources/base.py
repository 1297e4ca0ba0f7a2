"""What every set of pictures offers, and the checks that all of them share."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from PIL import Image

from secondlens.errors import ImageError
from secondlens.images.decode import EXTENSIONS

_SHOWN = 3


@runtime_checkable
class ImageSource(Protocol):
    """A finite, ordered set of pictures that can be read in any order, and sent to worker processes."""

    @property
    def ids(self) -> Sequence[str]:
        """One unique, stable name a picture; the position in `ids` is the index of the other methods."""

    @property
    def description(self) -> dict[str, Any]:
        """How to find the pictures again, ready for JSON: at least the keys `kind` and `location`."""

    def read(self, index: int) -> bytes | Path | Image.Image:
        """The picture as `secondlens.images.decode` takes it; raises `UnreadableImage` if it is not there."""

    def path(self, index: int) -> Path | None:
        """The file that holds this picture and nothing else, where there is one."""


def has_picture_extension(name: str) -> bool:
    """Whether a file name ends like one of the formats that are read, in any case of letters."""
    return Path(name).suffix.lower() in EXTENSIONS


def text_id(name: str) -> str:
    """A file name as text that can be stored: bytes that are no UTF-8 are written as backslash escapes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def check_ids(ids: Sequence[str], where: str) -> None:
    """Raise `ImageError` unless there is at least one id and all differ."""
    if not ids:
        raise ImageError(f"expected at least one picture, {where} has none; give one that holds pictures")
    if len(set(ids)) < len(ids):
        twice = [name for name, count in Counter(ids).items() if count > 1]
        more = f" and {len(twice) - _SHOWN} more" if len(twice) > _SHOWN else ""
        raise ImageError(
            f"expected every picture once, {where} names {', '.join(map(repr, twice[:_SHOWN]))}{more} "
            "more than once; remove the repetitions"
        )
