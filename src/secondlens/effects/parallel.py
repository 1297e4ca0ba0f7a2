"""Blocks of neurons side by side on the cores of a CPU.

Cholesky factors and eigendecompositions of many small matrices run on one core each; a thread a core, each with one
thread inside, keeps all of them busy. On an accelerator the blocks simply follow each other.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


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
