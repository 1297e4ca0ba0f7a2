"""Senses of words whose groups are known, and the figures against scikit-learn and hand computations."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from secondlens.descriptions.senses import (
    effective_directions,
    find_senses,
    group,
    image_senses,
    mean_silhouette,
    silhouette_floor,
)

EMBED = 256


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def planted(groups: list[int], seed: int = 0, noise: float = 0.3) -> tuple[torch.Tensor, torch.Tensor]:
    """A pool whose first texts are near-parallel within a group, with 300 unrelated ones behind; and their groups."""
    centres = normalize(normal(seed, len(groups), EMBED), dim=1)
    which = torch.repeat_interleave(torch.arange(len(groups)), torch.tensor(groups))
    near = centres[which] + noise * normalize(normal(seed + 1, len(which), EMBED), dim=1)
    return normalize(torch.cat([near, normal(seed + 2, 300, EMBED)]), dim=1), which


@pytest.mark.parametrize("sizes", [[7, 5], [8, 6, 4], [7, 6, 5, 4], [3, 3, 3, 3, 3, 3]])
def test_planted_groups_are_found_again(sizes: list[int]) -> None:
    atoms, which = planted(sizes)
    count = len(which)
    # The words come in any order, and the places behind the last one are empty.
    order = torch.randperm(count, generator=torch.Generator().manual_seed(3))
    indices = torch.full((1, 24), -1)
    indices[0, :count] = order
    coefficients = torch.zeros(1, 24)
    coefficients[0, :count] = 1.0
    shares = coefficients / count
    found = find_senses(indices, coefficients, shares, atoms)
    assert found.count.tolist() == [len(sizes)]
    # Groups are planted in falling size, and all words weigh the same: the senses are the groups (ties aside).
    if len(set(sizes)) == len(sizes):
        assert torch.equal(found.sense[0, :count], which[order])
    pairs = found.sense[0, :count, None] == found.sense[0, None, :count]
    assert torch.equal(pairs, which[order][:, None] == which[order][None])
    assert (found.sense[0, count:] == -1).all()
    assert 0.8 < float(found.silhouette) <= 1
    assert float(found.polysemy) == pytest.approx(
        count**2 / sum(size**2 for size in sizes), rel=0.25
    )  # near-parallel within a group, near-orthogonal between


def test_senses_go_by_share_not_by_number_of_words() -> None:
    atoms, which = planted([7, 5])
    shares = torch.where(which == 1, 0.15, 0.25 / 7)[None]
    found = find_senses(torch.arange(12)[None], torch.ones(1, 12), shares, atoms)
    assert torch.equal(found.sense[0], 1 - which)


def test_orthogonal_words_have_one_sense() -> None:
    atoms = torch.eye(EMBED)
    with np.errstate(all="raise"):
        found = find_senses(torch.arange(24)[None], torch.ones(1, 24), torch.full((1, 24), 1 / 24), atoms)
    assert found.count.tolist() == [1]
    assert (found.sense == 0).all()
    assert float(found.silhouette) == 0
    assert float(found.polysemy) == pytest.approx(24)


def test_unrelated_words_of_the_pool_rarely_have_senses() -> None:
    atoms, _ = planted([1])
    generator = torch.Generator().manual_seed(5)
    indices = torch.stack([torch.randperm(300, generator=generator)[:24] for _ in range(100)])
    found = find_senses(indices, torch.ones(100, 24), torch.full((100, 24), 1 / 24), atoms)
    # By the 95 % quantile of random words about five of a hundred do.
    assert (found.count > 1).sum() <= 14
    assert ((found.silhouette == 0) == (found.count == 1)).all()


def test_signs_matter() -> None:
    """Words near +a and near -a are one sense if the latter are written against, two if all are written for."""
    atoms, which = planted([6, 6])
    atoms[:12] = normalize(normal(0, 1, EMBED), dim=1) + 0.3 * normalize(normal(9, 12, EMBED), dim=1)
    atoms[6:12] *= -1
    atoms = normalize(atoms, dim=1)
    signs = torch.where(which == 0, 1.0, -1.0)
    coefficients = torch.stack([signs, torch.ones(12)])
    found = find_senses(torch.arange(12).expand(2, -1), coefficients, torch.full((2, 12), 1 / 12), atoms)
    assert found.count.tolist() == [1, 2]
    assert torch.equal(found.sense[1] == found.sense[1, 0], which == 0)
    # Directions have no sign to the polysemy: "not winter" is not a second meaning of "winter".
    assert found.polysemy[0] == pytest.approx(float(found.polysemy[1]), rel=1e-5)
    assert found.polysemy[0] < 1.5


def test_few_words_and_none() -> None:
    atoms, _ = planted([4, 4])
    indices = torch.tensor([[0, 4, -1], [0, -1, -1], [-1, -1, -1]])
    coefficients = (indices >= 0).float()
    found = find_senses(indices, coefficients, coefficients / 2, atoms)
    assert found.sense.tolist() == [[0, 0, -1], [0, -1, -1], [-1, -1, -1]]
    assert found.count.tolist() == [1, 1, 0]
    assert found.polysemy.tolist() == pytest.approx([2, 1, 0], abs=0.1)


@pytest.mark.parametrize("seed", range(5))
def test_the_silhouette_is_scikit_learns(seed: int) -> None:
    silhouette_score = pytest.importorskip("sklearn.metrics").silhouette_score
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(14, 5))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    distances = np.clip(1 - vectors @ vectors.T, 0, 2)
    np.fill_diagonal(distances, 0)
    for groups in (rng.permutation(np.arange(14) % 3), np.arange(14) % 2, np.array([0, 1] + [2] * 12)):
        expected = silhouette_score(distances, groups, metric="precomputed")
        assert mean_silhouette(distances, groups) == pytest.approx(expected, abs=1e-12)
    groups, height = group(vectors, -np.inf)
    assert height == pytest.approx(silhouette_score(distances, groups, metric="precomputed"), abs=1e-12)


@pytest.mark.parametrize("vectors", [np.eye(8), np.tile(np.eye(8)[:1], (8, 1)), np.eye(8)[[0, 0, 0, 1, 1, 1]]])
def test_ties_are_no_trouble(vectors: np.ndarray) -> None:
    with np.errstate(all="raise"):
        groups, height = group(vectors, 0.5)
    expected = [0, 0, 0, 1, 1, 1] if len(vectors) == 6 else [0] * 8
    assert len(set(zip(groups.tolist(), expected, strict=True))) == len(set(expected))
    assert height == (1 if len(vectors) == 6 else 0)


def test_polysemy_counts_directions() -> None:
    parallel, orthogonal = np.tile(np.eye(6)[:1], (5, 1)), np.eye(6)[:5]
    assert effective_directions(parallel, np.ones(5)) == pytest.approx(1)
    assert effective_directions(orthogonal, np.full(5, 0.2)) == pytest.approx(5)
    assert effective_directions(orthogonal * [[1], [-1], [1], [-1], [1]], np.ones(5)) == pytest.approx(5)
    assert effective_directions(orthogonal[[0, 0, 1]], np.array([1.0, 1.0, 2.0])) == pytest.approx(2)
    assert effective_directions(orthogonal, np.array([1.0, 0, 0, 0, 0])) == pytest.approx(1)
    assert effective_directions(orthogonal, np.zeros(5)) == 0


def test_the_floor_is_the_same_for_the_same_seed_and_a_small_pool_will_do() -> None:
    atoms, _ = planted([5, 5])
    assert silhouette_floor(atoms, 24, 0) == silhouette_floor(atoms, 24, 0) < 0.3
    assert silhouette_floor(atoms[:2], 24, 0) == 0


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_images_go_to_the_sense_whose_words_they_show(sign: float) -> None:
    atoms, which = planted([6, 6, 6], noise=0.2)
    coefficients = torch.where(torch.arange(18) % 4 == 3, -0.5, 1.0)
    # Words that are written against point away from what the neuron writes.
    atoms = atoms.clone()
    atoms[:18] *= coefficients.sign()[:, None]
    place = torch.tensor([0, 2, 1, 1, 0])
    made = torch.stack([(atoms[:18] * coefficients[:, None])[which == one].sum(dim=0) for one in place.tolist()])
    found = image_senses(
        which.expand(2, -1),
        torch.arange(18).expand(2, -1),
        coefficients.expand(2, -1),
        atoms,
        (sign * made + 0.05 * normal(3, 5, EMBED)).expand(2, -1, -1),
        torch.full((2, 5), sign * 0.7),
    )
    assert found.tolist() == [place.tolist()] * 2


def test_images_only_go_to_senses_that_are_there() -> None:
    atoms, which = planted([4, 4])
    senses = torch.stack([which, torch.zeros(8, dtype=torch.int64), torch.full((8,), -1)])
    indices = torch.arange(8).repeat(3, 1)
    indices[2] = -1
    images = -atoms[[0, 7]].expand(3, -1, -1)
    found = image_senses(senses, indices, torch.ones(3, 8), atoms, images, torch.ones(3, 2))
    assert found[1:].tolist() == [[0, 0], [-1, -1]]
    none = image_senses(senses[2:], indices[2:], torch.ones(1, 8), atoms, images[2:], torch.ones(1, 2))
    assert none.tolist() == [[-1, -1]]
