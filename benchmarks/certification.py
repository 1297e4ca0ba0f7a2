"""Fraction of neurons certified in one pass, by paths and images, simulated; and bytes of the statistics per neuron.

Run: python -m benchmarks.certification [--paths 36 132 368 --images 5000 40960 --neurons 32 --top 100]

Coefficients are isotropic Gaussian and R is the identity: the norms of images differ least, so this is the worst case.
Per setting (capacity, entries of evictions kept) the same coefficients come in one pass, in parts that are merged, in
larger batches, and as ten classes with means of their own, in a random order and sorted by class. *Margin* is the
smallest difference, over neurons, between the last norm of the top and the largest bound, relative to that norm.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.report import memory_gib, record, timed
from secondlens.numerics import evictions, largest
from secondlens.numerics.buffer import slots_for
from secondlens.numerics.largest import LargestEffects

CLASSES = 10
SPREAD = 0.5
"""Standard deviation of the classes' means along a path; that of images within a class is 1."""


@dataclass(frozen=True)
class Scenario:
    """How the images come."""

    name: str
    parts: int = 1
    batch_size: int = 32
    classes: str = ""


@dataclass(frozen=True)
class Setting:
    """Slots per neuron as a multiple of the top's size, and entries of evicted bounds."""

    capacity: float
    entries: int


def coefficients(
    scenario: Scenario, neurons: int, paths: int, images: int, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches (coefficients [neuron, image, path], positions)."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(CLASSES, neurons, paths, generator=generator) * SPREAD
    labels = torch.arange(images) * CLASSES // images
    if scenario.classes == "shuffled":
        labels = labels[torch.randperm(images, generator=generator)]
    for positions in torch.arange(images).split(scenario.batch_size):
        # Images first in memory, as a survey's are.
        values = torch.randn(len(positions), neurons, paths, generator=generator)
        if scenario.classes:
            values += centres[labels[positions]]
        yield values.transpose(0, 1), positions


def certified(
    scenario: Scenario, settings: list[Setting], neurons: int, paths: int, images: int, top_k: int, seed: int
) -> list[dict[str, float]]:
    """Return, per setting, the fraction of neurons that one pass certifies, and the margin."""
    root = torch.eye(paths).expand(neurons, -1, -1)
    parts = [[LargestEffects(root, round(s.capacity * top_k)) for _ in range(scenario.parts)] for s in settings]
    for batch, positions in coefficients(scenario, neurons, paths, images, seed):
        part = int(positions[0]) * scenario.parts // images
        for setting, statistics in zip(settings, parts, strict=True):
            evictions.ENTRIES = setting.entries
            statistics[part].update(batch, positions)
    outcomes = []
    for setting, statistics in zip(settings, parts, strict=True):
        evictions.ENTRIES = setting.entries
        merged = statistics[0]
        for other in statistics[1:]:
            merged.merge(other)
        result = merged.result(top_k)
        last = result.norms[:, -1]
        margin = (last - evicted_bound(merged, result.mean)) / last
        outcomes.append({"certified": float(result.certified.double().mean()), "margin": round(float(margin.min()), 4)})
    return outcomes


def evicted_bound(statistics: LargestEffects, mean: Tensor) -> Tensor:
    """Return, per neuron, the largest norm around the mean that an evicted image can have; R is the identity."""
    state = statistics.state_dict()
    bounds, references = state["evictions.bounds"], state["evictions.references"]
    if bool(state["evicted"]):
        bounds = torch.cat([bounds, state["threshold"].double()[:, None]], dim=1)
        references = torch.cat([references, state["reference"][:, None]], dim=1)
    return (bounds + (references.double() - mean[:, None]).norm(dim=2)).amax(dim=1)


def bytes_per_neuron(paths: int, top_k: int, gpu_batch: int = 0) -> int:
    """Return the bytes of a full state per neuron, with the workspace of a CPU, or of a GPU and its batch size."""
    evictions.ENTRIES = 8
    capacity, images = 2 * top_k, 100 * top_k
    statistics = LargestEffects(torch.eye(paths)[None], capacity)
    for batch, positions in coefficients(Scenario("one pass"), 1, paths, images, seed=0):
        statistics.update(batch, positions)
    state = sum(tensor.nbytes for tensor in statistics.state_dict().values() if tensor.ndim)
    workspace = capacity + gpu_batch if gpu_batch else slots_for(capacity) - capacity
    return state + workspace * (4 * paths + 4 + 4)


def bytes_before(paths: int, top_k: int, gpu_batch: int = 0) -> int:
    """Return the bytes of candidates and runners-up per neuron, as they were: 4 top_k of each; on a GPU with rows that
    wait; positions of 8 bytes."""
    rows = 3 * 4 * top_k + 2 * gpu_batch if gpu_batch else 4 * top_k
    return rows * (4 * paths + 4 + 8) + 4 * top_k * 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--paths", type=int, nargs="+", default=[36, 132, 368])
    parser.add_argument("--images", type=int, nargs="+", default=[5000, 40_960])
    parser.add_argument("--neurons", type=int, default=32)
    parser.add_argument("--top", type=int, default=100)
    parser.add_argument("--capacity", type=float, nargs="+", default=[2.0, 1.75], help="slots per image of the top")
    parser.add_argument("--entries", type=int, nargs="+", default=[8, 16], help="evicted bounds kept per neuron")
    parser.add_argument("--parts", type=int, default=8)
    parser.add_argument("--large-batch", type=int, default=1024)
    parser.add_argument("--growth", type=float, default=largest.GROWTH)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.set_num_threads(1)
    largest.GROWTH = args.growth
    settings = [Setting(capacity, entries) for capacity in args.capacity for entries in args.entries]
    scenarios = [
        Scenario("one pass"),
        Scenario(f"{args.parts} parts", parts=args.parts),
        Scenario(f"batches of {args.large_batch}", batch_size=args.large_batch),
        Scenario("classes, shuffled", classes="shuffled"),
        Scenario("classes, sorted", classes="sorted"),
    ]
    rows: list[dict[str, object]] = []
    for paths in args.paths:
        for images in args.images:
            for scenario in scenarios:
                seconds, outcomes = timed(
                    lambda s=scenario, p=paths, i=images: certified(
                        s, settings, args.neurons, p, i, args.top, args.seed
                    )
                )
                print(f"{paths} paths, {images} images, {scenario.name}: {seconds:.0f} s", file=sys.stderr, flush=True)
                rows.extend(
                    {
                        "paths": paths,
                        "images": images,
                        "scenario": scenario.name,
                        "capacity": setting.capacity,
                        "entries": setting.entries,
                        **outcome,
                    }
                    for setting, outcome in zip(settings, outcomes, strict=True)
                )
    figures = {
        "neurons": args.neurons,
        "top": args.top,
        "growth": args.growth,
        "certified": rows,
        "bytes_per_neuron": [
            {
                "paths": paths,
                "gpu_batch": batch,
                "before": bytes_before(paths, 100, batch),
                "now": bytes_per_neuron(paths, 100, batch),
            }
            for paths in (24, 132)
            for batch in (0, args.large_batch)
        ],
        "memory_gib": memory_gib(),
    }
    record("certification", figures)


if __name__ == "__main__":
    main()
