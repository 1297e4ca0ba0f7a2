"""What a survey will need, before it starts: capacity, passes over the images, memory."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from secondlens.errors import SurveyError
from secondlens.lens.layer import statistics_bytes
from secondlens.lens.model import LensModel
from secondlens.lens.paths import check_layer, paths_of
from secondlens.numerics.parallel import block_size

CAPACITY_PER_TOP = 2
"""Images kept per neuron and top image: enough that one pass certifies (simulated and measured in docs/scale.md)."""
# torch, transformers and the interpreter themselves, as measured.
LIBRARIES = 1100 * 2**20


@dataclass(frozen=True)
class SurveyPlan:
    """groups: layers surveyed together, one pass over the images each. capacity: images kept per neuron. bytes:
    expected peak memory in all.
    """

    groups: tuple[tuple[int, ...], ...]
    capacity: int
    bytes: int

    @property
    def sentence(self) -> str:
        """For people: passes and memory."""
        passes = len(self.groups)
        return (
            f"{passes} pass{'es' if passes > 1 else ''} over the images, about {self.bytes / 2**30:.1f} GiB of memory"
        )


def parse_memory(text: str) -> int:
    """Bytes from "4GB", "512 MiB" or a plain number of bytes."""
    units = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
    cleaned = text.strip().lower().removesuffix("b").removesuffix("i")
    number, unit = (cleaned[:-1], cleaned[-1:]) if cleaned[-1:].isalpha() else (cleaned, "")
    try:
        return int(float(number) * units[unit])
    except (ValueError, KeyError) as error:
        raise SurveyError(f"expected an amount of memory such as 4GB or 512MB, got {text!r}") from error


def available_memory() -> int:
    """Memory that a process can have now, in bytes: what is free and what caches would give back.

    Where the system does not say (it does on Linux), half of the physical memory.
    """
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        for line in meminfo.read_text(encoding="ascii").splitlines():
            name, _, amount = line.partition(":")
            if name == "MemAvailable":
                return int(amount.split()[0]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def free_memory(device: torch.device) -> int:
    """Bytes that a process can have now where its tensors are: of a GPU, else `available_memory`."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available_memory()


def make_plan(
    model: LensModel, layers: Sequence[int], images: int, top: int, batch_size: int, memory: int | None = None
) -> SurveyPlan:
    """Group layers into as few passes as memory allows.

    memory: the limit in bytes; by default three quarters of what is available, on the GPU of a model that is on one.

    Raises `SurveyError` for layers out of range or given twice, a `top` that fits no image count, and a limit under
    which not even one layer fits.
    """
    if not layers or len(set(layers)) != len(layers):
        raise SurveyError(f"expected one or more layers, each once, got {list(layers)}")
    for layer in layers:
        check_layer(model.tower, layer)
    if top < 1:
        raise SurveyError(f"expected to keep at least one top image a neuron, got --top {top}")
    if top > images:
        raise SurveyError(
            f"top is {top}, but there are only {images} images; give --top {images} or less, or more images"
        )
    if batch_size < 1:
        raise SurveyError(f"expected a batch size of at least 1, got {batch_size}")
    limit = memory if memory is not None else free_memory(model.device) * 3 // 4
    capacity = min(images, math.ceil(CAPACITY_PER_TOP * top))
    groups: list[tuple[int, ...]] = []
    for layer in sorted(layers):
        joined = (*groups[-1], layer) if groups else (layer,)
        if groups and _bytes(model, joined, capacity, batch_size) <= limit:
            groups[-1] = joined
        else:
            groups.append((layer,))
    needed = max(_bytes(model, group, capacity, batch_size) for group in groups)
    if needed > limit:
        raise SurveyError(
            f"this survey needs about {needed / 2**30:.1f} GiB of memory per layer, more than the limit of "
            f"{limit / 2**30:.1f} GiB; give a smaller --top or --batch-size, or more with --memory"
        )
    return SurveyPlan(tuple(groups), capacity, needed)


def _bytes(model: LensModel, layers: Sequence[int], capacity: int, batch_size: int) -> int:
    tower = model.tower
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.module.parameters())
    height, width = tower.image_size
    tokens = (height // tower.patch) * (width // tower.patch) + tower.prefix_tokens
    element = torch.finfo(model.dtype).bits // 8
    held = batch_size * tokens * tower.neurons * max(element, 4) * len(layers)
    forward = batch_size * tokens * (2 * tower.neurons + 8 * tower.width) * element
    statistics = sum(statistics_bytes(tower, layer, capacity, batch_size) for layer in layers)
    # A block's result is computed in float64: held coefficients, their images under R, and R itself.
    paths = len(paths_of(tower, min(layers)))
    block = 8 * min(block_size(model.device), tower.neurons) * paths * (6 * capacity + 3 * paths + tower.embed_dim)
    return LIBRARIES + weights + held + forward + statistics + block
