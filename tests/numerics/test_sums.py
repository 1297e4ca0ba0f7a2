"""Sums that do not depend on grouping."""

from fractions import Fraction

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from secondlens.numerics.sums import CompensatedSum


def addends(count: int, seed: int, spread: int) -> torch.Tensor:
    """float32 numbers whose sizes lie within `spread` powers of two, of both signs."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.exp2(torch.randint(-spread // 2, spread // 2, (count, 3), generator=generator).float())
    return torch.randn(count, 3, generator=generator) * sizes


def summed(*numbers: torch.Tensor) -> CompensatedSum:
    total = CompensatedSum(3)
    for number in numbers:
        total.add(number)
    return total


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
    whole = summed(*numbers)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    first, second = summed(*numbers[order[:cut]]), summed(*numbers[order[cut:]])
    unchanged = second.high.clone(), second.low.clone()
    first.merge(second)
    assert torch.equal(second.high, unchanged[0])
    assert torch.equal(second.low, unchanged[1])
    assert torch.equal(first.value, whole.value)
    for column in range(3):
        exact = sum((Fraction(float(number)) for number in numbers[:, column]), Fraction(0))
        assert float(whole.value[column]) == float(exact)


def test_a_plain_sum_is_not() -> None:
    """What the class is for: without it the grouping shows."""
    numbers = addends(64, 1, 60).double()
    assert not torch.equal(numbers[:20].sum(dim=0) + numbers[20:].sum(dim=0), sum(numbers, torch.zeros(3)))


def test_what_cancels_leaves_the_rest() -> None:
    total = summed(torch.full((3,), 2.0**70), torch.full((3,), 1.0), torch.full((3,), -(2.0**70)))
    assert total.value.tolist() == [1.0] * 3


def test_the_value_is_the_sum_rounded_once() -> None:
    """2^53 + 1 + 1 is a float64; rounded at each step, it stays 2^53."""
    total = summed(torch.full((3,), 2.0**53), torch.ones(3), torch.ones(3))
    assert total.value.tolist() == [2.0**53 + 2] * 3
    assert float(torch.tensor(2.0**53, dtype=torch.float64) + 1 + 1) == 2.0**53
