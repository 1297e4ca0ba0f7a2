"""Our effects of one layer beside a straightforward implementation that materialises [token, neuron, width] a path.

That implementation is the oracle of the tests, in float64 as there, or in float32: same model, same image, in turn in
one run. Ours is float32 in batches, as a survey runs it, and both include their forward pass.

    python -m benchmarks.oracle --model vit-b-32 --layer 9
"""

import argparse
import statistics
import sys
from pathlib import Path

import torch

from benchmarks.report import memory_gib, record
from benchmarks.survey import random_model, timed
from secondlens.lens.capture import capture
from secondlens.lens.paths import coefficients, path_weights, write_maps

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from oracle import SlowTower, second_order


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vit-b-32")
    parser.add_argument("--layer", type=int, default=9)
    parser.add_argument("--dtype", choices=["float64", "float32"], default="float64")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32)
    arguments = parser.parse_args()
    model, layer = random_model(arguments.model), arguments.layer
    slow = SlowTower(model.module, "clip", getattr(torch, arguments.dtype))
    pixels = torch.randn(arguments.batch_size, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    writes = write_maps(model.tower, layer).directions()

    def ours() -> torch.Tensor:
        trace = capture(model.tower, pixels, [layer])
        return coefficients(path_weights(trace, model.tower, layer), trace.activations[layer])

    ours()
    fast, straightforward, errors = [], [], []
    for index in range(arguments.rounds):
        seconds, factored = timed(ours)
        fast.append(seconds / arguments.batch_size)
        seconds, dense = timed(lambda i=index: second_order(slow, pixels[i : i + 1], layer))
        straightforward.append(seconds)
        mine = torch.einsum("nk,nke->ne", factored[index], writes)
        errors.append(float((mine - dense[0]).norm() / dense[0].norm()))
    record(
        "oracle",
        {
            "model": arguments.model,
            "layer": layer,
            "dtype": arguments.dtype,
            "straightforward_seconds_per_image": round(statistics.median(straightforward), 2),
            "ours_seconds_per_image": round(statistics.median(fast), 4),
            "ratio": round(statistics.median(a / b for a, b in zip(straightforward, fast, strict=True))),
            "relative_difference": max(errors),
            "peak_gib": memory_gib(),
        },
    )


if __name__ == "__main__":
    main()
