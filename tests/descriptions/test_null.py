"""p-values where the answer is known: signals made of texts, and signals made of nothing."""

import pytest
import torch
from scipy.stats import kstest
from torch.nn.functional import normalize

from secondlens.descriptions.null import cosines, null_cosines, p_values, random_directions
from secondlens.numerics.sparse.codes import SparseCodes, sparse_decompose

SIZES = [2, 4, 8]
TEXTS, EMBED, DRAWS = 300, 48, 199


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


POOL = normal(0, TEXTS, EMBED)


def decompose(signals: torch.Tensor) -> SparseCodes:
    return sparse_decompose(signals, POOL, max(SIZES))


def p(signals: torch.Tensor, kind: str, seed: int = 0) -> torch.Tensor:
    null = null_cosines(kind, DRAWS, signals, decompose, SIZES, seed)
    return p_values(cosines(decompose(signals), SIZES), null)


@pytest.mark.parametrize("kind", ["isotropic", "matched"])
def test_sums_of_few_texts_have_the_smallest_p_value(kind: str) -> None:
    atoms = decompose(POOL[:1]).dictionary.float()
    rows = torch.stack([torch.randperm(TEXTS, generator=torch.Generator().manual_seed(n))[:2] for n in range(200)])
    signals = (atoms[rows] * torch.tensor([[[1.0], [-0.8]]])).sum(dim=1)
    found = p(signals, kind)
    # Where greedy picks are the two texts themselves, nothing random comes near.
    exact = cosines(decompose(signals), SIZES)[:, 0] > 0.999
    assert exact.float().mean() > 0.5
    assert (found[exact] == 1 / (DRAWS + 1)).all()


def test_p_values_of_random_directions_are_uniform() -> None:
    found = p(normal(1, 400, EMBED), "isotropic", seed=2)
    for column in found.T:
        assert kstest(column.numpy(), "uniform").pvalue > 0.01
    # The same signals, each lengthened: an angle has no length.
    torch.testing.assert_close(p(3 * normal(1, 400, EMBED), "isotropic", seed=2), found)


def test_mixtures_of_the_layer_are_no_news_to_the_matched_null() -> None:
    layer = normal(3, 400, EMBED) * torch.logspace(0, -1.5, EMBED)
    mixtures = random_directions("matched", 300, layer, seed=5)
    null = null_cosines("matched", DRAWS, layer, decompose, SIZES, seed=6)
    for column in p_values(cosines(decompose(mixtures), SIZES), null).T:
        assert kstest(column.numpy(), "uniform").pvalue > 0.01


def test_the_matched_null_has_the_covariance_of_the_directions() -> None:
    layer = normal(3, 200, 12) * torch.logspace(0, -0.5, 12)
    mixing = normal(4, 200, 200)
    drawn = random_directions("matched", 20_000, layer, seed=1)
    torch.testing.assert_close(drawn.norm(dim=1), torch.ones(20_000))
    # By hand: normalised draws of the normal distribution with that covariance.
    covariance = (layer.T @ layer).double()
    root = torch.linalg.cholesky(covariance).float()
    expected = normalize(normal(7, 20_000, 12) @ root.T, dim=1)
    torch.testing.assert_close(drawn.T @ drawn / 20_000, expected.T @ expected / 20_000, rtol=0.05, atol=0.01)
    # Any rotation among the neurons leaves the layer's covariance, and so the null, as it is.
    rotated = torch.linalg.qr(mixing).Q @ layer
    again = random_directions("matched", 20_000, rotated, seed=1)
    torch.testing.assert_close(drawn.T @ drawn / 20_000, again.T @ again / 20_000, rtol=0.05, atol=0.01)


def test_isotropic_directions_ignore_the_layer() -> None:
    layer = normal(3, 20, 12)
    drawn = random_directions("isotropic", 20_000, layer, seed=1)
    assert torch.equal(drawn, random_directions("isotropic", 20_000, 5 * layer[:3], seed=1))
    assert not torch.equal(drawn, random_directions("isotropic", 20_000, layer, seed=2))
    torch.testing.assert_close(drawn.T @ drawn / 20_000, torch.eye(12) / 12, rtol=0, atol=0.01)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_cosines_are_those_of_the_reconstruction(scale: float) -> None:
    signals = normal(5, 30, EMBED) * scale
    signals[7] = 0
    codes = decompose(signals)
    found = cosines(codes, SIZES)
    for column, size in enumerate(SIZES):
        prefix = codes.prefix(size)
        atoms = prefix.dictionary[prefix.indices.clamp(min=0)]
        made = torch.einsum("sj,sje->se", prefix.coefficients.double(), atoms)
        expected = torch.cosine_similarity(made, signals.double(), dim=1, eps=1e-30)
        expected[7] = 0
        torch.testing.assert_close(found[:, column].double(), expected, rtol=1e-5, atol=1e-6)
    assert (found[7] == 0).all()
    assert (found.diff(dim=1) >= 0).all()


def test_p_values_by_hand() -> None:
    null = torch.tensor([[0.1, 0.5], [0.3, 0.5], [0.2, 0.5], [0.4, 0.9]])
    observed = torch.tensor([[0.25, 0.5], [0.4, 0.95], [0.0, 0.1], [0.41, 0.6]])
    expected = torch.tensor([[3, 5], [2, 1], [5, 5], [1, 2]]) / 5
    torch.testing.assert_close(p_values(observed, null), expected)
