"""Rows that are appended, and compacted to the largest."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from secondlens.numerics.buffer import Buffer

CPU = torch.device("cpu")


def rows(norms: list[float], positions: list[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Coefficients [1, image, 1] that name their position, norms and positions."""
    return (
        torch.tensor(positions).float()[None, :, None],
        torch.tensor(norms)[None],
        torch.tensor(positions, dtype=torch.int32),
    )


def contents(buffer: Buffer) -> list[tuple[float, int]]:
    """(norm, position) of the first neuron, slot by slot; asserts that coefficients belong to them."""
    filled = int(buffer.filled[0])
    assert buffer.coefficients[0, :filled, 0].tolist() == buffer.positions[0, :filled].tolist()
    return list(zip(buffer.norms[0, :filled].tolist(), buffer.positions[0, :filled].tolist(), strict=True))


@settings(max_examples=100, deadline=None)
@given(data=st.data(), capacity=st.integers(1, 6))
def test_compaction_keeps_the_largest_of_equal_ones_the_lower_positions(data: st.DataObject, capacity: int) -> None:
    norms = data.draw(
        st.lists(st.sampled_from([0.0, 1e-38, 0.5, 1.0, 3e38, float("inf")]), min_size=capacity, max_size=12)
    )
    positions = data.draw(
        st.permutations(range(2**31 - 1, 2**31 - 1 - len(norms), -1)) | st.permutations(range(len(norms)))
    )
    # Positions this large are not whole float32 numbers: let coefficients be those that are.
    coefficients, values, numbers = rows(norms, positions)
    buffer = Buffer.empty(1, len(norms) + 2, 1, CPU)
    assert buffer.append(torch.ones(1, len(norms), dtype=torch.bool), coefficients, values, numbers)
    expected = sorted(zip(values[0].tolist(), numbers.tolist(), strict=True), key=lambda pair: (-pair[0], pair[1]))[
        :capacity
    ]
    threshold = buffer.compact(capacity)
    assert (int(buffer.filled[0]), buffer.most) == (capacity, capacity)
    kept = zip(buffer.norms[0, :capacity].tolist(), buffer.positions[0, :capacity].tolist(), strict=True)
    assert sorted(kept, key=lambda pair: (-pair[0], pair[1])) == expected
    places = {number: place for place, number in enumerate(numbers.tolist())}
    for slot, number in enumerate(buffer.positions[0, :capacity].tolist()):
        assert buffer.coefficients[0, slot].tolist() == coefficients[0, places[number]].tolist()
    assert threshold.tolist() == [expected[-1][0]]
    assert bool((buffer.norms[0, capacity:] == -1).all())


def test_rows_that_do_not_fit_change_nothing() -> None:
    buffer = Buffer.empty(1, 3, 1, CPU)
    enters = torch.tensor([[True, False, True]])
    assert buffer.append(enters, *rows([1.0, 2.0, 3.0], [5, 6, 7]))
    assert contents(buffer) == [(1.0, 5), (3.0, 7)]
    assert not buffer.append(enters, *rows([1.0, 2.0, 3.0], [8, 9, 10]))
    assert contents(buffer) == [(1.0, 5), (3.0, 7)]
    assert buffer.append(torch.tensor([[False, True, False]]), *rows([1.0, 2.0, 3.0], [8, 9, 10]))
    assert contents(buffer) == [(1.0, 5), (3.0, 7), (2.0, 9)]


def test_neurons_fill_at_their_own_rates() -> None:
    buffer = Buffer.empty(2, 4, 1, CPU)
    coefficients = torch.arange(6.0).reshape(2, 3, 1)
    buffer.append(
        torch.tensor([[True, True, True], [False, True, False]]),
        coefficients,
        coefficients[..., 0],
        torch.arange(3, dtype=torch.int32),
    )
    assert buffer.filled.tolist() == [3, 1]
    assert buffer.most == 3
    assert buffer.occupied.tolist() == [[True, True, True, False], [True, False, False, False]]
    assert buffer.coefficients[1, 0].tolist() == [4.0]


def test_joined_rows_and_another_size() -> None:
    one, other = Buffer.empty(1, 4, 1, CPU), Buffer.empty(1, 4, 1, CPU)
    one.append_all(*rows([0.0] * 3, [0, 1, 2])[::2])
    other.append_all(*rows([0.0] * 2, [3, 4])[::2])
    joined = Buffer.joined(one, other)
    assert (joined.most, joined.slots) == (5, 5)
    assert [position for _, position in contents(joined)] == [0, 1, 2, 3, 4]
    larger = joined.with_slots(9)
    assert (larger.most, larger.slots) == (5, 9)
    assert contents(larger) == contents(joined)


def test_room_for_a_whole_batch() -> None:
    buffer = Buffer.empty(1, 4, 1, CPU)
    buffer.append_all(*rows([0.0] * 3, [0, 1, 2])[::2])
    buffer.reserve(4, 7)
    assert buffer.slots == 15
    assert [position for _, position in contents(buffer)] == [0, 1, 2]
    assert buffer.has_room(12)
    assert not buffer.has_room(13)
    # As a kernel does: two rows of a batch of twelve enter, which the buffer learns when it would be full.
    buffer.filled += 2
    buffer.appended(12)
    assert buffer.most == 15
    assert buffer.has_room(10)
    assert buffer.most == 5
