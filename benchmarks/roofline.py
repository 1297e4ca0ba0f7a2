"""How far a survey's batch is from what the machine can do: its peaks measured in the same run, its work counted.

    floor = max(forward / gemm(precision) + lens / gemm(lens), bytes / copy)            seconds a batch

forward, lens: floating-point operations of upstream's forward pass, and of ours beside it; gemm: operations a second of
one large product; bytes: what cannot stay in a cache, each read or written once; copy: bytes a second, both ways, of a
copy far larger than the caches. share = floor / measured. What is larger in the maximum is named as the limit; where
the share is small, neither limits, but what is between products: launches, selections, activation functions.

    python -m benchmarks.roofline                       the peaks alone
    python -m benchmarks.roofline --device cuda --dtype bfloat16
"""

import argparse
from statistics import median
from typing import Any

import torch

from benchmarks.report import record, timed
from secondlens.lens.load import float_dtype
from secondlens.lens.model import LensModel
from secondlens.lens.paths import paths_of
from secondlens.numerics import kernels

ROUNDS = 7


def gemm_peak(device: str, dtype: torch.dtype) -> float:
    """Floating-point operations a second of one large square product."""
    size = 8192 if device == "cuda" else 2048
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    torch.mm(left, right)
    return 2 * size**3 / median(timed(lambda: torch.mm(left, right), device)[0] for _ in range(ROUNDS))


def copy_peak(device: str) -> float:
    """Bytes a second, read and written, of a copy of a tensor far larger than the caches."""
    source = torch.ones(2**28 if device == "cuda" else 2**26, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    seconds = median(timed(lambda: target.copy_(source), device)[0] for _ in range(ROUNDS))
    return 2 * source.numel() * source.element_size() / seconds


def peaks(device: str, dtype: torch.dtype) -> dict[str, float]:
    """gemm: in a precision. lens: as precise as float32, of the lens's own products. copy: bytes a second.

    On a GPU with kernels a product of the lens is three of bfloat16.
    """
    gemm = gemm_peak(device, dtype)
    thrice = dtype == torch.bfloat16 and kernels.on(torch.device(device))
    return {
        "gemm": gemm,
        "lens": gemm if dtype == torch.float32 else gemm / 3 if thrice else gemm_peak(device, torch.float32),
        "copy": copy_peak(device),
    }


def work(model: LensModel, layers: list[int], batch_size: int) -> dict[str, float]:
    """Of one batch; T tokens, w width, n neurons, K paths, H heads."""
    tower = model.tower
    height, width = tower.image_size
    patches = (height // tower.patch) * (width // tower.patch)
    T, w, n, H = patches + tower.prefix_tokens, tower.width, tower.neurons, tower.heads
    depth, element = model.layers, model.tower.mlps[0].project.weight.element_size()
    forward = 2 * patches * 3 * tower.patch**2 * w + depth * (2 * T * (4 * w * w + 2 * w * n) + 4 * T * T * w)
    lens, moved = 0, 0
    for _ in tower.readers_of(min(layers)):
        # The query and the folded key of every head; logits; and the layer norm's output, read again.
        lens += 4 * w * w + 2 * H * T * w
        moved += T * w * 4
    once = sum(parameter.numel() * element for parameter in tower.module.parameters())
    for layer in layers:
        K = len(paths_of(tower, layer))
        lens += 2 * n * K * T + 2 * n * K * K
        # Activations, once more than upstream reads them; coefficients written and read; R of every neuron.
        moved += T * n * max(element, 4) + 2 * n * K * 4
        once += n * K * K * 4
    # Upstream's own: residual stream and activations of each layer, written and read.
    moved += depth * 2 * T * (4 * w + n) * element
    return {
        "forward": float(batch_size * forward),
        "lens": float(batch_size * lens),
        "bytes": float(once + batch_size * moved),
    }


def roofline(model: LensModel, layers: list[int], batch_size: int, seconds: float, device: str) -> dict[str, Any]:
    """What one batch of a survey in `seconds` is of the machine's best; peaks are measured now.

    For a benchmark's figures: `figures["roofline"] = roofline(...)`.
    """
    best, counted = peaks(device, model.dtype), work(model, layers, batch_size)
    arithmetic = counted["forward"] / best["gemm"] + counted["lens"] / best["lens"]
    memory = counted["bytes"] / best["copy"]
    return {
        "gemm_gflops": round(best["gemm"] / 1e9, 1),
        "gemm_float32_gflops": round(best["lens"] / 1e9, 1),
        "copy_gb_per_second": round(best["copy"] / 1e9, 1),
        "arithmetic_seconds": round(arithmetic, 6),
        "memory_seconds": round(memory, 6),
        "lens_share_of_operations": round(counted["lens"] / (counted["lens"] + counted["forward"]), 4),
        "share": round(max(arithmetic, memory) / seconds, 4),
        "limit": "arithmetic" if arithmetic >= memory else "memory",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", default="float32")
    arguments = parser.parse_args()
    found = peaks(arguments.device, float_dtype(arguments.dtype))
    figures = {
        "device": arguments.device,
        "dtype": arguments.dtype,
        "gemm_gflops": round(found["gemm"] / 1e9, 1),
        "gemm_float32_gflops": round(found["lens"] / 1e9, 1),
        "copy_gb_per_second": round(found["copy"] / 1e9, 1),
    }
    record("roofline", figures, device=arguments.device)


if __name__ == "__main__":
    main()
