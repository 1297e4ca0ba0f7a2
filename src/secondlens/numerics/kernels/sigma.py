"""sigma of every token: sqrt(var + epsilon) over the features, read once in whatever precision they have."""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

TOKENS = 2


@triton.jit
@no_type_check
def _sigma(x, out, tokens, width, stride, eps, TOKENS: tl.constexpr, WIDTH: tl.constexpr):
    token = tl.program_id(0) * TOKENS + tl.arange(0, TOKENS)
    feature = tl.arange(0, WIDTH)
    here = (token[:, None] < tokens) & (feature[None, :] < width)
    values = tl.load(x + token[:, None].to(tl.int64) * stride + feature[None, :], mask=here, other=0.0).to(tl.float32)
    mean = tl.sum(values, axis=1) / width
    centred = tl.where(here, values - mean[:, None], 0.0)
    tl.store(out + token, tl.sqrt(tl.sum(centred * centred, axis=1) / width + eps), mask=token < tokens)


def sigma(x: Float[Tensor, "... width"], eps: float) -> Float[Tensor, "..."]:
    """sqrt(mean_f (x[f] - mean x)^2 + eps), float32."""
    width = x.shape[-1]
    rows = x.reshape(-1, width)
    if rows.stride(1) != 1:
        rows = rows.contiguous()
    out = torch.empty(len(rows), dtype=torch.float32, device=x.device)
    _sigma[(triton.cdiv(len(rows), TOKENS),)](
        rows, out, len(rows), width, rows.stride(0), eps, TOKENS=TOKENS, WIDTH=triton.next_power_of_2(width)
    )  # fmt: skip
    return out.view(x.shape[:-1])
