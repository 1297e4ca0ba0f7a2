"""Intervals for accuracies."""

import numpy as np
from jaxtyping import Bool
from torch import Tensor


def bootstrap_interval(right: Bool[Tensor, " image"], draws: int = 2000, seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile interval of an accuracy over resampled images: binomial draws, as each is right or wrong."""
    values = right.double().cpu().numpy()
    sampled = np.random.default_rng(seed).binomial(len(values), values.mean(), draws) / len(values)
    low, high = np.quantile(sampled, [0.025, 0.975])
    return float(low), float(high)
