"""Intervals for accuracies and other metrics, and paired tests over the same images.

Every figure here is a function of sums over images (of counts, of average precisions, of their number), so a resampled
set is a vector of weights, and a set with two methods swapped on some images is a vector of signs:

    bootstrap:   f(sum_i w_i x_i),                    w multinomial
    sign flips:  f(S/2 + F/2) - f(S/2 - F/2),         S = sum_i (a_i + b_i),  F = sum_i e_i (a_i - b_i),  e_i = +-1

Under the null hypothesis the two methods are exchangeable on each image; the p-value is the share of flips, the
identity among them, whose difference is at least as large as the observed one in size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Shaped
from scipy.stats import binomtest
from torch import Tensor


def bootstrap_interval(right: Bool[Tensor, " image"], draws: int = 2000, seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile interval of an accuracy over resampled images: binomial draws, as each is right or wrong."""
    values = right.double().cpu().numpy()
    sampled = np.random.default_rng(seed).binomial(len(values), values.mean(), draws) / len(values)
    low, high = np.quantile(sampled, [0.025, 0.975])
    return float(low), float(high)


@dataclass(frozen=True)
class PairedDifference:
    """An accuracy less another one's over the same images. low, high: 95 % paired bootstrap. p_value: exact McNemar.

    lost: images right before and wrong after; gained: the other way round.
    """

    difference: float
    low: float
    high: float
    lost: int
    gained: int
    p_value: float


def paired_difference(
    before: Bool[Tensor, " image"], after: Bool[Tensor, " image"], draws: int = 2000, seed: int = 0
) -> PairedDifference:
    """Compare two sets of answers to the same images.

    The bootstrap resamples images with both their answers: multinomial draws of (lost, gained, neither). McNemar's
    test, in its exact form: of the lost + gained images each is as likely lost as gained, p two-sided.
    """
    images = len(before)
    lost, gained = int((before & ~after).sum()), int((~before & after).sum())
    shares = [lost / images, gained / images, (images - lost - gained) / images]
    sampled = np.random.default_rng(seed).multinomial(images, shares, draws)
    low, high = np.quantile((sampled[:, 1] - sampled[:, 0]) / images, [0.025, 0.975])
    p_value = float(binomtest(lost, lost + gained).pvalue) if lost + gained else 1.0
    return PairedDifference((gained - lost) / images, float(low), float(high), lost, gained, p_value)


DRAWS = 2000
FLIPS = 9999
BLOCK = 1000

Statistic = Callable[[Float[np.ndarray, "draw part"]], Float[np.ndarray, " draw"]]


def interval(values: Float[np.ndarray, " draw"]) -> tuple[float, float]:
    """The 95 % percentile interval of resampled figures; NaN where all are undefined."""
    if np.isnan(values).all():
        return float("nan"), float("nan")
    low, high = np.nanquantile(values, [0.025, 0.975])
    return float(low), float(high)


def resamples(images: int, draws: int = DRAWS, seed: int = 0) -> Float[np.ndarray, "draw image"]:
    """How often each image is drawn in each resampled set; the same for every method of the same images: paired."""
    return np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=draws).astype(np.float64)


def bootstrap(
    parts: Shaped[np.ndarray, "image part"], statistic: Statistic, weights: Float[np.ndarray, "draw image"]
) -> Float[np.ndarray, " draw"]:
    """The figure on each resampled set."""
    return statistic(weights @ parts.astype(np.float64))


def sign_flip_test(
    first: Shaped[np.ndarray, "image part"],
    second: Shaped[np.ndarray, "image part"],
    statistic: Statistic,
    flips: int = FLIPS,
    seed: int = 0,
) -> tuple[float, float]:
    """Difference first - second of a figure, and its two-sided p-value under swaps of the two on single images."""
    a, b = first.astype(np.float64), second.astype(np.float64)
    rng = np.random.default_rng(seed)
    # Blocks of flips: all of them over many images would be gigabytes.
    signs = (rng.integers(0, 2, (min(BLOCK, flips - start), len(a))) * 2.0 - 1 for start in range(0, flips, BLOCK))
    flipped = np.concatenate([part @ (a - b) / 2 for part in (np.ones((1, len(a))), *signs)])
    half = (a + b).sum(axis=0) / 2
    differences = statistic(half + flipped) - statistic(half - flipped)
    observed = differences[0]
    # The slack lets flips that are equal up to the order of summation count as equal: at ties p is not too small.
    extreme = np.count_nonzero(np.abs(differences) >= abs(observed) - 1e-12)
    return float(observed), extreme / (flips + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the given order: those below 0.05 hold together at that level."""
    values = np.asarray(p_values, np.float64)
    order = np.argsort(values, kind="stable")
    stepped = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted.tolist()
