"""Many small products of a float32 matrix and one of any precision, as exact as float32 and without a float32 copy.

    out[b, m, n] = sum_k left[b, m, k] right[b, k, n]

The matrix units multiply bfloat16 exactly and add in float32. So where `right` is bfloat16, `left` is split into three
bfloat16 numbers, x = high + middle + low, 3 x 8 bits for the 24 of a float32, and three products are added. Otherwise
both are split into two numbers of TF32 (11 bits each), and the product of the two low parts, 2^-22 of the whole, is
left out.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import BFloat16, Float
from torch import Tensor

PARTS = 3


@triton.jit
@no_type_check
def _split(
    x, out, rows, columns, padded_rows, padded_columns, x_b, x_m, x_k, plane,
    PARTS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    batch = tl.program_id(1).to(tl.int64)
    tiles = tl.cdiv(padded_columns, COLUMNS)
    m = (tl.program_id(0) // tiles) * ROWS + tl.arange(0, ROWS)
    k = (tl.program_id(0) % tiles) * COLUMNS + tl.arange(0, COLUMNS)
    here = (m[:, None] < rows) & (k[None, :] < columns)
    rest = tl.load(x + batch * x_b + m[:, None] * x_m + k[None, :] * x_k, mask=here, other=0.0)
    into = out + (batch * padded_rows + m[:, None]) * padded_columns + k[None, :]
    inside = (m[:, None] < padded_rows) & (k[None, :] < padded_columns)
    for part in range(PARTS):
        high = rest.to(tl.bfloat16)
        tl.store(into + part * plane, high, mask=inside)
        rest -= high.to(tl.float32)


def split(
    x: Float[Tensor, "batch row column"], parts: int, row_block: int = 1, column_block: int = 1
) -> BFloat16[Tensor, "part batch padded_row padded_column"]:
    """x as a sum of bfloat16 matrices, the largest first; rows and columns padded with zeros to multiples."""
    batch, rows, columns = x.shape
    padded = (triton.cdiv(rows, row_block) * row_block, triton.cdiv(columns, column_block) * column_block)
    out = x.new_empty(parts, batch, *padded, dtype=torch.bfloat16)
    height, width = 16, min(128, triton.next_power_of_2(padded[1]))
    grid = (triton.cdiv(padded[0], height) * triton.cdiv(padded[1], width), batch)
    _split[grid](
        x, out, rows, columns, *padded, *x.stride(), out.stride(0), PARTS=parts, ROWS=height, COLUMNS=width
    )  # fmt: skip
    return out


@triton.jit
@no_type_check
def _product(
    left, right, out, units, columns, inner, plane, left_b, left_m,
    right_b, right_k, right_n, out_b, out_m, out_n,
    THREE: tl.constexpr, UNIT: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, INNER: tl.constexpr,
):  # fmt: skip
    rows, out_b, out_n = units * UNIT, out_b * UNIT, out_n * UNIT
    batch = tl.program_id(2).to(tl.int64)
    m = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    n = (tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)).to(tl.int64)
    # Columns are the many: they are the rows of what the matrix units make.
    made = tl.zeros([COLUMNS, ROWS], tl.float32)
    for start in range(0, inner, INNER):
        k = start + tl.arange(0, INNER)
        others = tl.load(
            right + batch * right_b + k[:, None] * right_k + n[None, :] * right_n,
            mask=(k[:, None] < inner) & (n[None, :] < columns),
            other=0.0,
        )
        at = left + batch * left_b + m[:, None] * left_m + k[None, :]
        if THREE:
            made = tl.dot(tl.trans(others), tl.trans(tl.load(at + 2 * plane)), made)
            made = tl.dot(tl.trans(others), tl.trans(tl.load(at + plane)), made)
            made = tl.dot(tl.trans(others), tl.trans(tl.load(at)), made)
        else:
            some = tl.load(at, mask=(m[:, None] < rows) & (k[None, :] < inner), other=0.0)
            made = tl.dot(tl.trans(others.to(tl.float32)), tl.trans(some), made, input_precision="tf32x3")
    tl.store(
        out + batch * out_b + n[:, None] * out_n + m[None, :] * out_m,
        made,
        mask=(n[:, None] < columns) & (m[None, :] < rows),
    )


def unit_of(*numbers: int) -> int:
    """4 where all are multiples of it, else 1."""
    return 1 if any(number % 4 for number in numbers) else 4


def product_into(
    out: Float[Tensor, "batch row column"],
    left: Float[Tensor, "batch row inner"],
    right: Float[Tensor, "batch inner column"],
) -> None:
    """`out = left @ right`; `right` and `out` may be views with any strides."""
    batch, rows, inner = left.shape
    columns = right.shape[2]
    # The fastest of those that were tried on an H100.
    block = min(64, max(16, triton.next_power_of_2(rows)))
    few = block == 16 or columns < 256
    wide, depth, warps = (64, 64, 4) if few else (256, 64 if inner <= 64 else 32, 8)
    stages = 2 if inner <= 64 else 4 if few else 3
    three, plane = right.dtype == torch.bfloat16, 0
    if three:
        parts = split(left, PARTS, block, depth)
        left, plane = parts[0], parts.stride(0)
    elif left.stride(2) != 1:
        left = left.contiguous()
    # Strides that are multiples of four let whole vectors be written.
    unit = unit_of(rows, out.stride(0), out.stride(2)) if out.stride(1) == 1 else 1
    _product[(triton.cdiv(rows, block), triton.cdiv(columns, wide), batch)](
        left, right, out, rows // unit, columns, inner, plane, *left.stride()[:2], *right.stride(),
        out.stride(0) // unit, out.stride(1), out.stride(2) // unit,
        THREE=three, UNIT=unit, ROWS=block, COLUMNS=wide, INNER=depth, num_warps=warps, num_stages=stages,
    )  # fmt: skip
