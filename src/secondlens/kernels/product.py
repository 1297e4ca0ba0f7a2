"""Many small products of a float32 matrix and one of any precision, as exact as float32 and without a float32 copy.

    out[b, m, n] = sum_k left[b, m, k] right[b, k, n]

The matrix units multiply bfloat16 exactly and add in float32. So where `right` is bfloat16, `left` is split into three
bfloat16 numbers, x = high + middle + low, 3 x 8 bits for the 24 of a float32, and three products are added. Otherwise
both are split into two numbers of TF32 (11 bits each), and the product of the two low parts, 2^-22 of the whole, is
left out.
"""

from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor


@triton.jit
@no_type_check
def split_in_three(x):
    """high + middle + low = x, each bfloat16."""
    high = x.to(tl.bfloat16)
    rest = x - high.to(tl.float32)
    middle = rest.to(tl.bfloat16)
    low = (rest - middle.to(tl.float32)).to(tl.bfloat16)
    return high, middle, low


@triton.jit
@no_type_check
def _product(
    left, right, out, rows, columns, inner,
    left_b, left_m, left_k, right_b, right_k, right_n, out_b, out_m, out_n,
    THREE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, INNER: tl.constexpr,
):  # fmt: skip
    batch = tl.program_id(2).to(tl.int64)
    m = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    n = (tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)).to(tl.int64)
    # Columns are the many: they are the rows of what the matrix units make.
    made = tl.zeros([COLUMNS, ROWS], tl.float32)
    for start in range(0, inner, INNER):
        k = start + tl.arange(0, INNER)
        some = tl.load(
            left + batch * left_b + k[:, None] * left_k + m[None, :] * left_m,
            mask=(k[:, None] < inner) & (m[None, :] < rows),
            other=0.0,
        )
        others = tl.load(
            right + batch * right_b + n[:, None] * right_n + k[None, :] * right_k,
            mask=(n[:, None] < columns) & (k[None, :] < inner),
            other=0.0,
        )
        if THREE:
            high, middle, low = split_in_three(some)
            made = tl.dot(others, low, made)
            made = tl.dot(others, middle, made)
            made = tl.dot(others, high, made)
        else:
            made = tl.dot(others.to(tl.float32), some, made, input_precision="tf32x3")
    tl.store(
        out + batch * out_b + n[:, None] * out_n + m[None, :] * out_m,
        made,
        mask=(n[:, None] < columns) & (m[None, :] < rows),
    )


def product_into(
    out: Float[Tensor, "batch row column"],
    left: Float[Tensor, "batch row inner"],
    right: Float[Tensor, "batch inner column"],
    **tuning: Any,
) -> None:
    """`out = left @ right`; all three may be views with any strides. tuning: block sizes, warps, stages."""
    batch, rows, inner = left.shape
    columns = right.shape[2]
    block = tuning.pop("ROWS", min(64, max(16, triton.next_power_of_2(rows))))
    wide = tuning.pop("COLUMNS", 128 if columns > 64 else 64)
    depth = tuning.pop("INNER", 64)
    grid = (triton.cdiv(rows, block), triton.cdiv(columns, wide), batch)
    _product[grid](
        left, right, out, rows, columns, inner, *left.stride(), *right.stride(), *out.stride(),
        THREE=right.dtype == torch.bfloat16, ROWS=block, COLUMNS=wide, INNER=depth, **tuning,
    )  # fmt: skip
