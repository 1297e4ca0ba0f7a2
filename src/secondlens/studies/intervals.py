"""Intervals for accuracies, and tests of whether a change to a model changes its accuracy."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool
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
