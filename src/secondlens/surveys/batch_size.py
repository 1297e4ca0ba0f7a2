"""How many images a forward pass, found by trying.

1. A survey that is in the folder, finished or not, goes on with the batch size it began with: the last bits of its
   results depend on it.
2. On a CPU, 32: the products of a forward pass over 32 images keep all cores busy, and more only takes memory.
3. On a GPU, batches are surveyed for a moment, of 32 images and of twice as many as long as that raises the rate by
   more than a twentieth: past that point the GPU is busy, and larger batches only take memory. A batch that memory does
   not hold ends the search, as does one whose plan would need more passes over the images.
"""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from secondlens.atlas.manifest import MANIFEST
from secondlens.atlas.store import Atlas
from secondlens.data.loader import Batch
from secondlens.errors import SurveyError
from secondlens.lens.layer import LayerStatistics
from secondlens.lens.model import LensModel
from secondlens.surveys.plan import make_plan
from secondlens.surveys.stream import finish, update

BATCH_SIZE = 32
"""On a CPU, and where the search begins."""
GAIN = 0.05
"""A batch twice as large must raise the rate by more than this share."""
ROUNDS = 3
"""Batches timed of each size, at least."""

BatchSize = int | str
"""A number, or "auto"."""

Rate = Callable[[int], float]
"""Images a second in batches of a size; raises `torch.OutOfMemoryError` where memory does not hold one."""


def find_batch_size(
    asked: BatchSize,
    model: LensModel,
    layers: Sequence[int],
    images: int,
    top: int,
    memory: int | None = None,
    out: Path | None = None,
) -> int:
    """What was asked for, and for "auto" what the module's docstring says.

    layers, images, top, memory: as of `make_plan`. out: the survey's folder.

    Raises `SurveyError` for anything but "auto" and a number, for what no plan can do, and where the GPU does not hold
    one image.
    """
    if not isinstance(asked, str):
        return asked
    if asked != "auto":
        raise SurveyError(f"expected a batch size: a number or auto, got {asked!r}")
    begun = None if out is None else begun_with(out)
    if begun is not None:
        return begun
    if model.device.type != "cuda":
        return BATCH_SIZE
    most = largest_planned(model, layers, images, top, memory)
    plan = make_plan(model, layers, images, top, min(BATCH_SIZE, most), memory)
    return by_doubling(survey_rate(model, plan.groups[0], plan.capacity), min(BATCH_SIZE, most), most)


def by_doubling(rate: Rate, first: int, most: int) -> int:
    """The batch size from which doubling raises the rate by no more than `GAIN`, or does not fit.

    first: tried first; where even that does not fit, halves of it. most: never tried beyond.

    Raises `SurveyError` where not one image fits.
    """
    size, known = first, _tried(rate, first)
    while known is None:
        if size == 1:
            raise SurveyError(
                "the GPU has too little free memory for a survey in batches of one image; survey fewer --layers at a "
                "time, give a smaller --top, a narrower --dtype, or --device cpu"
            )
        size //= 2
        known = _tried(rate, size)
    while 2 * size <= most:
        faster = _tried(rate, 2 * size)
        if faster is None or faster <= (1 + GAIN) * known:
            break
        size, known = 2 * size, faster
    return size


def largest_planned(model: LensModel, layers: Sequence[int], images: int, top: int, memory: int | None) -> int:
    """The largest batch size, `BATCH_SIZE` times or over a power of two, that needs no more passes over the images than
    a smaller one; at most as many as there are images, or the next of those sizes.

    Raises `SurveyError` where no plan fits into memory with one image a batch.
    """

    def passes(size: int) -> int | None:
        try:
            return len(make_plan(model, layers, images, top, size, memory).groups)
        except SurveyError:
            return None

    size = BATCH_SIZE
    while size > 1 and passes(size) is None:
        size //= 2
    least = len(make_plan(model, layers, images, top, size, memory).groups)
    while size < images and passes(2 * size) == least:
        size *= 2
    return size


def survey_rate(model: LensModel, layers: Sequence[int], capacity: int) -> Rate:
    """Measures surveys of random pixels, of some layers, once their reference is fixed; on the model's device."""
    statistics = [LayerStatistics(model.tower, layer, capacity) for layer in layers]
    height, width = model.tower.image_size

    def batch(number: int, size: int) -> Batch:
        # There already: how images get to a device is not a matter of the batch size.
        generator = torch.Generator(model.device).manual_seed(number)
        pixels = torch.randn(size, 3, height, width, generator=generator, device=model.device)
        return Batch(number, torch.arange(number * size, (number + 1) * size), pixels, (), ())

    @torch.no_grad()
    def rate(size: int) -> float:
        # Until the capacity is full, all images are kept: what follows costs what most of a survey does.
        filling = -(-capacity // size) + 1
        some = batch(0, size)
        for each in statistics:
            each.clear()
        started = 0.0
        # Before what is timed, kernels may be compiled too.
        for number in range(filling + ROUNDS):
            if number == filling:
                finish(model)
                started = time.monotonic()
            update(model, statistics, Batch(number, some.positions + number * size, some.pixels, (), ()))
        finish(model)
        return ROUNDS * size / (time.monotonic() - started)

    return rate


def begun_with(out: Path) -> int | None:
    """The batch size of the survey in a folder, finished or not; None where there is none."""
    if (out / MANIFEST).is_file():
        return Atlas.open(out).manifest.batch_size
    path = out / "progress" / "progress.json"
    if not path.is_file():
        return None
    return int(json.loads(path.read_text(encoding="utf-8"))["settings"]["batch size"])


def _tried(rate: Rate, size: int) -> float | None:
    """The rate, None where memory is out; either way, what was taken for it is free again."""
    try:
        return rate(size)
    except torch.OutOfMemoryError:
        return None
    finally:
        torch.cuda.empty_cache()
