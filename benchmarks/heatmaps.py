"""What a heat map costs beside upstream's plain forward pass over the same images, in turn, in one run.

The figure holds everything from pixels to maps on the patch grid: the pass with its hooks, the projection of write
directions on texts that were not seen before, the maps. What is made once a model (write maps) is told apart.

    python -m benchmarks.heatmaps --model vit-b-32 --texts 1 --batch-size 1
"""

import argparse
import statistics
from typing import Any

import torch

from benchmarks.report import record, timed
from benchmarks.survey import SIZES, random_model
from secondlens.analysis.heatmaps import HeatMapMethod, Options, SharedPass, make_methods, same_for_all
from secondlens.analysis.heatmaps.neurons import Contribution, NeuronChoice
from secondlens.analysis.heatmaps.writes import Writes
from secondlens.lens import LensModel

SIZES.setdefault(
    "vit-tiny",
    {"hidden_size": 192, "intermediate_size": 768, "num_hidden_layers": 12, "num_attention_heads": 3,
     "patch_size": 16, "projection_dim": 192},
)  # fmt: skip
CHOSEN = "traced-contribution of 200 neurons"
METHODS = (
    "traced-contribution",
    CHOSEN,
    "contribution",
    "traced-direct",
    "text-span",
    "rollout",
    "raw-attention",
)


def make(model: LensModel, name: str, options: Options) -> HeatMapMethod:
    """A method; the one that needs an atlas has random directions, which cost what true ones do."""
    if name != CHOSEN:
        return make_methods(model, [name], options=options)[0]
    writes = Writes(model, tuple(model.tower.lens_layers)[-3:])
    generator = torch.Generator().manual_seed(2)
    shape = (model.neurons, model.embed_dim)
    directions = {
        layer: torch.nn.functional.normalize(torch.randn(*shape, generator=generator), dim=-1).to(model.device)
        for layer in writes.layers
    }
    return Contribution(writes, NeuronChoice(directions, "paper", 200), traced=True, mixing=options.mixing)


def measure(
    name: str,
    methods: list[str],
    texts: int,
    batch_size: int,
    repeats: int,
    options: Options,
    device: str = "cpu",
    dtype: str = "float32",
) -> dict[str, Any]:
    """Median of paired ratios a method, over fresh images and texts."""
    model = random_model(name, device, dtype)
    found: dict[str, Any] = {"model": name, "texts": texts, "batch_size": batch_size, "repeats": repeats}
    found |= {"device": device, "dtype": dtype}
    found["mixing"] = options.mixing
    ratios: dict[str, list[float]] = {method: [] for method in methods}
    once, plain = {}, []
    made = {}
    for method in methods:
        seconds, made[method] = timed(lambda method=method: make(model, method, options), device)
        once[method] = round(seconds, 3)
    generator = torch.Generator().manual_seed(1)
    for repeat in range(repeats + 2):
        pixels = torch.randn(batch_size, 3, 224, 224, generator=generator).to(device)
        vectors = torch.nn.functional.normalize(torch.randn(texts, model.embed_dim, generator=generator), dim=-1)
        for method in methods:

            def maps(method: str = method, pixels: torch.Tensor = pixels, vectors: torch.Tensor = vectors) -> Any:
                shared = SharedPass.of(model, pixels, [made[method]])
                return made[method].maps(shared, same_for_all(vectors, batch_size))

            before, _ = timed(lambda pixels=pixels: model.encode_images(pixels), device)
            seconds, _ = timed(maps, device)
            after, _ = timed(lambda pixels=pixels: model.encode_images(pixels), device)
            # The first two rounds warm caches up.
            if repeat >= 2:
                ratios[method].append(seconds / ((before + after) / 2))
                plain += [before, after]
    found["plain_seconds"] = round(statistics.median(plain), 4)
    found["ratios"] = {method: round(statistics.median(values), 2) for method, values in ratios.items()}
    found["quartiles"] = {
        method: [round(value, 2) for value in statistics.quantiles(values, n=4)[::2]]
        for method, values in ratios.items()
    }
    found["seconds_once"] = once
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=SIZES, default="vit-b-32")
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--texts", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--mixing", choices=("norms", "attention", "block"), default="norms")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", default="float32")
    given = parser.parse_args()
    options = Options(mixing=given.mixing)
    sizes = (given.texts, given.batch_size, given.repeats)
    figures = measure(given.model, given.methods, *sizes, options, given.device, given.dtype)
    record("heatmaps", figures, device=given.device)


if __name__ == "__main__":
    main()
