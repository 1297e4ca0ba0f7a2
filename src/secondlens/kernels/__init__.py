"""Fused kernels for CUDA, in Triton: what a survey does with a batch, in a few passes over memory.

Each has a plain twin in torch, which everything but CUDA runs, and which the tests compare it with. Triton comes with
torch's builds for CUDA on Linux; without it the plain twins run there too.
"""

from functools import cache
from importlib.util import find_spec

import torch
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
