"""The largest effects in one pass: exact where certified, whatever the order and the batches; a second pass."""

import pytest
import torch
from brute_force import assert_exact, brute_force, feed, second_pass
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import assert_equal_states, assert_same, assert_valid
from streams import KINDS, NEURONS, cut, stream

from secondlens.errors import SecondLensError
from secondlens.numerics.largest import LargestEffects

kinds = st.sampled_from(KINDS)
sizes = st.lists(st.integers(1, 40), min_size=1, max_size=4)
seeds = st.integers(0, 10_000)


@settings(max_examples=150, deadline=None)
@given(
    kind=kinds, images=st.integers(1, 70), paths=st.sampled_from([1, 4, 7]), top_k=st.integers(1, 8),
    more=st.sampled_from([0, 1, 3, 12]), sizes=sizes, seed=seeds,
)  # fmt: skip
def test_never_a_wrong_top_and_a_second_pass_finds_the_right_one(
    kind: str, images: int, paths: int, top_k: int, more: int, sizes: list[int], seed: int
) -> None:
    top_k = min(top_k, images)
    coefficients, root = stream(kind, images, paths, seed)
    statistics = feed(LargestEffects(root, top_k + more), coefficients, cut(torch.arange(images), sizes))
    exact = brute_force(coefficients, root)
    assert_exact(statistics.result(top_k), exact, root)
    rows, again = second_pass(statistics, coefficients, top_k)
    assert_exact(again, exact, root, rows)
    # What is then not certified is tied: the last image that is kept equals the last of the top, but for float32,
    # whose rounding is 2^-23 of a few times the coefficients' size.
    for row, neuron in enumerate(rows.tolist()):
        if not again.certified[row]:
            norms = exact.norms[neuron, exact.order[neuron]]
            last, kept = norms[top_k - 1], norms[top_k + more - 1]
            scale = coefficients[neuron].abs().max() * root[neuron].norm()
            assert float(last - kept) <= 1e-5 * float(scale)


@settings(max_examples=60, deadline=None)
@given(
    # Where coefficients of a batch span 2^24 and more, the sum over a batch rounds.
    kind=kinds.filter(lambda kind: kind != "spans"),
    top_k=st.integers(1, 6),
    more=st.integers(0, 8),
    sizes=sizes,
    others=sizes,
    seed=seeds,
)
def test_batch_sizes_change_no_bit_of_certified_neurons(
    kind: str, top_k: int, more: int, sizes: list[int], others: list[int], seed: int
) -> None:
    coefficients, root = stream(kind, 60, seed=seed)
    results, states = [], []
    for some in (sizes, others):
        statistics = feed(LargestEffects(root, top_k + more), coefficients, cut(torch.arange(60), some))
        results.append(statistics.result(top_k))
        states.append(statistics.state_dict())
    # The reference moves at the same images, also within a batch.
    for name in ("reference", "next_reference"):
        assert torch.equal(states[0][name], states[1][name]), name
    assert_same(*results)
    # The mean is the exact sum, rounded once, over the count.
    assert torch.equal(results[0].mean, brute_force(coefficients, root).mean)


@settings(max_examples=60, deadline=None)
@given(kind=kinds, capacity=st.integers(1, 30), sizes=sizes, stop=st.integers(0, 70), seed=seeds)
def test_a_resumed_pass_gives_the_bits_of_an_uninterrupted_one(
    kind: str, capacity: int, sizes: list[int], stop: int, seed: int
) -> None:
    coefficients, root = stream(kind, 70, seed=seed)
    batches = cut(torch.randperm(70, generator=torch.Generator().manual_seed(seed)), sizes)
    whole = feed(LargestEffects(root, capacity), coefficients, batches)
    stop = min(stop, len(batches))
    before = feed(LargestEffects(root, capacity), coefficients, batches[:stop])
    state = {name: tensor.clone() for name, tensor in before.state_dict().items()}
    resumed = LargestEffects(root, capacity)
    resumed.load_state_dict(state)
    feed(resumed, coefficients, batches[stop:])
    assert_equal_states(resumed, whole)
    # One that went on after its state was taken, too.
    feed(before, coefficients, batches[stop:])
    assert_equal_states(before, whole)


@pytest.mark.parametrize("kind", KINDS)
def test_a_result_changes_nothing(kind: str) -> None:
    coefficients, root = stream(kind, 90)
    watched, left_alone = LargestEffects(root, 12), LargestEffects(root, 12)
    for batch in torch.arange(90).split(5):
        for statistics in (watched, left_alone):
            feed(statistics, coefficients, [batch])
        before = watched.state_dict()
        watched.result(min(4, watched.count))
        for name, tensor in watched.state_dict().items():
            assert torch.equal(tensor, before[name]), name
    assert_equal_states(watched, left_alone)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("capacity", [4, 13])
def test_the_state_after_every_batch_is_what_the_docstring_says(kind: str, capacity: int) -> None:
    """Reference, norms, threshold, bounds, second moment, sums, histogram."""
    images = 120
    coefficients, root = stream(kind, images, seed=5)
    statistics = LargestEffects(root, capacity)
    for batch in torch.arange(images).split(7):
        feed(statistics, coefficients, [batch])
        assert_valid(statistics.state_dict(), coefficients[:, : int(batch[-1]) + 1], root, capacity)


def test_most_neurons_are_certified_in_one_pass() -> None:
    """Isotropic coefficients are the worst case: norms differ least."""
    generator = torch.Generator().manual_seed(0)
    coefficients = torch.randn(24, 4000, 24, generator=generator)
    root = torch.eye(24).expand(24, -1, -1)
    statistics = feed(LargestEffects(root, 50), coefficients, torch.arange(4000).split(32))
    assert bool(statistics.result(25).certified.all())


def test_a_batch_within_which_the_reference_moves_is_summed_as_a_whole() -> None:
    """Sums over a batch are float64, and these round: parts of a survey must not, where they divide it otherwise."""
    coefficients = torch.tensor([2.0**60, 1.0, 1.0, -(2.0**60)])[None, :, None]
    assert float(coefficients.sum(dim=1, dtype=torch.float64)) == 0
    # The reference moves after two images, and after each that follows; sums of these pieces would add up to 1.
    statistics = feed(LargestEffects(torch.ones(1, 1, 1), 2), coefficients, [range(4)])
    assert statistics.mean.tolist() == [[0.0]]


def test_one_large_batch_is_certified_as_many_small_ones() -> None:
    """The reference moves within it; around the first one alone, nothing would be certified."""
    generator = torch.Generator().manual_seed(0)
    coefficients = torch.randn(8, 1500, 100, generator=generator)
    root = torch.eye(100).expand(8, -1, -1)
    for size in (1500, 1024, 32):
        statistics = feed(LargestEffects(root, 100), coefficients, torch.arange(1500).split(size))
        assert bool(statistics.result(50).certified.all()), size


def test_in_order_of_classes_fewer_are_certified_and_none_wrongly() -> None:
    coefficients, root = stream("by class", 400)
    exact = brute_force(coefficients, root)
    by_class = feed(LargestEffects(root, 24), coefficients, torch.arange(400).split(10))
    shuffled = torch.randperm(400, generator=torch.Generator().manual_seed(1))
    at_random = feed(LargestEffects(root, 24), coefficients, shuffled.split(10))
    living = slice(NEURONS - 2)
    assert bool(at_random.result(12).certified[living].all())
    assert not bool(by_class.result(12).certified[living].all())
    assert_exact(by_class.result(12), exact, root)
    rows, again = second_pass(by_class, coefficients, 12)
    assert bool(again.certified[rows < NEURONS - 2].all())
    assert_exact(again, exact, root, rows)


def test_a_first_block_far_away_is_not_certified_until_a_second_pass() -> None:
    coefficients, root = stream("far first", 200)
    statistics = feed(LargestEffects(root, 60), coefficients, torch.arange(200).split(10))
    exact = brute_force(coefficients, root)
    # Fifty images are far away, and the smallest of them are evicted around the first reference, which is near them.
    result = statistics.result(50)
    assert not bool(result.certified[: NEURONS - 2].any())
    rows, again = second_pass(statistics, coefficients, 50)
    assert_exact(again, exact, root, rows)
    assert bool(again.certified[: NEURONS - 2].all())


def test_a_dead_neuron_is_certified_and_a_constant_one_is_tied() -> None:
    coefficients, root = stream("gaussian", 300)
    statistics = feed(LargestEffects(root, 8), coefficients, torch.arange(300).flip(0).split(9))
    result = statistics.result(4)
    assert bool(result.certified[-1])
    assert result.positions[-1].tolist() == [0, 1, 2, 3]
    assert not bool(result.certified[-2])
    rows, again = second_pass(statistics, coefficients, 4)
    assert again.certified.tolist() == (rows != NEURONS - 2).tolist()
    for name in ("norms", "rows", "centred", "variance"):
        assert float(getattr(result, name)[-1].abs().max()) == 0, name


def test_a_neuron_that_writes_nothing_is_certified() -> None:
    coefficients, root = stream("gaussian", 100)
    root[0] = 0
    result = feed(LargestEffects(root, 8), coefficients, torch.arange(100).split(9)).result(4)
    assert bool(result.certified[0])
    assert result.positions[0].tolist() == [0, 1, 2, 3]


def test_coefficients_too_small_to_square_are_not_taken_for_zero() -> None:
    """Squares of float32 vanish below 2^-149; the norms of float64 do not."""
    coefficients, root = stream("descending", 100)
    coefficients *= 1e-24
    order = torch.arange(100).flip(0)
    statistics = feed(LargestEffects(root, 8), coefficients, order.split(9))
    result, exact = statistics.result(4), brute_force(coefficients, root)
    assert not bool(result.certified[: NEURONS - 2].any())
    assert torch.equal(result.positions[-1:], exact.top(4)[-1:])
    assert torch.equal(result.mean, exact.mean)


def test_ties_go_by_position() -> None:
    coefficients = torch.where(torch.arange(12)[None, :, None] % 2 == 0, 1.0, -1.0).expand(3, 12, 4).contiguous()
    root = torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(0))
    for order in (torch.arange(12), torch.arange(12).flip(0)):
        result = feed(LargestEffects(root, 12), coefficients, order.split(5)).result(6)
        assert torch.equal(result.positions, torch.arange(6).expand(3, -1))
        assert bool(result.certified.all())


def test_rows_that_cancel_are_not_certified_wrongly() -> None:
    """R is near singular and the coefficients lie in its null space, so that float32 norms are mostly rounding."""
    generator = torch.Generator().manual_seed(2)
    paths, images = 12, 400
    basis = torch.linalg.qr(torch.randn(6, paths, paths, generator=generator, dtype=torch.float64))[0]
    root = (basis * torch.logspace(0, -7, paths, dtype=torch.float64)).float()
    weights = torch.randn(6, images, paths, generator=generator, dtype=torch.float64)
    weights[:, :, :4] *= 1e-7
    coefficients = torch.bmm(weights, basis.mT).float()
    statistics = feed(LargestEffects(root, 20), coefficients, torch.arange(images).split(16))
    exact = brute_force(coefficients, root)
    result = statistics.result(10)
    assert torch.equal(result.positions[result.certified], exact.top(10)[result.certified])


def test_errors() -> None:
    coefficients, root = stream("gaussian", 5)
    statistics = feed(LargestEffects(root, 4), coefficients, [range(5)])
    with pytest.raises(SecondLensError, match="expected 1 to 4, for 5 images and a capacity of 4"):
        statistics.result(5)
    with pytest.raises(SecondLensError, match="expected 1 to 4"):
        statistics.result(0)
    with pytest.raises(SecondLensError, match="expected a capacity of 1 or more, got 0"):
        LargestEffects(root, 0)
    with pytest.raises(SecondLensError, match="capacity of 4 around the same reference, got 5 with 3"):
        statistics.merge(LargestEffects(root, 3))
    with pytest.raises(SecondLensError, match="around the same reference"):
        statistics.merge(LargestEffects(root, 4, reference=torch.zeros(NEURONS, 4)))
    with pytest.raises(SecondLensError, match=r"expected coefficients \[5, up to 3, 4\], got \[5, 4, 4\]"):
        LargestEffects(root, 3).load_state_dict(statistics.state_dict())


DRIFTING = [-6.0, -4.0, -8.0, 4.0, 5.0, 2.0, -8.0, -2.0, -39.0]
"""Around the mean of the first eight, -2.125, image 7 is evicted, and the threshold is 1.875. The last one moves the
mean to -6.22, around which image 7 is the fifth, at 4.22, and the fifth of those kept has 2.22: above the threshold."""


@pytest.mark.parametrize(("values", "noted"), [(DRIFTING, False), ([*DRIFTING, -2.2], True)])
def test_a_bound_grows_with_the_distance_of_the_mean(values: list[float], noted: bool) -> None:
    """The bound of the reference in use, and a noted one: a tenth image, which is small, moves the reference."""
    coefficients = torch.tensor(values)[None, :, None]
    statistics = feed(
        LargestEffects(torch.ones(1, 1, 1), 8),
        coefficients,
        torch.arange(len(values)).split([8, 1, 1][: len(values) - 7]),
    )
    state = statistics.state_dict()
    assert state["evictions.bounds"].shape[1] == noted
    assert bool(state["evicted"]) != noted
    result = statistics.result(5)
    assert float(result.norms[0, -1]) > 1.9
    assert result.positions[0].tolist() != brute_force(coefficients, torch.ones(1, 1, 1)).top(5)[0].tolist()
    assert result.certified.tolist() == [False]
    # Three of them exceed 1.875 and the distance, 4.1.
    assert statistics.result(4).certified.tolist() == [True]
