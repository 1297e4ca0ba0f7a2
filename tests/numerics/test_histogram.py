"""Counts of norms on logarithmic bins, the fraction above a norm, and its inverse."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from secondlens.numerics.histogram import BINS, NormHistogram, edges, norm_above, share_above

norms_lists = st.lists(st.floats(1e-6, 10), min_size=1, max_size=50)


def counted(norms: list[float]) -> torch.Tensor:
    histogram = NormHistogram(1)
    histogram.update(torch.tensor(norms)[None])
    return histogram.counts


@given(norms_lists, st.floats(1e-5, 5))
@settings(deadline=None)
def test_counts_and_fractions(norms: list[float], threshold: float) -> None:
    counts, values = counted(norms), torch.tensor(norms)
    assert int(counts.sum()) == len(norms)
    fraction = float(share_above(counts, torch.tensor([threshold]))[0])
    # The threshold's own bin is all that is not known; 1e-3 for the rounding of float32 logarithms at its edges.
    bounds = edges()
    place = int(torch.searchsorted(bounds, torch.tensor(threshold, dtype=torch.float64)).clamp(1, BINS)) - 1
    low = float((values >= bounds[place + 1] * 1.001).float().mean())
    high = float((values >= bounds[place] * 0.999).float().mean())
    assert low - 1e-6 <= fraction <= high + 1e-6


@given(norms_lists, st.floats(0.01, 0.99))
@settings(deadline=None)
def test_the_norm_above_which_a_fraction_lies_is_the_inverse(norms: list[float], fraction: float) -> None:
    counts = counted(norms)
    norm = norm_above(counts, torch.tensor([fraction]))
    # Both are linear in the logarithm within a bin, in float64.
    torch.testing.assert_close(share_above(counts, norm), torch.tensor([fraction]).double(), rtol=1e-6, atol=1e-9)


def test_norms_lie_in_their_bins_and_extreme_ones_in_the_outermost() -> None:
    middles = (edges()[:-1] * edges()[1:]).sqrt()
    assert torch.equal(counted(middles.tolist())[0], torch.ones(BINS, dtype=torch.int32))
    counts = counted([0.0, 1e-30, 100.0, float("inf")])[0]
    assert (int(counts[0]), int(counts[-1]), int(counts.sum())) == (2, 2, 4)


@given(norms_lists, norms_lists)
@settings(deadline=None)
def test_merged_counts_are_those_of_all(first: list[float], second: list[float]) -> None:
    merged, other = NormHistogram(1), NormHistogram(1)
    merged.update(torch.tensor(first)[None])
    other.update(torch.tensor(second)[None])
    merged.merge(other)
    assert torch.equal(merged.counts, counted(first + second))
    assert torch.equal(other.counts, counted(second))


def test_a_neuron_without_images() -> None:
    counts = torch.zeros(1, BINS, dtype=torch.int32)
    assert share_above(counts, torch.tensor([1.0])).tolist() == [0.0]
    assert norm_above(counts, torch.tensor([0.5])).tolist() == [0.0]
