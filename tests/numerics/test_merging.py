"""Parts of the images, merged: the bits of one pass for certified neurons, whatever the parts and their order."""

import pytest
import torch
from brute_force import assert_exact, brute_force, feed, second_pass
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import assert_equal_states, assert_same, assert_valid
from streams import KINDS, NEURONS, cut, spans, stream
from torch import Tensor

from secondlens.numerics.largest import LargestEffects

kinds = st.sampled_from(KINDS)
cuts = st.lists(st.integers(0, 16), max_size=5)
seeds = st.integers(0, 10_000)
IMAGES, BATCH = 80, 5


def parts_of(coefficients: Tensor, root: Tensor, capacity: int, order: Tensor, cuts: list[int]) -> list[LargestEffects]:
    """Statistics of the images in some order, in parts of whole batches that are cut at some batches."""
    batches = order.split(BATCH)
    return [
        feed(LargestEffects(root, capacity), coefficients, batches[span.start : span.stop])
        for span in spans(len(batches), cuts)
    ]


def in_a_line(parts: list[LargestEffects], root: Tensor, capacity: int) -> LargestEffects:
    """All parts merged one after the other into an empty one."""
    merged = LargestEffects(root, capacity)
    for part in parts:
        merged.merge(part)
    return merged


def as_a_tree(parts: list[LargestEffects], root: Tensor, capacity: int) -> LargestEffects:
    """Each half merged by itself."""
    if len(parts) < 2:
        return in_a_line(parts, root, capacity)
    half = len(parts) // 2
    merged = as_a_tree(parts[:half], root, capacity)
    merged.merge(as_a_tree(parts[half:], root, capacity))
    return merged


@settings(max_examples=60, deadline=None)
@given(kind=kinds, top_k=st.integers(1, 6), more=st.sampled_from([0, 1, 4, 20]), cuts=cuts, seed=seeds)
def test_parts_in_any_order_give_the_bits_of_one_pass(
    kind: str, top_k: int, more: int, cuts: list[int], seed: int
) -> None:
    """Unequal parts; empty ones, and ones below the capacity; evictions before and during the merges; ties."""
    capacity = top_k + more
    coefficients, root = stream(kind, IMAGES, seed=seed)
    order = torch.randperm(IMAGES, generator=torch.Generator().manual_seed(seed))
    exact = brute_force(coefficients, root)
    expected = feed(LargestEffects(root, capacity), coefficients, order.split(BATCH)).result(top_k)
    for merge in (in_a_line, as_a_tree):
        for direction in (1, -1):
            parts = parts_of(coefficients, root, capacity, order, cuts)[::direction]
            before = [part.state_dict() for part in parts]
            merged = merge(parts, root, capacity)
            for part, state in zip(parts, before, strict=True):
                for name, tensor in part.state_dict().items():
                    assert merge is as_a_tree or torch.equal(tensor, state[name]), f"a merge changed a part's {name}"
            result = merged.result(top_k)
            assert_exact(result, exact, root)
            assert_same(result, expected)
            assert_valid(merged.state_dict(), coefficients, root, capacity)
    rows, again = second_pass(merged, coefficients, top_k)
    assert_exact(again, exact, root, rows)


@settings(max_examples=60, deadline=None)
@given(kind=kinds, capacity=st.integers(1, 30), first=st.integers(0, 8), stop=st.integers(0, 40), seed=seeds)
def test_a_merged_part_goes_on_and_resumes(kind: str, capacity: int, first: int, stop: int, seed: int) -> None:
    coefficients, root = stream(kind, IMAGES, seed=seed)
    merged = in_a_line(parts_of(coefficients, root, capacity, torch.arange(40), [first]), root, capacity)
    batches = cut(torch.arange(40, IMAGES), [7, 3])
    feed(merged, coefficients, batches[:stop])
    resumed = LargestEffects(root, capacity)
    resumed.load_state_dict(merged.state_dict())
    for statistics in (merged, resumed):
        feed(statistics, coefficients, batches[stop:])
    assert_equal_states(resumed, merged)
    assert_valid(merged.state_dict(), coefficients, root, capacity)
    assert_exact(merged.result(1), brute_force(coefficients, root), root)


@pytest.mark.parametrize("cuts", [[], [6], [1, 8, 9]])
@pytest.mark.parametrize("kind", KINDS)
def test_a_second_pass_in_parts_gives_the_bits_of_one(kind: str, cuts: list[int]) -> None:
    coefficients, root = stream(kind, IMAGES)
    mean = coefficients.double().mean(dim=1).float()
    order = torch.randperm(IMAGES, generator=torch.Generator().manual_seed(3))
    batches = order.split(BATCH)
    whole = feed(LargestEffects(root, 12, reference=mean), coefficients, batches)
    merged = LargestEffects(root, 12, reference=mean)
    for span in spans(len(batches), cuts):
        part = feed(LargestEffects(root, 12, reference=mean), coefficients, batches[span.start : span.stop])
        merged.merge(part)
    assert torch.equal(merged.result(6).certified, whole.result(6).certified)
    assert_same(merged.result(6), whole.result(6))
    assert_exact(merged.result(6), brute_force(coefficients, root), root)
    # The reference is fixed, so that the histogram does not depend on the parts.
    assert torch.equal(merged.histogram.counts, whole.histogram.counts)


def test_merging_with_nothing_changes_nothing() -> None:
    coefficients, root = stream("gaussian", 50)
    statistics = feed(LargestEffects(root, 8), coefficients, torch.arange(50).split(6))
    before = statistics.state_dict()
    statistics.merge(LargestEffects(root, 8))
    other = LargestEffects(root, 8)
    other.merge(statistics)
    for merged in (statistics, other):
        for name, tensor in merged.state_dict().items():
            assert torch.equal(tensor, before[name]), name


def test_duplicates_across_parts_and_at_the_boundary_of_the_top() -> None:
    """Four images twelve times each, dealt to three parts: tops end among equal images, the lower positions first."""
    images, capacity = 48, 26
    values = torch.randn(NEURONS, 4, 4, generator=torch.Generator().manual_seed(1))
    coefficients = values[:, torch.arange(images) % 4]
    root = torch.randn(NEURONS, 4, 4, generator=torch.Generator().manual_seed(2))
    exact = brute_force(coefficients, root)
    parts = parts_of(coefficients, root, capacity, torch.arange(images).reshape(16, 3).T.flatten(), [3, 6])
    merged = in_a_line(parts, root, capacity)
    for top_k in (5, 12, 18):
        result = merged.result(top_k)
        # The two largest of the four images fill 24 slots of the 26.
        assert bool(result.certified.all())
        assert_exact(result, exact, root)


def test_eight_parts_certify_nearly_every_neuron() -> None:
    """Isotropic coefficients, the worst case; around the first part's reference hardly any would be."""
    generator = torch.Generator().manual_seed(0)
    coefficients = torch.randn(12, 4000, 24, generator=generator)
    root = torch.eye(24).expand(12, -1, -1)
    parts = [feed(LargestEffects(root, 50), coefficients, span.split(32)) for span in torch.arange(4000).split(500)]
    merged = in_a_line(parts, root, 50)
    assert_valid(merged.state_dict(), coefficients, root, 50)
    result = merged.result(25)
    assert bool(result.certified.all())
    assert_exact(result, brute_force(coefficients, root), root)


def line(values: list[float], batches: list[int], capacity: int) -> LargestEffects:
    """Statistics of one neuron with one path, R = 1: an image is a number, its norm the distance from the mean."""
    coefficients = torch.tensor(values)[None, :, None]
    return feed(LargestEffects(torch.ones(1, 1, 1), capacity), coefficients, torch.arange(len(values)).split(batches))


FAR = [9.0, 11.0, 13.0, 7.0, 12.5]
"""Around the mean of the first four, 10, the image 11 is among the smallest, and is evicted with a bound of 1."""

NEAR = [value / 10 for value in range(-10, 10)]
"""Twenty images around 0; with them the mean is 2.08, and 11 the third largest, at 8.92."""


def near_part() -> dict[str, Tensor]:
    """The state of the second part, whose positions follow those of the first."""
    part = LargestEffects(torch.ones(1, 1, 1), 4)
    part.update(torch.tensor(NEAR)[None, :, None], torch.arange(5, 25))
    return part.state_dict()


@pytest.mark.parametrize("far_first", [True, False])
def test_an_eviction_carried_through_a_merge_refuses_a_wrong_top(far_first: bool) -> None:
    far = line(FAR, [4, 1], 4).state_dict()
    assert 1 not in far["positions"]
    # Without what the part evicted, images 2, 4, 0 would be certified.
    forgetful = {**far, "evictions.bounds": far["evictions.bounds"][:, :0]}
    forgetful["evictions.references"] = far["evictions.references"][:, :0]
    for state, certified in ((far, False), (forgetful, True)):
        merged = LargestEffects(torch.ones(1, 1, 1), 4)
        for part in (state, near_part()) if far_first else (near_part(), state):
            merged.merge_state(part)
        result = merged.result(3)
        assert result.positions.tolist() == [[2, 4, 0]]
        assert result.certified.tolist() == [certified]
    coefficients = torch.tensor(FAR + NEAR)[None, :, None]
    _, again = second_pass(merged := _merged(far, near_part()), coefficients, 3)
    assert merged.result(3).certified.tolist() == [False]
    assert again.positions.tolist() == [[2, 4, 1]]
    assert again.certified.tolist() == [True]


def _merged(*states: dict[str, Tensor]) -> LargestEffects:
    merged = LargestEffects(torch.ones(1, 1, 1), 4)
    for state in states:
        merged.merge_state(state)
    return merged


@pytest.mark.parametrize("far_first", [True, False])
def test_a_certificate_rests_on_an_eviction_carried_through_a_merge(far_first: bool) -> None:
    """The two largest, 10.92 and 10.42, exceed 1 + |10 - 2.08|, the bound of the first part's eviction, by 1.5."""
    for more, certified in ((0.0, True), (1.49, True), (1.51, False)):
        far = line(FAR, [4, 1], 4).state_dict()
        far["evictions.bounds"] += more
        states = (far, near_part()) if far_first else (near_part(), far)
        result = _merged(*states).result(2)
        assert result.positions.tolist() == [[2, 4]]
        assert result.certified.tolist() == [certified], more


def test_what_a_merge_itself_evicts_is_bounded() -> None:
    """Both parts are below the capacity; of the joint eight images three are evicted, around the joint mean."""
    first, second = line([6.0, -6.0, 1.0, 0.5], [4], 5), LargestEffects(torch.ones(1, 1, 1), 5)
    second.update(torch.tensor([5.0, -5.0, 3.0, -3.0])[None, :, None], torch.arange(4, 8))
    first.merge(second)
    state = first.state_dict()
    assert sorted(state["positions"].flatten().tolist()) == [0, 1, 4, 5, 7]
    assert bool(state["evicted"])
    assert state["threshold"].tolist() == pytest.approx([3 + 1.5 / 8])
    coefficients = torch.tensor([6.0, -6.0, 1.0, 0.5, 5.0, -5.0, 3.0, -3.0])[None, :, None]
    assert_valid(state, coefficients, torch.ones(1, 1, 1), 5)
    assert first.result(4).certified.tolist() == [True]
    # The 5th is the threshold itself: what was evicted could equal it.
    assert first.result(5).certified.tolist() == [False]
