"""Rank correlation and AUC against scipy and scikit-learn, and on neurons whose answer is known."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from secondlens.descriptions.dissect import dissect
from secondlens.numerics.agreement import auc, overlap, rank_correlation
from secondlens.numerics.intervals import bootstrap_interval


@pytest.fixture
def values() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    # Rounded, so that there are ties.
    return tuple((torch.randn(80, 12, generator=generator) * 3).round() for _ in range(2))  # type: ignore[return-value]


def test_rank_correlation_is_spearmans(values: tuple[torch.Tensor, torch.Tensor]) -> None:
    predicted, true = values
    expected = [spearmanr(predicted[:, n], true[:, n]).statistic for n in range(12)]
    np.testing.assert_allclose(rank_correlation(predicted, true), expected, atol=1e-6)


def test_auc_is_sklearns(values: tuple[torch.Tensor, torch.Tensor]) -> None:
    predicted, true = values
    threshold = torch.full((12,), 2.0)
    expected = [roc_auc_score(true[:, n] >= 2, predicted[:, n]) for n in range(12)]
    np.testing.assert_allclose(auc(predicted, true, threshold), expected, atol=1e-6)


def test_known_answers() -> None:
    true = torch.arange(50.0)[:, None].repeat(1, 3)
    predicted = torch.stack([true[:, 0] ** 3, -true[:, 0], torch.ones(50)], dim=1)
    assert rank_correlation(predicted, true).tolist() == pytest.approx([1, -1, 0])
    assert auc(predicted, true, torch.full((3,), 40.0)).tolist() == [1, 0, 0.5]
    assert auc(predicted, true, torch.full((3,), 48.0)).isnan().all()
    assert overlap([1, 2, 3, 4], [4, 3, 9]) == 0.5
    assert np.isnan(overlap([], [1]))


def test_bootstrap_interval_covers() -> None:
    right = torch.arange(1000) < 800
    low, high = bootstrap_interval(right)
    # The normal approximation of a binomial proportion's interval.
    assert low == pytest.approx(0.8 - 1.96 * (0.16 / 1000) ** 0.5, abs=2e-3)
    assert high == pytest.approx(0.8 + 1.96 * (0.16 / 1000) ** 0.5, abs=2e-3)
    assert bootstrap_interval(torch.ones(10, dtype=torch.bool)) == (1, 1)


def test_dissect_finds_the_text_of_the_activating_images() -> None:
    generator = torch.Generator().manual_seed(0)
    texts = torch.nn.functional.normalize(torch.randn(300, 64, generator=generator), dim=1)
    topics = torch.randint(300, (600,), generator=generator)
    noise = torch.randn(600, 64, generator=generator)
    images = torch.nn.functional.normalize(texts[topics] + 0.05 * noise, dim=1)
    wanted = topics[:8]
    activations = (topics[:, None] == wanted[None]).float() + 0.01 * torch.rand(600, 8, generator=generator)
    best, score = dissect(activations, images, texts, top=2)
    assert best.tolist() == wanted.tolist()
    assert torch.isfinite(score).all()
