"""What all ablations of all layers cost beside upstream's plain forward pass: same batches, in turn, in one run.

Decoding is excluded from both. Ours holds everything else: write directions, Gram factors and components before the
first batch; capture, every variant of every layer and the class that each predicts in every batch. The floor, counted
in `secondlens.studies.ablator`: 1.25 x for a ViT-B-32 in batches of 32, and 0.23 TFLOP in float64 before.

    python -m benchmarks.ablation --model vit-b-32 --layers 0-10 --images 1000
"""

import argparse
import statistics
from typing import Any

import torch

from benchmarks.report import gpu_memory_gib, memory_gib, record, timed
from benchmarks.survey import SIZES, random_model
from secondlens.lens.capture import capture
from secondlens.lens.classifier import Head
from secondlens.lens.model import LensModel
from secondlens.lens.paths import paths_of
from secondlens.lens.trace import Trace
from secondlens.studies.ablation import classify
from secondlens.studies.ablator import LayerAblator

CLASSES, COMPONENTS = 1000, 4


def random_ablator(model: LensModel, layer: int, texts: int) -> LayerAblator:
    """Random means, components and thresholds: what they are does not change what is computed."""
    generator = torch.Generator().manual_seed(layer)
    paths = len(paths_of(model.tower, layer))
    mean = torch.randn(model.neurons, paths, generator=generator) * 0.1
    components = torch.randn(model.neurons, min(COMPONENTS, paths), paths, generator=generator)
    made = LayerAblator(model.tower, layer, mean, torch.full((model.neurons,), 0.05), components)
    for number in range(texts):
        made.add(f"texts {number}", torch.randn(model.neurons, model.embed_dim, generator=generator))
    return made


def measure(
    name: str, layers: list[int], images: int, batch_size: int, texts: int, device: str, dtype: str
) -> dict[str, Any]:
    """Paired times over `images` random images, zero-shot over 1,000 classes."""
    model = random_model(name, device, dtype)
    generator = torch.Generator().manual_seed(1)
    place = torch.device(device)
    weight = torch.nn.functional.normalize(torch.randn(CLASSES, model.embed_dim, generator=generator), dim=1)
    head = Head(weight.to(place), torch.zeros(CLASSES, device=place), own=False)
    before, ablators = timed(lambda: [random_ablator(model, layer, texts) for layer in layers], device)
    predicted: dict[int, dict[str, list[torch.Tensor]]] = {}

    def ours(pixels: torch.Tensor) -> Trace:
        trace = capture(model.tower, pixels, layers)
        classify(ablators, head, trace, predicted)
        return trace

    warm = torch.randn(batch_size, 3, 224, 224, generator=generator).to(place)
    model.encode_images(warm)
    ours(warm)
    plain_times, our_times = [], []
    for _ in range(images // batch_size):
        pixels = torch.randn(batch_size, 3, 224, 224, generator=generator).to(place)
        plain_times.append(timed(lambda p=pixels: model.encode_images(p), device)[0])
        our_times.append(timed(lambda p=pixels: ours(p), device)[0])
    return {
        "model": name,
        "device": device,
        "dtype": dtype,
        "layers": f"{layers[0]}-{layers[-1]}",
        "variants": len(ablators[0].variants),
        "images": len(plain_times) * batch_size,
        "batch_size": batch_size,
        "plain_images_per_second": round(batch_size / statistics.median(plain_times), 2),
        "ablated_images_per_second": round(len(our_times) * batch_size / (sum(our_times) + before), 2),
        "ratio_per_batch": round(statistics.median(a / b for a, b in zip(our_times, plain_times, strict=True)), 3),
        "ratio_in_all": round((sum(our_times) + before) / sum(plain_times), 3),
        "seconds_before": round(before, 2),
        "large_share": round(float(sum(a.large.sum() for a in ablators))
                             / (len(layers) * model.neurons * (len(plain_times) + 1) * batch_size), 3),
        "peak_gib": gpu_memory_gib() if device == "cuda" else memory_gib(),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=SIZES, default="vit-b-32")
    parser.add_argument("--layers", default="0-10", help="first-last")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--texts", type=int, default=1, help="reconstructions from texts a layer")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", default="float32")
    arguments = parser.parse_args()
    first, last = map(int, arguments.layers.split("-"))
    figures = measure(
        arguments.model,
        list(range(first, last + 1)),
        arguments.images,
        arguments.batch_size,
        arguments.texts,
        arguments.device,
        arguments.dtype,
    )
    record("ablation", figures, device=arguments.device)


if __name__ == "__main__":
    main()
