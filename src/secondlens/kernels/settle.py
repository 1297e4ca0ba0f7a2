"""Who of those that wait belongs to the largest: a neuron's candidates and runners-up, chosen anew in one program each.

Images are ordered by norm and, where norms are equal, by position, the lower one first, as one 64-bit number each. The
smallest that stays is found by bisection, 64 counts over numbers that lie in registers; nothing is sorted.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from secondlens.kernels.products import unit_of

MOST = 16384
"""Images, of all three kinds together, that a program can hold."""

NONE: tl.constexpr = tl.constexpr(-(2**62))
LEAST: tl.constexpr = tl.constexpr(-(2**41))
HIGHEST: tl.constexpr = tl.constexpr(2**63 - 1)


@triton.jit
@no_type_check
def _least(keys, places):
    """The smallest of the `places` largest keys; less than all where there are fewer."""
    low, high = tl.full([], LEAST, tl.int64), tl.full([], HIGHEST, tl.int64)
    for _ in range(64):
        # Their mean, which their sum could be too large for.
        middle = (low >> 1) + (high >> 1) + (low & high & 1)
        enough = tl.sum((keys >= middle).to(tl.int32)) >= places
        low = tl.where(enough, middle, low)
        high = tl.where(enough, high, middle)
    return low


@triton.jit
@no_type_check
def _settle(
    norms, positions, runner_norms, runner_positions, waiting_norms, waiting_positions,
    filled, floor, released, sources, targets, moves, candidates, places, room, outside, MANY: tl.constexpr,
):  # fmt: skip
    """A neuron: its new runners-up, and which of those that wait takes whose place among the candidates."""
    neuron = tl.program_id(0).to(tl.int64)
    index = tl.arange(0, MANY)
    runner, waits = index - candidates, index - candidates - places
    held = index < candidates
    behind = (runner >= 0) & (runner < places)
    come = (waits >= 0) & (waits < tl.load(filled + neuron))
    norm = tl.load(norms + neuron * candidates + index, mask=held, other=-1.0)
    norm = tl.where(behind, tl.load(runner_norms + neuron * places + runner, mask=behind, other=-1.0), norm)
    norm = tl.where(come, tl.load(waiting_norms + neuron * room + waits, mask=come, other=-1.0), norm)
    position = tl.load(positions + neuron * candidates + index, mask=held, other=-1)
    position = tl.where(behind, tl.load(runner_positions + neuron * places + runner, mask=behind, other=-1), position)
    position = tl.where(come, tl.load(waiting_positions + neuron * room + waits, mask=come, other=-1), position)
    real = norm >= 0
    keys = tl.where(real, (norm.to(tl.int32, bitcast=True).to(tl.int64) << 32) - position, NONE)
    mine = tl.where(behind, NONE, keys)
    stays = (mine >= _least(mine, candidates)) & (mine > NONE)
    enters, leaves = stays & come, held & (stays == 0)
    # As many leave as enter, or places were empty: the two lists pair up.
    count = tl.minimum(tl.sum(enters.to(tl.int32)), tl.sum(leaves.to(tl.int32)))
    entering, leaving = tl.cumsum(enters.to(tl.int32), axis=0) - 1, tl.cumsum(leaves.to(tl.int32), axis=0) - 1
    tl.store(sources + neuron * candidates + entering, waits, mask=enters)
    tl.store(targets + neuron * candidates + leaving, index, mask=leaves & (leaving < count))
    tl.store(moves + neuron, count)
    rest = tl.where(stays, NONE, keys)
    after = (rest >= _least(rest, places)) & (rest > NONE)
    kept = tl.sum(after.to(tl.int32))
    slot = tl.cumsum(after.to(tl.int32), axis=0) - 1
    tl.store(runner_norms + neuron * places + slot, norm, mask=after)
    tl.store(runner_positions + neuron * places + slot, position, mask=after)
    empty = (index >= kept) & (index < places)
    tl.store(runner_norms + neuron * places + index, tl.full([MANY], -1.0, tl.float32), mask=empty)
    tl.store(runner_positions + neuron * places + index, tl.full([MANY], -1, tl.int64), mask=empty)
    last = tl.where(kept == places, tl.min(tl.where(after, norm, float("inf"))), -1.0)
    tl.store(floor + neuron, last)
    gone = (tl.sum((rest > NONE).to(tl.int32)) > places) | (outside > 0)
    before = tl.load(released + neuron)
    tl.store(released + neuron, tl.where(gone, tl.maximum(before, last), before))
    tl.store(filled + neuron, 0)


@triton.jit
@no_type_check
def _move(
    held, norms, positions, waiting, waiting_norms, waiting_positions, sources, targets, moves,
    candidates, room, units, UNIT: tl.constexpr, ROWS: tl.constexpr, PATHS: tl.constexpr,
):  # fmt: skip
    """A neuron: those that enter take their places."""
    paths = units * UNIT
    neuron = tl.program_id(0).to(tl.int64)
    count = tl.load(moves + neuron)
    for start in range(0, count, ROWS):
        row = start + tl.arange(0, ROWS)
        some = row < count
        source = neuron * room + tl.load(sources + neuron * candidates + row, mask=some, other=0)
        target = neuron * candidates + tl.load(targets + neuron * candidates + row, mask=some, other=0)
        tl.store(norms + target, tl.load(waiting_norms + source, mask=some, other=0.0), mask=some)
        tl.store(positions + target, tl.load(waiting_positions + source, mask=some, other=0), mask=some)
        for first in range(0, paths, PATHS):
            path = first + tl.arange(0, PATHS)
            here = some[:, None] & (path[None, :] < paths)
            values = tl.load(waiting + source[:, None] * paths + path[None, :], mask=here, other=0.0)
            tl.store(held + target[:, None] * paths + path[None, :], values, mask=here)


def settle(
    held: tuple[Float[Tensor, "neuron candidate path"], Float[Tensor, "neuron candidate"], Int[Tensor, "..."]],
    runners: tuple[Float[Tensor, "neuron runner"], Int[Tensor, "neuron runner"]],
    waiting: tuple[Float[Tensor, "neuron place path"], Float[Tensor, "neuron place"], Int[Tensor, "neuron place"]],
    filled: Int[Tensor, " neuron"],
    floor: Float[Tensor, " neuron"],
    released: Float[Tensor, " neuron"],
    outside: bool,
    most: int,
) -> None:
    """In place: coefficients, norms and positions of the candidates; norms and positions of the runners-up; their
    smallest norm, or -1 where there are free places; the largest norm of any image that is neither; nobody waits.

    outside: images below the floor were let go before. most: no neuron has more that wait.
    """
    neurons, candidates, paths = held[0].shape
    places, room = runners[0].shape[1], waiting[1].shape[1]
    # One of two sizes, so that few programs are compiled.
    waiting_most = room if most > candidates else candidates
    many = triton.next_power_of_2(candidates + places + waiting_most)
    sources, targets = (torch.empty(neurons, candidates, dtype=torch.int32, device=floor.device) for _ in range(2))
    moves = torch.empty_like(filled)
    _settle[(neurons,)](
        held[1], held[2], *runners, waiting[1], waiting[2], filled, floor, released, sources, targets, moves,
        candidates, places, room, int(outside), MANY=many, num_warps=max(4, min(16, many // 256)),
    )  # fmt: skip
    _move[(neurons,)](
        *held, *waiting, sources, targets, moves, candidates, room, paths // unit_of(paths), UNIT=unit_of(paths),
        ROWS=16, PATHS=min(128, triton.next_power_of_2(paths)),
    )  # fmt: skip
