"""Blocks of neurons: how many at a time, and side by side on the cores of a CPU.

Cholesky factors and eigendecompositions of many small matrices run on one core each; a thread a core, each with one
thread inside, keeps all of them busy. On an accelerator the blocks simply follow each other, and are as large as they
can be: what counts there is how often something is launched. Only eigendecompositions go back to the CPU: libraries of
accelerators do them one after the other where the matrices have more than 32 rows.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

# Neurons worked on at a time on a CPU: few enough that a block's products stay in the cache, enough to keep calls few.
BLOCK = 256
# The same for what is made once in float64, [neuron, path, embed].
SETUP_BLOCK = 32
# On an accelerator.
WIDE_BLOCK, WIDE_SETUP_BLOCK = 4096, 512

Item = TypeVar("Item")
Result = TypeVar("Result")


def block_size(device: torch.device) -> int:
    """Neurons whose statistics are worked on at a time."""
    return BLOCK if device.type == "cpu" else WIDE_BLOCK


def setup_block_size(device: torch.device) -> int:
    """Neurons whose write directions exist at a time, in float64."""
    return SETUP_BLOCK if device.type == "cpu" else WIDE_SETUP_BLOCK


def eigh(
    matrices: Float[Tensor, "matrix row row"],
) -> tuple[Float[Tensor, "matrix row"], Float[Tensor, "matrix row row"]]:
    """`torch.linalg.eigh` of many small matrices, always on the CPU; the results are where the matrices were."""
    if matrices.device.type == "cpu":
        return torch.linalg.eigh(matrices)
    here = matrices.cpu()
    parts = map_blocks(
        torch.linalg.eigh, here.split(max(1, -(-len(here) // (8 * torch.get_num_threads())))), here.device
    )
    values, vectors = (torch.cat(column).to(matrices.device) for column in zip(*parts, strict=True))
    return values, vectors


def map_blocks(work: Callable[[Item], Result], items: Iterable[Item], device: torch.device) -> list[Result]:
    """`[work(item) for item in items]`, in order."""
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        return [work(item) for item in items]
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(torch.no_grad()(work), items))
    finally:
        # MKL's own count is shared by all threads of the process.
        torch.set_num_threads(threads)
