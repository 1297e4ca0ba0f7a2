"""The largest effects straight from their definition, in float64, everything at once; and feeding of the real class."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from secondlens.numerics.largest import LargestEffects, TopEffects

FLOAT64 = {"rtol": 0.0, "atol": 1e-12, "equal_nan": True}
"""Sums of a few float64 terms, whose rounding is 2^-53 of the terms; times their number and what cancels in them."""

TIED = 1e-11
"""Norms that differ by less, relative to their size, are equal but for the rounding of float64 sums of a few terms."""


@dataclass(frozen=True)
class BruteForce:
    """mean [neuron, path]; norms [neuron, image] of each image; order [neuron, image]: the images by norm, descending,
    of tied norms the lower position first; variance [neuron]."""

    mean: Tensor
    norms: Tensor
    order: Tensor
    variance: Tensor

    def top(self, top_k: int) -> Tensor:
        """Positions of the largest effects, [neuron, top]."""
        return self.order[:, :top_k]


def brute_force(coefficients: Tensor, root: Tensor) -> BruteForce:
    """Evaluate the definition; position i is image i of the coefficients [neuron, image, path]."""
    upcast = coefficients.double()
    images = upcast.shape[1]
    mean = torch.tensor(
        [[math.fsum(column) / images for column in neuron.T.tolist()] for neuron in upcast], dtype=torch.float64
    )
    # One image at a time: the definition, and fast enough.
    norms = torch.tensor(
        [
            [float(np.linalg.norm((row - centre) @ matrix)) for row in rows]
            for rows, centre, matrix in zip(upcast.numpy(), mean.numpy(), root.double().numpy(), strict=True)
        ],
        dtype=torch.float64,
    )
    order = torch.tensor([_order(row) for row in norms.tolist()])
    return BruteForce(mean, norms, order, norms.square().mean(dim=1))


def _order(norms: list[float]) -> list[int]:
    descending = sorted(range(len(norms)), key=lambda image: -norms[image])
    groups: list[list[int]] = []
    for image in descending:
        if groups and norms[groups[-1][-1]] - norms[image] <= TIED * norms[image]:
            groups[-1].append(image)
        else:
            groups.append([image])
    return [image for group in groups for image in sorted(group)]


def feed(statistics: LargestEffects, coefficients: Tensor, batches: Iterable[Sequence[int] | Tensor]) -> LargestEffects:
    """Update with some batches of positions, laid out in memory as a survey's coefficients are: images first."""
    for batch in batches:
        positions = torch.as_tensor(batch, device=coefficients.device)
        rows = coefficients[:, positions].transpose(0, 1).contiguous().transpose(0, 1)
        statistics.update(rows, positions)
    return statistics


def second_pass(
    statistics: LargestEffects, coefficients: Tensor, top_k: int, batch_size: int = 7
) -> tuple[Tensor, TopEffects]:
    """Return the neurons that are not certified (or the first, where all are), surveyed once more around the mean."""
    result = statistics.result(top_k)
    rows = (~result.certified).nonzero()[:, 0]
    rows = rows if len(rows) else torch.tensor([0])
    again = LargestEffects(statistics.root[rows], statistics.capacity, reference=result.mean[rows].float())
    feed(again, coefficients[rows], torch.arange(coefficients.shape[1]).split(batch_size))
    return rows, again.result(top_k)


def assert_exact(result: TopEffects, exact: BruteForce, root: Tensor, neurons: Tensor | None = None) -> None:
    """The certified ones of some neurons (default: all) have the true top, and every neuron the true mean.

    Tolerances: sums of a few float64 terms, relative to the largest norm, whose cancellation they share.
    """
    rows = torch.arange(len(exact.mean)) if neurons is None else neurons
    mean, norms = exact.mean[rows], exact.norms[rows]
    torch.testing.assert_close(result.mean, mean, rtol=1e-14, atol=1e-14 * float(mean.abs().max()))
    top_k = result.positions.shape[1]
    certified = result.certified
    assert torch.equal(result.positions[certified], exact.order[rows][certified, :top_k]), "a wrong top is certified"
    scale = norms.amax(dim=1, keepdim=True)
    torch.testing.assert_close(result.norms / scale, norms.gather(1, result.positions) / scale, **FLOAT64)
    torch.testing.assert_close(result.rows.norm(dim=2) / scale, result.norms / scale, **FLOAT64)
    rows_again = torch.bmm(result.centred, root[rows].double())
    torch.testing.assert_close(result.rows / scale[:, :, None], rows_again / scale[:, :, None], **FLOAT64)
    # Squares of float32 norms, each within 2^-23 (paths + 4) of the sizes that are multiplied, summed in float64.
    error = 1e-5 * (norms.amax(dim=1).square() + mean.abs().amax(dim=1).square() * root[rows].norm(dim=(1, 2)).square())
    assert bool(((result.variance - exact.variance[rows]).abs() <= error).all()), (
        "the variance is not that of all images"
    )
