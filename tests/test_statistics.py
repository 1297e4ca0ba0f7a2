"""The laws of the mergeable statistics, their proof, and rank one against a plain singular value decomposition."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from secondlens.effects.histogram import BINS, NormHistogram, edges, share_above
from secondlens.effects.rank_one import RankOne, rank_one
from secondlens.effects.statistics import EffectStatistics
from secondlens.effects.top import TopEffects
from secondlens.errors import SecondLensError

NEURONS, PATHS = 5, 4


def data(images: int, seed: int = 0, offset: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Coefficients [neuron, image, path] with a few large images, and a root a neuron."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.rand(1, images, 1, generator=generator) ** 4 * 5 + 0.1
    coefficients = torch.randn(NEURONS, images, PATHS, generator=generator) * sizes + offset
    return coefficients, torch.randn(NEURONS, PATHS, PATHS, generator=generator)


def oracle(coefficients: torch.Tensor, root: torch.Tensor, top: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(mean, top norms, their positions) from everything at once, in float64."""
    wide = coefficients.double()
    mean = wide.mean(dim=1)
    norms = torch.bmm(wide - mean[:, None], root.double()).norm(dim=2)
    ordered = norms.sort(dim=1, descending=True, stable=True)
    return mean, ordered.values[:, :top], ordered.indices[:, :top]


def run(coefficients: torch.Tensor, root: torch.Tensor, candidates: int, sizes: list[int]) -> EffectStatistics:
    statistics, start = EffectStatistics(root, candidates), 0
    for size in sizes:
        positions = torch.arange(start, min(start + size, coefficients.shape[1]))
        statistics.update(coefficients[:, positions], positions)
        start += size
    return statistics


def finish(statistics: EffectStatistics, coefficients: torch.Tensor, top: int) -> TopEffects:
    """The result with the second pass that it asks for."""
    found = statistics.result(top)
    rows = (~found.proved).nonzero()[:, 0]
    if not len(rows):
        return found
    again = EffectStatistics(statistics.root[rows], top, complete=True)
    again.load_state_dict(statistics.second_pass(rows, top).state_dict())
    positions = torch.arange(coefficients.shape[1]) if found.ambiguous is None else found.ambiguous
    for some in positions.split(7):
        again.update(coefficients[rows][:, some], some)
    better = again.result(top)
    found.norms[rows], found.positions[rows] = better.norms, better.positions
    return found


def same(found: TopEffects, expected: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    mean, norms, positions = expected
    torch.testing.assert_close(found.mean, mean, rtol=1e-6, atol=1e-7)
    # Candidates are float32, their norms float64.
    torch.testing.assert_close(found.norms, norms, rtol=1e-6, atol=1e-7)
    assert torch.equal(found.positions, positions)


@settings(max_examples=60, deadline=None)
@given(
    images=st.integers(8, 60),
    top=st.integers(1, 6),
    factor=st.integers(1, 4),
    size=st.integers(1, 60),
    offset=st.sampled_from([0.0, 3.0]),
    seed=st.integers(0, 10_000),
)
def test_one_pass_and_its_second_look_are_exact(
    images: int, top: int, factor: int, size: int, offset: float, seed: int
) -> None:
    coefficients, root = data(images, seed, offset)
    statistics = run(coefficients, root, min(images, factor * top), [size] * (images // size + 1))
    same(finish(statistics, coefficients, top), oracle(coefficients, root, top))


@settings(max_examples=40, deadline=None)
@given(
    cut=st.integers(0, 50),
    more=st.integers(0, 50),
    seed=st.integers(0, 10_000),
    candidates=st.integers(4, 30),
)
def test_merging_equals_one_pass(cut: int, more: int, seed: int, candidates: int) -> None:
    coefficients, root = data(50, seed)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(seed))
    cuts = sorted((cut, more))
    parts = []
    for positions in (order[: cuts[0]], order[cuts[0] : cuts[1]], order[cuts[1] :]):
        part = EffectStatistics(root, candidates)
        part.update(coefficients[:, positions], positions)
        parts.append(part)
    untouched = parts[1].state_dict()
    merged = parts[0]
    merged.merge(parts[1])
    merged.merge(parts[2])
    for name, tensor in parts[1].state_dict().items():
        assert torch.equal(tensor, untouched[name]), f"merge changed its argument's {name}"
    assert merged.count == 50
    assert int(merged.histogram.counts.sum()) == (0 if merged.filling else 50 * NEURONS)
    found = finish(merged, coefficients, 4)
    same(found, oracle(coefficients, root, 4))
    mean = coefficients.double().mean(dim=1, keepdim=True)
    variance = torch.bmm(coefficients.double() - mean, root.double()).square().sum(dim=2).mean(dim=1)
    torch.testing.assert_close(found.variance, variance, rtol=1e-5, atol=1e-9)


def test_what_is_not_proved_is_not_claimed() -> None:
    """An adversarial order: the first images lie far from the rest, so the reference is a poor guess of the mean."""
    coefficients, root = data(200)
    coefficients[:, :10] += 30
    statistics = run(coefficients, root, 10, [10] * 20)
    found = statistics.result(5)
    assert not bool(found.proved.all())
    same(finish(statistics, coefficients, 5), oracle(coefficients, root, 5))


def test_state_goes_on_bit_by_bit() -> None:
    coefficients, root = data(60)
    whole = run(coefficients, root, 12, [7] * 9)
    for stop in (1, 3, 8):
        first = run(coefficients[:, : stop * 7], root, 12, [7] * stop)
        again = EffectStatistics(root, 12)
        again.load_state_dict(first.state_dict())
        for start in range(stop * 7, 60, 7):
            positions = torch.arange(start, min(start + 7, 60))
            again.update(coefficients[:, positions], positions)
        ours, theirs = again.state_dict(), whole.state_dict()
        for name, tensor in theirs.items():
            assert torch.equal(tensor, ours[name]), name


def test_ties_go_by_position() -> None:
    coefficients, root = data(12)
    coefficients[:] = torch.where(torch.arange(12)[None, :, None] % 2 == 0, 1.0, -1.0)
    found = run(coefficients, root, 12, [5, 5, 5]).result(6)
    assert torch.equal(found.positions, torch.arange(6).expand(NEURONS, -1))


def test_errors() -> None:
    coefficients, root = data(5)
    statistics = run(coefficients, root, 4, [5])
    with pytest.raises(SecondLensError, match="asked for the 6 largest effects of 5 images"):
        statistics.result(6)
    with pytest.raises(SecondLensError, match="at least one candidate"):
        EffectStatistics(root, 0)
    with pytest.raises(SecondLensError, match="same neurons"):
        statistics.merge(EffectStatistics(root, 3))
    with pytest.raises(SecondLensError, match="held of shape"):
        EffectStatistics(root, 3).load_state_dict(statistics.state_dict())


@pytest.mark.parametrize("top", [3, 30])
def test_rank_one_equals_a_singular_value_decomposition(top: int) -> None:
    coefficients, root = data(40, seed=3)
    found = run(coefficients, root, 40, [40]).result(top)
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
        torch.testing.assert_close(ours.path_shares[neuron].sum(), torch.tensor(1.0, dtype=torch.float64))
        torch.testing.assert_close(found.centred[neuron] @ ours.along[neuron], x * sign)
        torch.testing.assert_close(ours.participation[neuron], s.square().sum() ** 2 / s.pow(4).sum())


def rank_one_of(values: list[float]) -> RankOne:
    """The decomposition of effects that lie on one line, at these places around the mean."""
    rows = torch.tensor(values, dtype=torch.float64)[None, :, None] * torch.tensor([0.6, -0.8], dtype=torch.float64)
    scalars, none = torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.bool)
    positions = torch.arange(len(values))[None]
    top = TopEffects(rows[:, 0] * 0, positions, rows.norm(dim=2), rows, rows, scalars, none, scalars, positions[0])
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
    found = rank_one(run(coefficients, root, 20, [20]).result(4), root)
    for tensor in (
        found.spectrum,
        found.components,
        found.projections,
        found.path_shares,
        found.participation,
    ):
        assert float(tensor[2].abs().max()) == 0
        assert bool(tensor.isfinite().all())


@given(st.lists(st.floats(1e-6, 10), min_size=1, max_size=50), st.floats(1e-5, 5))
@settings(deadline=None)
def test_histogram_counts_and_shares(norms: list[float], threshold: float) -> None:
    histogram = NormHistogram(1)
    values = torch.tensor(norms)[None]
    histogram.update(values)
    assert int(histogram.counts.sum()) == len(norms)
    share = float(share_above(histogram.counts, torch.tensor([threshold]))[0])
    # The threshold's own bin is all that is not known.
    bounds = edges()
    place = int(torch.searchsorted(bounds, torch.tensor(threshold, dtype=torch.float64)).clamp(1, BINS)) - 1
    low = float((values >= bounds[place + 1] * 1.001).float().mean())
    high = float((values >= bounds[place] * 0.999).float().mean())
    assert low - 1e-6 <= share <= high + 1e-6
