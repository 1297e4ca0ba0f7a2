"""Do a neuron's words predict on which images it acts? Rank correlation, ROC-AUC, and overlap of lists of words."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import rankdata
from torch import Tensor

FEWEST = 3
"""Images above the threshold that an AUC needs."""


def rank_correlation(
    predicted: Float[Tensor, "image neuron"], true: Float[Tensor, "image neuron"]
) -> Float[Tensor, " neuron"]:
    """Spearman's rho of each column, ties at their mean rank; 0 for a column that is constant."""
    left, right = (_ranks(values) for values in (predicted, true))
    left, right = left - left.mean(axis=0), right - right.mean(axis=0)
    scale = np.sqrt((left**2).sum(axis=0) * (right**2).sum(axis=0))
    return torch.from_numpy(np.where(scale > 0, (left * right).sum(axis=0) / np.where(scale > 0, scale, 1), 0)).float()


def auc(
    predicted: Float[Tensor, "image neuron"], true: Float[Tensor, "image neuron"], threshold: Float[Tensor, " neuron"]
) -> Float[Tensor, " neuron"]:
    """Chance that an image with true >= threshold is predicted above one without, ties counting half (Mann-Whitney).

    NaN where fewer than `FEWEST` images are on either side.
    """
    ranks = _ranks(predicted)
    positive = (true >= threshold).cpu().numpy()
    number = positive.sum(axis=0)
    others = len(positive) - number
    sums = (ranks * positive).sum(axis=0)
    usable = (number >= FEWEST) & (others >= FEWEST)
    pairs = np.where(usable, number * others, 1)
    return torch.from_numpy(np.where(usable, (sums - number * (number + 1) / 2) / pairs, np.nan)).float()


def overlap(first: Sequence[int], second: Sequence[int]) -> float:
    """Share of the first list that is in the second; NaN for an empty list."""
    return len(set(first) & set(second)) / len(first) if len(first) else float("nan")


def _ranks(values: Tensor) -> np.ndarray:
    return rankdata(values.cpu().double().numpy(), axis=0)
