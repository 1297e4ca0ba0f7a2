"""What a neuron's indirect effect costs beside re-running the whole model for it: in turn, in one run, same images.

The baseline is upstream's own forward pass over the images with a hook that overwrites one neuron, once a neuron; its
clean pass is not counted. Ours counts everything: one clean pass with capture, spread over the neurons, and the layers
above for each. The floor counts multiplications: what is left of the layers above if no projection is run that a
neuron cannot change (`secondlens.lens.upper`) and everything ran as fast as the whole model does.

    python -m benchmarks.indirect --model vit-b-32 --layer 9 --images 16 --neurons 512
"""

import argparse
import statistics
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.report import gpu_memory_gib, memory_gib, record, timed
from benchmarks.survey import SIZES, random_model
from secondlens.lens.capture import capture
from secondlens.lens.indirect import MeanActivations, indirect_effects
from secondlens.lens.model import LensModel


def rerun(model: LensModel, pixels: Tensor, layer: int, means: Tensor, neuron: int) -> Tensor:
    """The embedding with one neuron at its mean, by a hook in the whole forward pass."""

    def replace(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        inputs[0][:, :, neuron] = means[:, neuron]

    handle = model.tower.mlps[layer].project.register_forward_pre_hook(replace)
    try:
        return model.encode_images(pixels)
    finally:
        handle.remove()


def multiplications(name: str, layer: int) -> tuple[float, float]:
    """(whole model, ours a neuron) an image, matrix products only."""
    size = SIZES[name]
    width, hidden, layers, patch = (
        size[key] for key in ("hidden_size", "intermediate_size", "num_hidden_layers", "patch_size")
    )
    tokens = (224 // patch) ** 2 + 1
    attention, mlp = 2 * tokens**2 * width, 2 * tokens * width * hidden
    whole = layers * (4 * tokens * width**2 + attention + mlp) + (tokens - 1) * 3 * patch**2 * width
    heads = size["num_attention_heads"]
    # The pooled token alone: query, folded key, logits, mean over tokens, value, output; its MLP.
    pooled = 4 * width**2 + 2 * heads * tokens * width + 2 * width * hidden
    between = layers - 2 - layer
    ours = pooled + tokens * width
    if between > 0:
        ours += tokens * width**2 + attention + mlp + (between - 1) * (4 * tokens * width**2 + attention + mlp)
    return whole, ours


def measure(
    name: str, layer: int, images: int, neurons: int, rows: int, rounds: int, device: str, dtype: str
) -> dict[str, Any]:
    """Paired times: in each round one re-run, and our effects of `neurons` neurons."""
    model = random_model(name, device, dtype)
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn(images, 3, 224, 224, generator=generator).to(device)
    reference = torch.randn(images, 3, 224, 224, generator=generator).to(device)
    found = MeanActivations()
    found.update(capture(model.tower, reference, [layer]).activations[layer])
    means = found.result().to(model.device, model.dtype)
    clean = torch.nn.functional.normalize(model.encode_images(pixels), dim=-1)
    chosen = torch.randperm(model.neurons, generator=generator)[:neurons].tolist()
    indirect_effects(model, pixels, layer, means, chosen[:8], rows=rows)
    rerun(model, pixels, layer, means, chosen[0])
    theirs, ours, differences = [], [], []
    for number in range(rounds):
        neuron = chosen[number % neurons]
        seconds, after = timed(lambda n=neuron: rerun(model, pixels, layer, means, n), device)
        theirs.append(seconds)
        seconds, effects = timed(lambda: indirect_effects(model, pixels, layer, means, chosen, rows=rows), device)
        ours.append(seconds / neurons)
        expected = clean - torch.nn.functional.normalize(after, dim=-1)
        differences.append(float((effects[:, number % neurons] - expected).abs().max()))
    whole, needed = multiplications(name, layer)
    return {
        "model": name,
        "device": device,
        "dtype": dtype,
        "layer": layer,
        "images": images,
        "neurons": neurons,
        "rows": rows,
        "rerun_seconds_per_neuron": round(statistics.median(theirs), 5),
        "ours_seconds_per_neuron": round(statistics.median(ours), 5),
        "ratio": round(statistics.median(a / b for a, b in zip(theirs, ours, strict=True)), 1),
        "ratio_of_multiplications": round(whole / needed, 1),
        "largest_difference": max(differences),
        "largest_effect": round(float(effects.norm(dim=-1).max()), 5),
        "peak_gib": gpu_memory_gib() if device == "cuda" else memory_gib(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=SIZES, default="vit-b-32")
    parser.add_argument("--layer", type=int, default=9, help="counted from 0")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--neurons", type=int, default=128)
    parser.add_argument("--rows", type=int, default=32, help="neurons times images at a time")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", default="float32")
    arguments = parser.parse_args()
    names = ("model", "layer", "images", "neurons", "rows", "rounds", "device", "dtype")
    record("indirect", measure(*(getattr(arguments, key) for key in names)), device=arguments.device)


if __name__ == "__main__":
    main()
