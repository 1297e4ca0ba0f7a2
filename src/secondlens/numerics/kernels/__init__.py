"""Fused kernels for CUDA, in Triton: what a survey does with a batch, in a few passes over memory.

Each has a plain twin in torch, which everything but CUDA runs, and which the tests compare it with. Triton comes with
torch's builds for CUDA on Linux; without it the plain twins run there too.
"""

from functools import cache
from importlib.util import find_spec

import torch
from jaxtyping import Float
from torch import Tensor


@cache
def _installed() -> bool:
    return find_spec("triton") is not None


def on(device: torch.device) -> bool:
    """Whether the kernels run on a device."""
    return device.type == "cuda" and _installed()


def fused(*tensors: Tensor) -> bool:
    """Whether the kernels take some tensors: on such a device, none in float64, none that a gradient is asked of."""
    asked = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    return all(on(tensor.device) and tensor.dtype is not torch.float64 for tensor in tensors) and not asked


def product(
    left: Float[Tensor, "batch row inner"],
    right: Float[Tensor, "batch inner column"],
    out: Float[Tensor, "batch row column"] | None = None,
) -> Float[Tensor, "batch row column"]:
    """left @ right, as precise as `left` (float32 or wider) whatever `right` is; into `out` if it is given."""
    if not fused(left, right):
        return torch.bmm(left, right.to(left.dtype), out=out)
    from secondlens.numerics.kernels.products import product_into

    if out is None:
        out = left.new_empty(*left.shape[:2], right.shape[2])
    product_into(out, left, right)
    return out
