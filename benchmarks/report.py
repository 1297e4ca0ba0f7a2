"""Results as JSON files with the machine that made them, and the table in README.md made from those files."""

import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import transformers

FOLDER = Path(__file__).parent
RESULTS = Path(os.environ.get("SECONDLENS_BENCH_RESULTS", FOLDER / "results"))
"""Elsewhere for a quick run, whose figures say nothing."""


def memory_gib() -> float:
    """Peak resident memory of this process."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)


def timed(work: Callable[[], Any], device: str = "cpu") -> tuple[float, Any]:
    """(seconds, result); on a GPU until its work is done."""
    _finish(device)
    started = time.perf_counter()
    result = work()
    _finish(device)
    return time.perf_counter() - started, result


def _finish(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def gpu_memory_gib() -> float:
    """Peak memory that tensors took on the GPU."""
    return round(torch.cuda.max_memory_allocated() / 2**30, 2)


def machine(device: str = "cpu") -> dict[str, Any]:
    """What the figures depend on."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    return {
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "cpu": model,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def record(benchmark: str, figures: dict[str, Any], places: tuple[str, ...] = (), device: str = "cpu") -> None:
    """Print figures and keep them as one JSON file a benchmark and setting.

    places: options whose values say where things lie on this machine; the kept command has the option's name instead.
    """
    arguments = list(sys.argv[1:])
    for option in places:
        if option in arguments:
            arguments[arguments.index(option) + 1] = option.strip("-").upper()
    command = f"python -m benchmarks.{benchmark} " + " ".join(arguments)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=FOLDER)
    entry = {
        "benchmark": benchmark,
        "command": command.strip(),
        "commit": commit.stdout.strip(),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(device),
        "figures": figures,
    }
    print(json.dumps(figures, indent=2))
    RESULTS.mkdir(exist_ok=True)
    slug = "-".join(argument.strip("-") for argument in arguments) or "default"
    (RESULTS / f"{benchmark}-{slug}.json").write_text(json.dumps(entry, indent=2) + "\n")
