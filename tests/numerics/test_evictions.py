"""Bounds of evicted norms: they hold around any point, also after folding, and the best pair is folded."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from secondlens.numerics.evictions import ENTRIES, Evictions
from secondlens.numerics.norms import PathNorms

NEURONS, PATHS = 4, 3
seeds = st.integers(0, 10_000)


def entries(count: int, seed: int) -> tuple[Tensor, Tensor, PathNorms]:
    """Bounds [neuron, entry], some zero, references [neuron, entry, path] of different distances, and norms."""
    generator = torch.Generator().manual_seed(seed)
    bounds = torch.rand(NEURONS, count, generator=generator, dtype=torch.float64) * 3
    bounds *= torch.rand(NEURONS, count, generator=generator) < 0.8
    scales = 10.0 ** torch.randint(-3, 2, (NEURONS, count, 1), generator=generator)
    references = torch.randn(NEURONS, count, PATHS, generator=generator) * scales
    return bounds, references, PathNorms(torch.randn(NEURONS, PATHS, PATHS, generator=generator))


def distance(norms: PathNorms, one: Tensor, other: Tensor) -> Tensor:
    """|(one - other) R| along the last axis; neurons first."""
    difference = (one.double() - other.double()).reshape(NEURONS, -1, PATHS)
    return torch.bmm(difference, norms.root.double()).norm(dim=2)


def test_no_eviction_is_a_bound_of_zero() -> None:
    evictions = Evictions(NEURONS, PATHS, torch.device("cpu"))
    norms = entries(1, 0)[2]
    assert evictions.bound_around(norms, torch.ones(NEURONS, PATHS)).tolist() == [0.0] * NEURONS


@settings(max_examples=60, deadline=None)
@given(count=st.integers(1, 2 * ENTRIES + 3), pieces=st.integers(1, 4), seed=seeds)
def test_bounds_hold_around_any_point_however_they_are_folded(count: int, pieces: int, seed: int) -> None:
    bounds, references, norms = entries(count, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    evictions = Evictions(NEURONS, PATHS, torch.device("cpu"))
    for some in torch.arange(count).tensor_split(pieces):
        mean = torch.randn(NEURONS, PATHS, generator=generator, dtype=torch.float64)
        evictions.add(bounds[:, some], references[:, some], norms, mean)
        assert evictions.bounds.shape[1] <= ENTRIES
    assert evictions.bounds.shape[1] == min(count, ENTRIES)
    # Images at the very bounds: in a random direction of the orthonormal basis, and back through R.
    directions = torch.nn.functional.normalize(torch.randn(NEURONS, count, PATHS, generator=generator).double(), dim=2)
    offsets = torch.linalg.solve(norms.root.double(), directions * bounds[:, :, None], left=False)
    images = references.double() + offsets
    bounded = torch.zeros(NEURONS, count, dtype=torch.bool)
    for entry in range(evictions.bounds.shape[1]):
        away = distance(norms, images, evictions.references[:, entry : entry + 1])
        bounded |= away <= evictions.bounds[:, entry : entry + 1] * (1 + 1e-9) + 1e-9
    assert bool(bounded.all())
    for point in torch.randn(5, NEURONS, PATHS, generator=generator, dtype=torch.float64) * 3:
        largest = distance(norms, images, point[:, None]).amax(dim=1)
        assert bool((evictions.bound_around(norms, point) >= largest * (1 - 1e-9) - 1e-9).all())


def test_one_neuron_alone_is_folded_as_among_others() -> None:
    bounds, references, norms = entries(ENTRIES + 3, 7)
    mean = torch.ones(NEURONS, PATHS, dtype=torch.float64)
    together = Evictions(NEURONS, PATHS, torch.device("cpu"))
    together.add(bounds, references, norms, mean)
    for neuron in range(NEURONS):
        alone, row = Evictions(1, PATHS, torch.device("cpu")), slice(neuron, neuron + 1)
        alone.add(bounds[row], references[row], PathNorms(norms.root[row]), mean[row])
        torch.testing.assert_close(alone.bounds, together.bounds[row], rtol=1e-12, atol=0)
        assert torch.equal(alone.references, together.references[row])


def test_a_bound_is_the_largest_of_the_entries_and_their_distances() -> None:
    bounds, references, norms = entries(5, 1)
    evictions = Evictions(NEURONS, PATHS, torch.device("cpu"))
    point = torch.ones(NEURONS, PATHS, dtype=torch.float64)
    evictions.add(bounds, references, norms, point)
    expected = (bounds + distance(norms, references, point[:, None])).amax(dim=1)
    torch.testing.assert_close(evictions.bound_around(norms, point), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("seed", range(12))
def test_the_pair_with_the_smallest_bound_around_the_mean_is_folded(seed: int) -> None:
    """Against all pairs, one neuron at a time."""
    bounds, references, norms = entries(ENTRIES + 1, seed)
    mean = torch.randn(NEURONS, PATHS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    evictions = Evictions(NEURONS, PATHS, torch.device("cpu"))
    evictions.add(bounds, references, norms, mean)
    to_mean = distance(norms, references, mean[:, None])
    for neuron in range(NEURONS):
        folded = {}
        for source in range(ENTRIES + 1):
            between = distance(norms, references, references[:, source : source + 1])[neuron]
            for target in range(ENTRIES + 1):
                if source != target:
                    bound = max(float(bounds[neuron, target]), float(bounds[neuron, source] + between[target]))
                    folded[source, target] = (bound + float(to_mean[neuron, target]), bound)
        source, target = min(folded, key=lambda pair: folded[pair][0])
        expected = {
            (round(float(bounds[neuron, entry]), 9), tuple(references[neuron, entry].tolist()))
            for entry in range(ENTRIES + 1)
            if entry not in (source, target)
        }
        expected.add((round(folded[source, target][1], 9), tuple(references[neuron, target].tolist())))
        kept = zip(evictions.bounds[neuron].tolist(), evictions.references[neuron].tolist(), strict=True)
        assert {(round(bound, 9), tuple(reference)) for bound, reference in kept} == expected
