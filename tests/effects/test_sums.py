"""Sums that do not depend on grouping, and statistics in shards that give the bits of one pass."""

from fractions import Fraction
from itertools import pairwise

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from secondlens.effects.statistics import EffectStatistics
from secondlens.numerics.sums import WideSum

NEURONS, PATHS, BATCH = 5, 4, 6


def addends(count: int, seed: int, spread: int) -> torch.Tensor:
    """float32 numbers whose sizes lie within `spread` powers of two, of both signs."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.exp2(torch.randint(-spread // 2, spread // 2, (count, 3), generator=generator).float())
    return torch.randn(count, 3, generator=generator) * sizes


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 80),
    cut=st.integers(0, 80),
    seed=st.integers(0, 10_000),
    # Between the smallest and the largest lie 2^60; float32 has 24 bits of its own, and 106 are kept.
    spread=st.integers(2, 60),
)
def test_a_sum_is_exact_for_every_order_and_grouping(count: int, cut: int, seed: int, spread: int) -> None:
    numbers = addends(count, seed, spread)
    whole, first, second = WideSum(3), WideSum(3), WideSum(3)
    for number in numbers:
        whole.add(number)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    for place in order[:cut]:
        first.add(numbers[place])
    for place in order[cut:]:
        second.add(numbers[place])
    untouched = second.high.clone(), second.low.clone()
    first.merge(second)
    assert torch.equal(second.high, untouched[0])
    assert torch.equal(second.low, untouched[1])
    assert torch.equal(first.value, whole.value)
    for column in range(3):
        exact = sum((Fraction(float(number)) for number in numbers[:, column]), Fraction(0))
        assert float(whole.value[column]) == float(exact)


def test_a_plain_sum_is_not() -> None:
    """What the class is for: without it the grouping shows."""
    numbers = addends(64, 1, 60).double()
    assert not torch.equal(numbers[:20].sum(dim=0) + numbers[20:].sum(dim=0), sum(numbers, torch.zeros(3)))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    candidates=st.integers(2, 40),
    head_cuts=st.lists(st.integers(1, 12), max_size=3),
    cuts=st.lists(st.integers(1, 12), max_size=5),
    levels=st.sampled_from([0, 3]),
)
def test_shards_give_the_bits_of_one_pass(
    seed: int, candidates: int, head_cuts: list[int], cuts: list[int], levels: int
) -> None:
    """Whatever the shards: every tensor of the state and of the result. levels: coefficients that tie everywhere."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(NEURONS, 70, PATHS, generator=generator) * 10.0 ** torch.randint(
        -3, 3, (1, 70, 1), generator=generator
    )
    if levels:
        values = torch.randint(0, levels, (NEURONS, 70, PATHS), generator=generator).float()
    values[0] = 0.5
    root = torch.randn(NEURONS, PATHS, PATHS, generator=generator)
    order = torch.randperm(70, generator=generator)
    batches = list(order.split(BATCH))

    def run(statistics: EffectStatistics, span: range) -> dict[str, torch.Tensor]:
        for number in span:
            # As a survey's are: images first in memory.
            some = values[:, batches[number]].transpose(0, 1).contiguous().transpose(0, 1)
            statistics.update(some, batches[number])
        return statistics.state_dict()

    one = EffectStatistics(root, candidates)
    expected = run(one, range(len(batches)))
    head = -(-candidates // BATCH)
    merged = EffectStatistics(root, candidates)
    for span in spans(0, head, head_cuts):
        merged.merge_state(run(EffectStatistics(root, len(span) * BATCH + 1), span))
    assert merged.filling == (len(batches) * BATCH < candidates)
    parts = []
    for span in spans(head, len(batches), cuts):
        part = EffectStatistics(root, candidates)
        part.load_state_dict(merged.shard_state())
        parts.append(run(part, span))
    for part in reversed(parts):
        merged.merge_state(part)
    found = merged.state_dict()
    # The part of a sum that is rounded away may be split in two ways; the sum itself may not.
    differing = [name for name in expected if not torch.equal(found[name], expected[name])]
    assert not [name for name in differing if not name.endswith(".low")], differing
    mine, theirs = merged.result(2), one.result(2)
    for name, value in vars(theirs).items():
        other = getattr(mine, name)
        assert (value is None and other is None) or torch.equal(value, other), name


def spans(first: int, stop: int, cuts: list[int]) -> list[range]:
    """Ranges from first to stop - 1, cut at some places."""
    places = sorted({first, stop, *(cut for cut in cuts if first < cut < stop)})
    return [range(a, b) for a, b in pairwise(places)]
