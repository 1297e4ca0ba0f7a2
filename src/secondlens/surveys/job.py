"""What a survey is: a model, images, layers and settings; and the one order in which its images are taken."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from torch import Tensor

from secondlens.atlas.manifest import ids_hash
from secondlens.data.loader import Batch, Decoders, batches, processing_order
from secondlens.data.sources import ImageSource
from secondlens.errors import SurveyError
from secondlens.lens.layer import LayerStatistics
from secondlens.lens.model import LensModel
from secondlens.lens.paths import Convention
from secondlens.surveys.plan import SurveyPlan

THUMBNAIL_SIZE = 128

ScanKind = Literal["first", "second"]


@dataclass(frozen=True)
class Part:
    """Part `index` of `count` (0 <= index < count): a slice of whole batches of the survey's permutation of images."""

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise SurveyError(f"no such part: expected INDEX/COUNT with 0 <= INDEX < COUNT, got {self}")

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @classmethod
    def parse(cls, text: str) -> "Part":
        """Return the part that "0/2" names; raises `SurveyError` for anything else."""
        index, slash, count = text.partition("/")
        if not slash or not index.isdecimal() or not count.isdecimal():
            raise SurveyError(f"no such part: expected INDEX/COUNT, the first being 0/2, got {text!r}")
        return cls(int(index), int(count))

    def batches(self, total: int) -> range:
        """Return the numbers of its batches, of `total`."""
        return range(total * self.index // self.count, total * (self.index + 1) // self.count)


@dataclass(frozen=True)
class Scan:
    """A pass over the images for some layers.

    group: which of the plan's groups of layers. rows, means: of a second pass, by layer, the neurons that the first
    did not certify and their mean coefficients; they may hold more layers.
    """

    group: int
    layers: tuple[int, ...]
    rows: dict[int, Tensor] | None = None
    means: dict[int, Tensor] | None = None

    def of_group(self, number: int, layers: Sequence[int]) -> "Scan":
        """Return the pass over some of the layers, `number` groups after this one."""
        return replace(self, group=self.group + number, layers=tuple(layers))

    @property
    def kind(self) -> ScanKind:
        """ "first" or "second"."""
        return "first" if self.rows is None else "second"

    @property
    def keeps_images(self) -> bool:
        """Whether embeddings and thumbnails are kept: in the first pass of all."""
        return self.group == 0 and self.rows is None


@dataclass(frozen=True)
class Job:
    """A survey. workers: processes that decode. thumbnails: whether to keep them. decoders: reused ones."""

    model: LensModel
    source: ImageSource
    plan: SurveyPlan
    top: int
    convention: Convention
    batch_size: int
    workers: int = 0
    thumbnails: bool = True
    decoders: Decoders | None = None

    @property
    def layers(self) -> list[int]:
        """All layers, ascending."""
        return sorted(layer for group in self.plan.groups for layer in group)

    @cached_property
    def permutation(self) -> Sequence[int]:
        """Positions of the images in the fixed random order in which they are surveyed."""
        return processing_order(len(self.source.ids))

    @property
    def batch_count(self) -> int:
        """Number of batches in a pass."""
        return -(-len(self.source.ids) // self.batch_size)

    def images_of(self, part: Part) -> Sequence[int]:
        """Positions of the images of a part, in order."""
        span = part.batches(self.batch_count)
        return self.permutation[span.start * self.batch_size : span.stop * self.batch_size]

    def batches(self, part: Part, first: int, thumbnails: bool) -> Iterator[Batch]:
        """Decode the batches of a part, from its `first` on."""
        if self.decoders is not None:
            return self.decoders.batches(self.images_of(part), self.batch_size, first)
        return batches(
            self.source,
            self.model.preprocessing.transform,
            order=self.images_of(part),
            batch_size=self.batch_size,
            workers=self.workers,
            first=first,
            thumbnail_size=THUMBNAIL_SIZE if thumbnails else None,
        )

    def statistics(self, scan: Scan) -> list[LayerStatistics]:
        """Return empty statistics of a scan's layers."""
        tower, capacity = self.model.tower, self.plan.capacity
        rows, means = scan.rows or {}, scan.means or {}
        return [
            LayerStatistics(tower, layer, capacity, self.convention, rows.get(layer), means.get(layer))
            for layer in scan.layers
        ]

    def settings(self) -> dict[str, Any]:
        """Return everything that changes numbers: an interrupted survey goes on only with the same."""
        return {
            "model weights": self.model.weights_hash,
            "preprocessing": self.model.preprocessing.settings,
            "precision": str(self.model.dtype),
            "images": ids_hash(self.source.ids),
            "layers": self.layers,
            "top": self.top,
            "convention": self.convention,
            "batch size": self.batch_size,
        }
