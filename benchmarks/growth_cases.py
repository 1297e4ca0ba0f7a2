"""One measured size of a growth benchmark, in a process of its own: its memory is then its own.

CPU seconds of one thread, not seconds on a clock: what else the machine does hardly shows.
"""

import gc
import resource
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from benchmarks.sparse import correlated_problem
from secondlens.lens.families.clip import tower
from secondlens.lens.model import LensModel, Preprocessing
from secondlens.numerics.largest import LargestEffects
from secondlens.numerics.sparse.codes import sparse_decompose
from secondlens.surveys.run import survey

SIDE, PATCH = 64, 16


@dataclass(frozen=True)
class SurveyCase:
    """A survey of synthetic images on random weights, of the first `layers` layers. Neurons: four times the width."""

    images: int = 1000
    layers: int = 5
    depth: int = 6
    width: int = 128
    heads: int = 4
    top: int = 20
    batch: int = 32
    thumbnails: bool = False

    @property
    def embed(self) -> int:
        return self.width // 2

    @property
    def neurons(self) -> int:
        return 4 * self.width

    @property
    def tokens(self) -> int:
        return (SIDE // PATCH) ** 2 + 1

    def paths(self) -> list[int]:
        """Of each layer."""
        return [self.heads * (self.depth - 1 - layer) for layer in range(self.layers)]


@dataclass(frozen=True)
class SparseCase:
    """Sparse coding of random directions over random texts."""

    texts: int = 4000
    nonzero: int = 16
    signals: int = 128
    embed: int = 256


class Synthetic:
    """Pictures of smooth noise, made when they are asked for."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Image.Image:
        rng = np.random.default_rng(index)
        coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        return coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def pixels_of(images: list[Image.Image]) -> torch.Tensor:
    return torch.stack([torch.from_numpy(np.array(i)).permute(2, 0, 1).float() / 127.5 - 1 for i in images])


def model_of(case: SurveyCase) -> LensModel:
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=case.width, intermediate_size=case.neurons, num_hidden_layers=case.depth,
        num_attention_heads=case.heads, image_size=SIDE, patch_size=PATCH, projection_dim=case.embed,
    )  # fmt: skip
    module = CLIPVisionModelWithProjection(config)
    return LensModel("random", "hf-clip", module, tower(module), Preprocessing(pixels_of, {}), None)


def resident() -> int:
    """Memory that this process has now, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def peak() -> int:
    """The most it ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measured(case: SurveyCase | SparseCase) -> dict[str, Any]:
    """CPU and clock seconds, bytes beyond those before, bytes on disk."""
    torch.set_num_threads(1)
    return _survey(case) if isinstance(case, SurveyCase) else _sparse(case)


def _survey(case: SurveyCase) -> dict[str, Any]:
    model = model_of(case)
    with tempfile.TemporaryDirectory() as folder:
        # Once small: libraries that are loaded when first used are not counted.
        small = SurveyCase(images=8, layers=1, depth=2, width=32, top=2, thumbnails=case.thumbnails)
        survey(model_of(small), Synthetic(8), f"{folder}/small", layers=[0], top=2, thumbnails=case.thumbnails)
        gc.collect()
        before, cpu, clock = resident(), time.process_time(), time.perf_counter()
        atlas = survey(
            model, Synthetic(case.images), f"{folder}/atlas", layers=range(case.layers), top=case.top,
            batch_size=case.batch, thumbnails=case.thumbnails,
        )  # fmt: skip
        cpu, clock = time.process_time() - cpu, time.perf_counter() - clock
        disk = sum(path.stat().st_size for path in atlas.folder.rglob("*") if path.is_file())
    return {"cpu_seconds": cpu, "clock_seconds": clock, "memory": peak() - before, "disk": disk}


def _sparse(case: SparseCase) -> dict[str, Any]:
    directions, texts = correlated_problem(case.texts, case.embed, case.signals, 0)
    sparse_decompose(directions[:8], texts[:500], 2)
    gc.collect()
    before, cpu, clock = resident(), time.process_time(), time.perf_counter()
    sparse_decompose(directions, texts, case.nonzero)
    cpu, clock = time.process_time() - cpu, time.perf_counter() - clock
    return {"cpu_seconds": cpu, "clock_seconds": clock, "memory": peak() - before}


def statistics_alone(
    points: tuple[int, ...], neurons: int = 256, paths: int = 24, top: int = 100, batch: int = 250
) -> dict[str, Any]:
    """Coefficients given, no model: statistics of one block of neurons over ever more images, in one process.

    At each of `points` images: memory now and at most, bytes of the state, CPU seconds since the last point.
    """
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    root = torch.linalg.qr(torch.randn(neurons, paths, paths, generator=generator)).Q
    found = LargestEffects(root, 2 * top)
    before, count, rows = resident(), 0, []
    for point in points:
        spent, images = 0.0, point - count
        while count < point:
            # Of images whose effects differ in size, so that some are much larger than most.
            scale = torch.randn(1, batch, 1, generator=generator).exp()
            coefficients = torch.randn(neurons, batch, paths, generator=generator).mul_(scale)
            started = time.process_time()
            found.update(coefficients, torch.arange(count, count + batch))
            spent += time.process_time() - started
            count += batch
        state = found.state_dict()
        rows.append(
            {
                "images": count,
                "memory_now": resident() - before,
                "memory_peak": peak() - before,
                "state": sum(tensor.numel() * tensor.element_size() for tensor in state.values()),
                "images_per_cpu_second": images / spent,
            }
        )
        print(f"{count:>9} images: {rows[-1]['memory_peak'] / 2**20:.1f} MiB, "
              f"{rows[-1]['images_per_cpu_second']:.0f} images a CPU second", flush=True)  # fmt: skip
    started = time.process_time()
    result = found.result(top)
    return {
        "neurons": neurons,
        "paths": paths,
        "top": top,
        "capacity": 2 * top,
        "batch": batch,
        "points": rows,
        "result_cpu_seconds": time.process_time() - started,
        "certified": float(result.certified.float().mean()),
    }
