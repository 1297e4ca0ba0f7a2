"""Streams of coefficients that are hard on the algorithm, and ways to cut them into batches and parts."""

from itertools import pairwise

import torch
from torch import Tensor

NEURONS = 5

KINDS = (
    "gaussian", "spans", "levels", "duplicates", "rare", "far first", "drifting", "by class", "ascending", "descending",
)  # fmt: skip


def stream(kind: str, images: int, paths: int = 4, seed: int = 0, neurons: int = NEURONS) -> tuple[Tensor, Tensor]:
    """Coefficients [neuron, image, path] and roots. The last neuron but one is constant, the last one dead.

    spans: sizes from 10^-3 to 10^3. levels: small whole numbers, and a root of them, so that ties are exact.
    duplicates: few different images. rare: mostly zero, as of a sparse unit. far first: a quarter lies far away.
    drifting: the mean moves throughout. by class: three classes, one after the other. ascending, descending: by norm.
    """
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(neurons, images, paths, generator=generator)
    root = torch.randn(neurons, paths, paths, generator=generator)
    if kind == "spans":
        values *= 10.0 ** torch.randint(-3, 4, (1, images, 1), generator=generator)
    elif kind == "levels":
        values = torch.randint(-1, 2, (neurons, images, paths), generator=generator).float()
        root = torch.randint(-2, 3, (neurons, paths, paths), generator=generator).float()
    elif kind == "duplicates":
        values = values[:, torch.randint(0, max(1, images // 4), (images,), generator=generator)]
    elif kind == "rare":
        values *= torch.rand(neurons, images, 1, generator=generator) < 0.1
    elif kind == "far first":
        values[:, : images // 4] += 30
    elif kind == "drifting":
        values += torch.linspace(-3, 3, images)[None, :, None]
    elif kind == "by class":
        centres = torch.randn(neurons, 3, paths, generator=generator) * 5
        values += centres[:, torch.arange(images) * 3 // images]
    elif kind in ("ascending", "descending"):
        norms = torch.bmm(values, root).norm(dim=2)
        order = norms.argsort(dim=1, descending=kind == "descending")
        values = values.gather(1, order[:, :, None].expand_as(values))
    values[-2] = 0.7
    values[-1] = 0
    return values, root


def cut(positions: Tensor, sizes: list[int]) -> list[Tensor]:
    """Cut positions into batches: the given sizes, again and again."""
    batches, start = [], 0
    while start < len(positions):
        size = sizes[len(batches) % len(sizes)]
        batches.append(positions[start : start + size])
        start += size
    return batches


def spans(count: int, cuts: list[int]) -> list[range]:
    """Ranges from 0 to count - 1, cut at some numbers; two equal cuts give an empty one."""
    return [range(a, b) for a, b in pairwise([0, *sorted(min(cut, count) for cut in cuts), count])]
