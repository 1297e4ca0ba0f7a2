"""Some pictures of another source."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from secondlens.errors import ImageError
from secondlens.images.sources.base import ImageSource, check_ids


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
