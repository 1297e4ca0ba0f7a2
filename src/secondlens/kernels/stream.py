"""One pass over a batch's coefficients: norms, sums, histogram, and who may belong to the largest.

A program has one neuron. With R its root, c its reference, for each image

    norm = |(s - c) R|

which is counted, squared and summed in float64; images whose norm is at least the neuron's `floor` go, with their
coefficients, to the next free places of the neuron's waiting room. Sums over the batch are added to the running ones
without rounding (`effects.sums`).
"""

from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from secondlens.kernels.product import split_in_three


@triton.jit
@no_type_check
def _squared_norms(
    s, root, reference, image, images, paths,
    TRIANGULAR: tl.constexpr, SPLIT: tl.constexpr, IMAGES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """|(s - c) R|^2 of a block of images, a block of columns of R after the other."""
    squares = tl.zeros([IMAGES], tl.float32)
    for column in range(0, paths, BLOCK):
        j = column + tl.arange(0, BLOCK)
        made = tl.zeros([IMAGES, BLOCK], tl.float32)
        for row in range(column if TRIANGULAR else 0, paths, BLOCK):
            i = row + tl.arange(0, BLOCK)
            centre = tl.load(reference + i, mask=i < paths, other=0.0)
            here = (image[:, None] < images) & (i[None, :] < paths)
            some = tl.load(s + image[:, None] * paths + i[None, :], mask=here, other=0.0) - centre[None, :]
            inside = (i[:, None] < paths) & (j[None, :] < paths)
            part = tl.load(root + i[:, None] * paths + j[None, :], mask=inside, other=0.0)
            if SPLIT:
                high, middle, _ = split_in_three(some)
                top, next_, _ = split_in_three(part)
                made = tl.dot(middle, top, made)
                made = tl.dot(high, next_, made)
                made = tl.dot(high, top, made)
            else:
                made = tl.dot(some, part, made, input_precision="tf32x3")
        squares += tl.sum(made * made, axis=1)
    return squares


@triton.jit
@no_type_check
def _norms(
    s, root, reference, out, images, paths, stride,
    TRIANGULAR: tl.constexpr, SPLIT: tl.constexpr, IMAGES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    neuron = tl.program_id(0).to(tl.int64)
    image = tl.program_id(1) * IMAGES + tl.arange(0, IMAGES)
    squares = _squared_norms(
        s + neuron * stride, root + neuron * paths * paths, reference + neuron * paths, image, images, paths,
        TRIANGULAR, SPLIT, IMAGES, BLOCK,
    )  # fmt: skip
    tl.store(out + neuron * images + image, tl.sqrt(squares), mask=image < images)


@triton.jit
@no_type_check
def _add(high, low, addend, here):
    """`WideSum.add` in place."""
    before = tl.load(high, mask=here, other=0.0)
    total = before + addend
    part = total - before
    rest = tl.load(low, mask=here, other=0.0) + ((before - (total - part)) + (addend - part))
    after = total + rest
    tl.store(high, after, mask=here)
    tl.store(low, rest - (after - total), mask=here)


@triton.jit
@no_type_check
def _stream(
    s, root, reference, positions, floor, total_high, total_low, square_high, square_low, counts,
    filled, waiting, waiting_norms, waiting_positions, images, paths, places, stride, lowest, per_octave,
    TRIANGULAR: tl.constexpr, SPLIT: tl.constexpr, IMAGES: tl.constexpr, BLOCK: tl.constexpr, BLOCKS: tl.constexpr,
    BINS: tl.constexpr, BINS_UP: tl.constexpr,
):  # fmt: skip
    neuron = tl.program_id(0).to(tl.int64)
    s += neuron * stride
    reference += neuron * paths
    least = tl.load(floor + neuron)
    place = tl.load(filled + neuron)
    bin_ = tl.arange(0, BINS_UP)
    histogram = tl.zeros([BINS_UP], tl.int32)
    energy = tl.zeros([1], tl.float64)
    block = tl.arange(0, BLOCKS)
    sums = tl.zeros([BLOCKS, BLOCK], tl.float64)
    for start in range(0, images, IMAGES):
        image = start + tl.arange(0, IMAGES)
        live = image < images
        squares = _squared_norms(
            s, root + neuron * paths * paths, reference, image, images, paths, TRIANGULAR, SPLIT, IMAGES, BLOCK
        )
        norm = tl.sqrt(squares)
        wide = tl.where(live, norm, 0.0).to(tl.float64)
        energy += tl.sum(wide * wide)
        index = ((tl.log2(norm) - lowest) * per_octave).to(tl.int32)
        index = tl.where(norm > 0, tl.minimum(tl.maximum(index, 0), BINS - 1), 0)
        # Places past the batch count in a bin that does not exist.
        histogram += tl.histogram(tl.where(live, index, BINS_UP - 1), BINS_UP)
        stays = live & (norm >= least)
        slot = neuron * places + place + tl.cumsum(stays.to(tl.int32), axis=0) - 1
        place += tl.sum(stays.to(tl.int32))
        tl.store(waiting_norms + slot, norm, mask=stays)
        tl.store(waiting_positions + slot, tl.load(positions + image, mask=stays, other=0), mask=stays)
        for b in range(0, tl.cdiv(paths, BLOCK)):
            i = b * BLOCK + tl.arange(0, BLOCK)
            within = i[None, :] < paths
            some = tl.load(s + image[:, None] * paths + i[None, :], mask=live[:, None] & within, other=0.0)
            tl.store(waiting + slot[:, None] * paths + i[None, :], some, mask=stays[:, None] & within)
            sums += tl.where(block[:, None] == b, tl.sum(some, axis=0).to(tl.float64)[None, :], 0.0)
    tl.store(filled + neuron, place)
    into = counts + neuron * BINS + bin_
    tl.store(into, tl.load(into, mask=bin_ < BINS, other=0) + histogram, mask=bin_ < BINS)
    path = block[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :]
    _add(total_high + neuron * paths + path, total_low + neuron * paths + path, sums, path < paths)
    one = neuron + tl.zeros([1], tl.int64)
    _add(square_high + one, square_low + one, energy, one >= 0)


def block_of(paths: int) -> int:
    """Columns of R worked on at a time."""
    return 16 if paths <= 16 else 32


def norms(
    coefficients: Float[Tensor, "neuron image path"],
    root: Float[Tensor, "neuron path path"],
    reference: Float[Tensor, "neuron path"],
    triangular: bool,
    split: bool = False,
    **tuning: Any,
) -> Float[Tensor, "neuron image"]:
    """|(s - c) R|, float32. triangular: R is zero above its diagonal."""
    neurons, images, paths = coefficients.shape
    coefficients = coefficients.contiguous()
    out = coefficients.new_empty(neurons, images)
    many = tuning.pop("IMAGES", 64)
    _norms[(neurons, triton.cdiv(images, many))](
        coefficients, root, reference.contiguous(), out, images, paths, coefficients.stride(0),
        TRIANGULAR=triangular, SPLIT=split, IMAGES=many, BLOCK=tuning.pop("BLOCK", block_of(paths)), **tuning,
    )  # fmt: skip
    return out


def stream(
    coefficients: Float[Tensor, "neuron image path"],
    positions: Int[Tensor, " image"],
    root: Float[Tensor, "neuron path path"],
    reference: Float[Tensor, "neuron path"],
    floor: Float[Tensor, " neuron"],
    total: tuple[Float[Tensor, "neuron path"], Float[Tensor, "neuron path"]],
    square_total: tuple[Float[Tensor, " neuron"], Float[Tensor, " neuron"]],
    counts: Int[Tensor, "neuron bin"],
    filled: Int[Tensor, " neuron"],
    waiting: tuple[Float[Tensor, "neuron place path"], Float[Tensor, "neuron place"], Int[Tensor, "neuron place"]],
    *,
    lowest: int,
    per_octave: int,
    triangular: bool,
    split: bool = False,
    **tuning: Any,
) -> None:
    """Take in a batch, in place.

    total, square_total: high and low parts of running sums, of s and of the norms' squares. counts: on logarithmic bins
    from 2^lowest. filled: places taken a neuron; waiting: coefficients, norms and positions there, with room for all
    images that come.
    """
    neurons, images, paths = coefficients.shape
    coefficients = coefficients.contiguous()
    bins = counts.shape[1]
    block = tuning.pop("BLOCK", block_of(paths))
    _stream[(neurons,)](
        coefficients, root, reference, positions, floor, *total, *square_total, counts,
        filled, *waiting, images, paths, waiting[1].shape[1], coefficients.stride(0), lowest, per_octave,
        TRIANGULAR=triangular, SPLIT=split, IMAGES=tuning.pop("IMAGES", 64), BLOCK=block,
        BLOCKS=triton.next_power_of_2(triton.cdiv(paths, block)),
        BINS=bins, BINS_UP=triton.next_power_of_2(bins + 1), **tuning,
    )  # fmt: skip
