"""One pass over a batch's coefficients: norms, sums, histogram, and the rows that are not below the threshold.

A program has one neuron. With R its root, c its reference, for each image

    norm = |(s - c) R|

which is counted, squared and summed in float64; rows with a norm of at least the neuron's threshold are appended to
its buffer (prefix sum, no atomics). A norm that is not a number becomes infinite, so that its row is kept and found.
Sums of coefficients over the batch are float64, and added to the running ones without rounding (`numerics.sums`).
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from secondlens.numerics.kernels.products import split, unit_of

IMAGES, NARROW = 128, 32


@triton.jit
@no_type_check
def _two(x):
    """high + low = x to 16 bits, each bfloat16."""
    high = x.to(tl.bfloat16)
    return high, (x - high.to(tl.float32)).to(tl.bfloat16)


@triton.jit
@no_type_check
def _add_product(made, some, part, rest, SPLIT: tl.constexpr):
    """made + some @ R; of a split R, part and rest are its parts."""
    if SPLIT:
        high, low = _two(some)
        made = tl.dot(high, rest, made)
        made = tl.dot(low, part, made)
        made = tl.dot(high, part, made)
    else:
        made = tl.dot(some, part, made, input_precision="tf32x3")
    return made


@triton.jit
@no_type_check
def _add(high, low, addend, here):
    """`CompensatedSum.add` in place."""
    before = tl.load(high, mask=here, other=0.0)
    total = before + addend
    part = total - before
    rest = tl.load(low, mask=here, other=0.0) + ((before - (total - part)) + (addend - part))
    after = total + rest
    tl.store(high, after, mask=here)
    tl.store(low, rest - (after - total), mask=here)


@triton.jit
@no_type_check
def _squares(
    s, root, plane, reference, out, total_high, total_low, extent, images, units, width, blocks,
    TRIANGULAR: tl.constexpr, SPLIT: tl.constexpr, SUMS: tl.constexpr, UNIT: tl.constexpr, SINGLE: tl.constexpr,
    IMAGES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A neuron and a block of columns of R: what they add to |(s - c) R|^2; and the sum and extent of these columns."""
    paths = units * UNIT
    column = tl.program_id(0)
    neuron = tl.program_id(1).to(tl.int64)
    s += neuron * images * paths
    root += neuron * width * width
    reference += neuron * paths
    out += (neuron * blocks + column) * images
    j = column * BLOCK + tl.arange(0, BLOCK)
    # The block on the diagonal of R is loaded once; its rows of s are those whose sums are made.
    centre = tl.load(reference + j, mask=j < paths, other=0.0)[None, :]
    at = root + j[:, None] * width + j[None, :]
    diagonal = tl.load(at, mask=(j[:, None] < width) & (j[None, :] < width), other=0.0)
    diagonal_rest = tl.load(at + plane) if SPLIT else diagonal
    sums = tl.zeros([IMAGES, BLOCK], tl.float64)
    peak = tl.zeros([IMAGES, BLOCK], tl.float32)
    for start in range(0, images, IMAGES):
        image = start + tl.arange(0, IMAGES)
        here = (image[:, None] < images) & (j[None, :] < paths)
        rows = tl.load(s + image[:, None] * paths + j[None, :], mask=here, other=0.0)
        if SUMS:
            sums += rows.to(tl.float64)
            peak = tl.maximum(peak, tl.abs(rows))
        product = _add_product(tl.zeros([IMAGES, BLOCK], tl.float32), rows - centre, diagonal, diagonal_rest, SPLIT)
        if not SINGLE:
            for step in range(column + 1 if TRIANGULAR else 1, blocks):
                row = step if TRIANGULAR else (column + step) % blocks
                i = row * BLOCK + tl.arange(0, BLOCK)
                here = (image[:, None] < images) & (i[None, :] < paths)
                others = tl.load(s + image[:, None] * paths + i[None, :], mask=here, other=0.0)
                offset = tl.load(reference + i, mask=i < paths, other=0.0)[None, :]
                at = root + i[:, None] * width + j[None, :]
                part = tl.load(at, mask=(i[:, None] < width) & (j[None, :] < width), other=0.0)
                rest = tl.load(at + plane) if SPLIT else part
                product = _add_product(product, others - offset, part, rest, SPLIT)
        tl.store(out + image, tl.sum(product * product, axis=1), mask=image < images)
    if SUMS:
        into = neuron * paths + j
        _add(total_high + into, total_low + into, tl.sum(sums, axis=0), j < paths)
        largest = tl.maximum(tl.max(peak, axis=0), tl.load(extent + into, mask=j < paths, other=0.0))
        tl.store(extent + into, largest, mask=j < paths)


@triton.jit
@no_type_check
def _enter(
    squares, positions, threshold, moment, counts, filled, before, norms_out, positions_out, sources,
    images, blocks, slots, lowest, per_octave, IMAGES: tl.constexpr, BINS: tl.constexpr, BINS_UP: tl.constexpr,
):  # fmt: skip
    """A neuron: its norms are counted, squared and summed; those that are not below the threshold get a slot."""
    neuron = tl.program_id(0).to(tl.int64)
    squares += neuron * blocks * images
    least = tl.load(threshold + neuron)
    first = tl.load(filled + neuron)
    tl.store(before + neuron, first)
    histogram = tl.zeros([BINS_UP], tl.int32)
    energy = tl.load(moment + neuron)
    for start in range(0, images, IMAGES):
        image = start + tl.arange(0, IMAGES)
        live = image < images
        square = tl.load(squares + image, mask=live, other=0.0)
        for block in range(1, blocks):
            square += tl.load(squares + block * images + image, mask=live, other=0.0)
        norm = tl.sqrt_rn(square)
        norm = tl.where(norm < float("inf"), norm, float("inf"))
        upcast = tl.where(live, norm, 0.0).to(tl.float64)
        energy += tl.sum(upcast * upcast)
        octave = tl.log2(tl.maximum(norm, 1e-30)) - lowest
        index = tl.minimum(tl.maximum((octave * per_octave).to(tl.int32), 0), BINS - 1)
        # Lanes past the batch count in a bin that does not exist.
        histogram += tl.histogram(tl.where(live, index, BINS_UP - 1), BINS_UP)
        stays = live & (norm >= least)
        slot = neuron * slots + first + tl.cumsum(stays.to(tl.int32), axis=0) - 1
        first += tl.sum(stays.to(tl.int32))
        tl.store(norms_out + slot, norm, mask=stays)
        tl.store(positions_out + slot, tl.load(positions + image, mask=stays, other=0), mask=stays)
        tl.store(sources + slot, image, mask=stays)
    tl.store(filled + neuron, first)
    bin_ = tl.arange(0, BINS_UP)
    into = counts + neuron * BINS + bin_
    tl.store(into, tl.load(into, mask=bin_ < BINS, other=0) + histogram, mask=bin_ < BINS)
    tl.store(moment + neuron, energy)


@triton.jit
@no_type_check
def _copy(
    s, out, sources, before, filled, images, units, slots, UNIT: tl.constexpr, ROWS: tl.constexpr, PATHS: tl.constexpr
):  # fmt: skip
    """The coefficients of the rows that got a slot."""
    paths = units * UNIT
    neuron = tl.program_id(0).to(tl.int64)
    last = tl.load(filled + neuron)
    for start in range(tl.load(before + neuron), last, ROWS):
        slot = neuron * slots + start + tl.arange(0, ROWS)
        taken = start + tl.arange(0, ROWS) < last
        source = tl.load(sources + slot, mask=taken, other=0)
        for first in range(0, paths, PATHS):
            path = first + tl.arange(0, PATHS)
            here = taken[:, None] & (path[None, :] < paths)
            row = tl.load(s + (neuron * images + source[:, None]) * paths + path[None, :], mask=here, other=0.0)
            tl.store(out + slot[:, None] * paths + path[None, :], row, mask=here)


class Root:
    """R of some neurons as the kernels want it: in blocks of columns, and split in two if 16 bits are enough."""

    def __init__(self, root: Float[Tensor, "neuron path path"], low_precision: bool) -> None:
        paths = root.shape[1]
        # One block where it fits; else narrow ones, so that little of R's triangle is padding.
        self.block = max(16, triton.next_power_of_2(paths)) if paths <= 64 else NARROW
        self.blocks = triton.cdiv(paths, self.block)
        self.triangular = bool((root.triu(1) == 0).all())
        self.split = low_precision
        self.values = split(root, 2, self.block, self.block) if low_precision else root.contiguous()[None]


def _squares_into(
    coefficients: Tensor, root: Root, reference: Tensor, total: tuple[Tensor, Tensor, Tensor] | None
) -> Float[Tensor, "neuron block image"]:
    """|(s - c) R|^2, by block of columns of R. total: see `stream`; None leaves it out."""
    neurons, images, paths = coefficients.shape
    out = coefficients.new_empty(neurons, root.blocks, images)
    high, low, extent = (coefficients,) * 3 if total is None else total
    unit = unit_of(paths)
    _squares[(root.blocks, neurons)](
        coefficients, root.values, root.values.stride(0), reference, out, high, low, extent, images,
        paths // unit, root.values.shape[2], root.blocks, TRIANGULAR=root.triangular, SPLIT=root.split,
        SUMS=total is not None, UNIT=unit, SINGLE=root.blocks == 1,
        IMAGES=IMAGES if root.block <= 32 else IMAGES // 2, BLOCK=root.block, num_warps=4, num_stages=1,
    )  # fmt: skip
    return out


def norms(
    coefficients: Float[Tensor, "neuron image path"], root: Root, reference: Float[Tensor, "neuron path"]
) -> Float[Tensor, "neuron image"]:
    """|(s - c) R|, float32."""
    return _squares_into(coefficients.contiguous(), root, reference.contiguous(), None).sum(dim=1).sqrt()


def stream(
    coefficients: Float[Tensor, "neuron image path"],
    positions: Int[Tensor, " image"],
    root: Root,
    reference: Float[Tensor, "neuron path"],
    threshold: Float[Tensor, " neuron"],
    total: tuple[Float[Tensor, "neuron path"], Float[Tensor, "neuron path"], Float[Tensor, "neuron path"]],
    second_moment: Float[Tensor, " neuron"],
    counts: Int[Tensor, "neuron bin"],
    filled: Int[Tensor, " neuron"],
    buffer: tuple[Float[Tensor, "neuron slot path"], Float[Tensor, "neuron slot"], Int[Tensor, "neuron slot"]],
    *,
    lowest: int,
    per_octave: int,
) -> None:
    """Add a batch, in place.

    Args:
        coefficients: float32, with their `positions`, root and reference.
        threshold: smallest norm of a row to append.
        total: high and low parts of the running sum of coefficients, and their largest sizes so far.
        second_moment: running sum of squared norms.
        counts: of norms, on logarithmic bins from 2^lowest.
        filled: slots in use per neuron.
        buffer: coefficients, norms and positions of the rows, with room for the whole batch.
    """
    neurons, images, paths = coefficients.shape
    coefficients = coefficients.contiguous()
    bins, slots, unit = counts.shape[1], buffer[1].shape[1], unit_of(paths)
    squares = _squares_into(coefficients, root, reference, total)
    before, sources = torch.empty_like(filled), torch.empty_like(buffer[2])
    _enter[(neurons,)](
        squares, positions, threshold, second_moment, counts, filled, before, buffer[1], buffer[2], sources,
        images, root.blocks, slots, lowest, per_octave, IMAGES=64 if images <= 64 else 1024, BINS=bins,
        BINS_UP=triton.next_power_of_2(bins + 1),
    )  # fmt: skip
    _copy[(neurons,)](
        coefficients, buffer[0], sources, before, filled, images, paths // unit, slots,
        UNIT=unit, ROWS=16, PATHS=min(128, triton.next_power_of_2(paths)),
    )  # fmt: skip
