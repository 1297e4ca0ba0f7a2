"""What every set of images offers, the checks that all of them share, and a part of another set."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from PIL import Image

from secondlens.data.decode import EXTENSIONS
from secondlens.errors import ImageError

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
        """The picture as `secondlens.data.decode` takes it; raises `UnreadableImage` if it is not there."""

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


@dataclass(frozen=True)
class SubsetSource:
    """The pictures of `whole` at `positions`, in that order, with their ids there. rule: how they were chosen.

    Raises `ImageError` where there are none, or one is there twice.
    """

    whole: ImageSource
    positions: tuple[int, ...]
    rule: str
    ids: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", tuple(self.whole.ids[position] for position in self.positions))
        check_ids(self.ids, f"the subset ({self.rule}) of {len(self.whole.ids)} pictures")

    @property
    def description(self) -> dict[str, Any]:
        """`kind` "subset"; `location`, that of the whole; `rule`; `of`, the whole's description."""
        whole = self.whole.description
        return {"kind": "subset", "location": whole["location"], "rule": self.rule, "of": whole}

    def read(self, index: int) -> bytes | Path | Image.Image:
        """The picture at `index` of the subset."""
        return self.whole.read(self.positions[index])

    def path(self, index: int) -> Path | None:
        """Its file, where the whole has one."""
        return self.whole.path(self.positions[index])


def every(count: int, step: int) -> list[int]:
    """Positions 0, step, 2 step, ...: count // step of them, so that 1,281,167 pictures and 250 give 5,124.

    Raises `ImageError` for a step below 1 or above the number of pictures.
    """
    if not 1 <= step <= count:
        raise ImageError(f"expected to take every 1st to {count}th of {count} pictures, got every {step}th")
    return [number * step for number in range(count // step)]


def subset(source: ImageSource, positions: Sequence[int], rule: str) -> ImageSource:
    """The source itself where `positions` are all of it in order, else a `SubsetSource`."""
    if list(positions) == list(range(len(source.ids))):
        return source
    return SubsetSource(source, tuple(positions), rule)
