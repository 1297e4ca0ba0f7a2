"""Rank one against a plain singular value decomposition, and the sign of a direction."""

import pytest
import torch

from secondlens.numerics.largest import LargestEffects, TopEffects
from secondlens.numerics.rank_one import RankOne, rank_one

NEURONS, PATHS = 5, 4


def data(images: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Coefficients [neuron, image, path] with a few large images, and a root per neuron."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.rand(1, images, 1, generator=generator) ** 4 * 5 + 0.1
    coefficients = torch.randn(NEURONS, images, PATHS, generator=generator) * sizes
    return coefficients, torch.randn(NEURONS, PATHS, PATHS, generator=generator)


def top_of(coefficients: torch.Tensor, root: torch.Tensor, top: int) -> TopEffects:
    images = coefficients.shape[1]
    statistics = LargestEffects(root, images)
    statistics.update(coefficients, torch.arange(images))
    return statistics.result(top)


@pytest.mark.parametrize("top", [3, 30])
def test_rank_one_equals_a_singular_value_decomposition(top: int) -> None:
    coefficients, root = data(40, seed=3)
    found = top_of(coefficients, root, top)
    ours = rank_one(found, root)
    for neuron in range(NEURONS):
        rows = found.centred[neuron] @ root[neuron].double()
        _, s, vh = torch.linalg.svd(rows, full_matrices=False)
        x = rows @ vh[0]
        sign = 1.0 if x.sum() >= 0 else -1.0
        count = min(top, PATHS)
        torch.testing.assert_close(ours.spectrum[neuron], (s.square() / s.square().sum())[:count])
        torch.testing.assert_close(ours.projections[neuron], x * sign)
        # r = v_1 u with u u^T = R R^T: in the basis of R, r is v_1 R.
        torch.testing.assert_close(ours.components[neuron, 0] @ root[neuron].double(), vh[0] * sign)
        torch.testing.assert_close(ours.path_fractions[neuron].sum(), torch.tensor(1.0, dtype=torch.float64))
        torch.testing.assert_close(found.centred[neuron] @ ours.along[neuron], x * sign)
        torch.testing.assert_close(ours.participation[neuron], s.square().sum() ** 2 / s.pow(4).sum())


def rank_one_of(values: list[float]) -> RankOne:
    """The decomposition of effects that lie on one line, at these places around the mean."""
    rows = torch.tensor(values, dtype=torch.float64)[None, :, None] * torch.tensor([0.6, -0.8], dtype=torch.float64)
    scalars, none = torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.bool)
    positions = torch.arange(len(values))[None]
    top = TopEffects(rows[:, 0] * 0, positions, rows.norm(dim=2), rows, rows, scalars, none)
    return rank_one(top, torch.eye(2)[None])


@pytest.mark.parametrize("flipped", [1.0, -1.0])
def test_a_direction_has_the_sign_of_the_sum_of_projections(flipped: float) -> None:
    """A unit that is strongly active on few of its top images points to these, not where most images lie."""
    values = [5.0, -1.0, -1.0, -1.0]
    found = rank_one_of([flipped * value for value in values])
    torch.testing.assert_close(found.projections[0], torch.tensor(values, dtype=torch.float64))
    torch.testing.assert_close(found.components[0, 0], flipped * torch.tensor([0.6, -0.8], dtype=torch.float64))


def test_a_sum_of_exactly_zero_is_no_zero_direction() -> None:
    found = rank_one_of([1.0, -1.0])
    assert float(found.projections.sum()) == 0
    torch.testing.assert_close(found.projections[0].abs(), torch.ones(2, dtype=torch.float64))
    assert float(found.components[0, 0].norm()) == pytest.approx(1)


def test_a_dead_neuron_gets_zeros() -> None:
    coefficients, root = data(20)
    coefficients[2] = 0.25
    found = rank_one(top_of(coefficients, root, 4), root)
    for tensor in (
        found.spectrum,
        found.components,
        found.projections,
        found.path_fractions,
        found.participation,
    ):
        assert float(tensor[2].abs().max()) == 0
        assert bool(tensor.isfinite().all())
