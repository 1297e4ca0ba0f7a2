"""What a survey would take, before it starts: time from batches that are really surveyed here, memory, disk.

    seconds(n) = start + passes * images / (n * rate)

rate: images a second over a few batches of the first group of layers, decoding as the survey would, after the reference
is fixed; start: write directions and Gram factors of all layers, which every machine makes for itself. Loading the
model and the principal components at the end (seconds a layer, on one machine) are not in it, nor is a second pass.
"""

import time
from dataclasses import dataclass

import torch

from secondlens.atlas import metrics
from secondlens.data.loader import batches, processing_order
from secondlens.data.sources import ImageSource
from secondlens.errors import SurveyError
from secondlens.lens.layer import LayerStatistics
from secondlens.lens.model import LensModel
from secondlens.lens.paths import Convention, paths_of
from secondlens.numerics.evictions import ENTRIES
from secondlens.numerics.histogram import BINS
from secondlens.numerics.rank_one import COMPONENTS
from secondlens.surveys.job import THUMBNAIL_SIZE
from secondlens.surveys.plan import SurveyPlan
from secondlens.surveys.stream import finish, update

BATCHES = 3
"""Batches that are timed."""


@dataclass(frozen=True)
class Machines:
    """machines: how many. images: each surveys in a pass. seconds: in all. memory, disk: bytes of each; the disk is
    that of the machine with the atlas.
    """

    machines: int
    images: int
    seconds: float
    memory: int
    disk: int


@dataclass(frozen=True)
class Estimate:
    """images, passes, capacity, memory: the plan. rate: images/s measured here. start: seconds. atlas: bytes of the
    finished atlas; scratch: bytes more while the survey runs, of a checkpoint being replaced.
    """

    images: int
    passes: int
    capacity: int
    memory: int
    rate: float
    start: float
    atlas: int
    scratch: int

    def on(self, machines: int) -> Machines:
        """The same survey on n machines like this one."""
        if machines < 1:
            raise SurveyError(f"expected at least one machine, got --machines {machines}")
        seconds = self.start + self.passes * self.images / (machines * self.rate)
        return Machines(machines, -(-self.images // machines), seconds, self.memory, self.atlas + self.scratch)


@torch.no_grad()
def estimate(
    model: LensModel,
    source: ImageSource,
    plan: SurveyPlan,
    top: int,
    *,
    convention: Convention = "centred",
    batch_size: int = 32,
    workers: int = 0,
    thumbnails: bool = True,
) -> Estimate:
    """Survey a few batches, write nothing. Raises `SurveyError` where none of their images can be read."""
    started = time.monotonic()
    # The first batch fixes the reference: what follows costs what most of a survey does.
    capacity = min(plan.capacity, batch_size)
    statistics = [LayerStatistics(model.tower, layer, capacity, convention) for layer in plan.groups[0]]
    per_layer = (time.monotonic() - started) / len(statistics)
    order = processing_order(len(source.ids))[: (BATCHES + 2) * batch_size]
    rate, jpegs = _rate(model, statistics, source, order, batch_size, workers, thumbnails)
    layers = [layer for group in plan.groups for layer in group]
    count = len(source.ids)
    images = count * (2 * model.embed_dim + 8) + sum(len(name.encode()) for name in source.ids) + int(count * jpegs)
    return Estimate(
        images=count,
        passes=len(plan.groups),
        capacity=plan.capacity,
        memory=plan.bytes,
        rate=rate,
        start=per_layer * len(layers),
        atlas=images + sum(layer_bytes(model, layer, top) for layer in layers),
        scratch=2 * max(sum(state_bytes(model, layer, plan.capacity) for layer in group) for group in plan.groups),
    )


def layer_bytes(model: LensModel, layer: int, top: int) -> int:
    """Size of a layer's file: the stored tensors of `atlas.metrics.METRICS`."""
    paths = len(paths_of(model.tower, layer))
    components = min(COMPONENTS, top, paths)
    return metrics.layer_bytes(
        model.neurons, {"path": paths, "embed": model.embed_dim, "component": components, "top": top, "bin": BINS}
    )


def state_bytes(model: LensModel, layer: int, capacity: int) -> int:
    """Size of a layer's part of a checkpoint: coefficients kept, bounds of evicted norms, and sums."""
    paths = len(paths_of(model.tower, layer))
    return model.neurons * ((4 * paths + 8) * (capacity + ENTRIES) + 20 * paths + 4 * BINS + 12)


def _rate(
    model: LensModel,
    statistics: list[LayerStatistics],
    source: ImageSource,
    order: list[int],
    batch_size: int,
    workers: int,
    thumbnails: bool,
) -> tuple[float, float]:
    """(images a second, mean bytes of a thumbnail). The first batch fixes the reference, the second warms up."""
    started, images, sizes, seen = 0.0, 0, [], 0
    for batch in batches(
        source,
        model.preprocessing.transform,
        order=order,
        batch_size=batch_size,
        workers=workers,
        thumbnail_size=THUMBNAIL_SIZE if thumbnails else None,
    ):
        sizes += [len(jpeg) for jpeg in batch.thumbnails]
        if not len(batch.positions):
            continue
        if not seen and len(order) <= 2 * batch_size:
            # Too few to warm up on.
            started = time.monotonic()
        update(model, statistics, batch)
        finish(model)
        if started:
            images += len(batch.positions)
        seen += 1
        if not started and seen == 2:
            started = time.monotonic()
    if not images:
        raise SurveyError(
            f"none of the {len(order)} images that were tried could be timed; expected pictures in a supported format"
        )
    return images / (time.monotonic() - started), sum(sizes) / max(1, len(sizes))
