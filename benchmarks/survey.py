"""What a survey costs beside upstream's plain forward pass over the same images: same batches, in turn, in one run.

Decoding is excluded from both. The survey's figure holds everything else: write directions and Gram factors before the
first batch, capture and statistics in every batch, principal components after the last.

    python -m benchmarks.survey --model vit-b-32 --layers 8-10 --images 1000
"""

import argparse
import statistics
from typing import Any

import torch
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection, SiglipConfig, SiglipModel

from benchmarks.report import gpu_memory_gib, memory_gib, record, timed
from benchmarks.roofline import roofline
from secondlens.data.loader import Batch
from secondlens.lens.families import clip as hf_clip
from secondlens.lens.families import siglip as hf_siglip
from secondlens.lens.layer import LayerStatistics
from secondlens.lens.load import float_dtype
from secondlens.lens.model import LensModel, Preprocessing
from secondlens.surveys.plan import make_plan
from secondlens.surveys.stream import update

SIZES: dict[str, dict[str, Any]] = {
    "vit-b-32": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
                 "patch_size": 32, "projection_dim": 512},
    "vit-b-16": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
                 "patch_size": 16, "projection_dim": 512},
    "vit-l-14": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
                 "patch_size": 14, "projection_dim": 768},
    "vit-h-14": {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 16,
                 "patch_size": 14, "projection_dim": 1024},
    "siglip-b-16": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
                    "patch_size": 16},
}  # fmt: skip
NO_TEXTS = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}


def random_model(name: str, device: str, dtype: str) -> LensModel:
    """An image tower of real size with random weights."""
    torch.manual_seed(0)
    module: Any
    if name.startswith("siglip"):
        module = SiglipModel(SiglipConfig(vision_config={"image_size": 224, **SIZES[name]}, text_config=NO_TEXTS))
        made = hf_siglip.tower(module)
    else:
        module = CLIPVisionModelWithProjection(CLIPVisionConfig(image_size=224, **SIZES[name]))
        made = hf_clip.tower(module)
    model = LensModel(name, "random", module, made, Preprocessing(torch.stack, {}), None)
    return model.to(device, float_dtype(dtype))


def measure(
    name: str,
    layers: list[int],
    images: int,
    batch_size: int,
    top: int,
    memory: int | None,
    device: str,
    dtype: str,
) -> dict[str, Any]:
    """Paired times over `images` random images."""
    model = random_model(name, device, dtype)
    plan = make_plan(model, layers, images, top, batch_size, memory)
    assert len(plan.groups) == 1, "the benchmark times one pass: give more memory"
    # On a GPU the images are there already: how they get there is not what is compared.
    place = torch.device(device)
    generator = torch.Generator(place).manual_seed(1)
    pixels = torch.randn(batch_size, 3, 224, 224, generator=generator, device=place)
    model.encode_images(pixels)
    if device == "cuda":
        # Kernels are compiled when they are first used: some only when a buffer is full, or when there is a result.
        warm = [LayerStatistics(model.tower, layer, plan.capacity) for layer in layers]
        for number in range(8 + plan.capacity // batch_size):
            start = number * batch_size
            pixels = torch.randn(batch_size, 3, 224, 224, generator=generator, device=place)
            update(model, warm, Batch(number, torch.arange(start, start + batch_size), pixels, (), ()))
        for layer in warm:
            layer.result(top)
        del warm
    before, found = timed(lambda: [LayerStatistics(model.tower, layer, plan.capacity) for layer in layers], device)
    plain, ours = [], []
    for number in range(images // batch_size):
        pixels = torch.randn(batch_size, 3, 224, 224, generator=generator, device=place)
        positions = torch.arange(number * batch_size, (number + 1) * batch_size)
        batch = Batch(number, positions, pixels, (), ())
        plain.append(timed(lambda p=pixels: model.encode_images(p), device)[0])
        ours.append(timed(lambda b=batch: update(model, found, b), device)[0])
    after, results = timed(lambda: [layer.result(top) for layer in found], device)
    certified = torch.cat([result.certified for result in results]).float().mean()
    return {
        "model": name,
        "device": device,
        "dtype": dtype,
        "layers": f"{layers[0]}-{layers[-1]}",
        "images": len(plain) * batch_size,
        "batch_size": batch_size,
        "top": top,
        "capacity": plan.capacity,
        "plain_images_per_second": round(batch_size / statistics.median(plain), 2),
        "survey_images_per_second": round(len(plain) * batch_size / (sum(ours) + before + after), 2),
        "ratio_per_batch": round(statistics.median(a / b for a, b in zip(ours, plain, strict=True)), 3),
        "ratio_in_all": round((sum(ours) + before + after) / sum(plain), 3),
        "seconds_before": round(before, 2),
        "seconds_after": round(after, 2),
        "certified": round(float(certified), 4),
        "roofline": roofline(model, layers, batch_size, statistics.median(ours), device),
        "planned_gib": round(plan.bytes / 2**30, 2),
        "peak_gib": gpu_memory_gib() if device == "cuda" else memory_gib(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=SIZES, default="vit-b-32")
    parser.add_argument("--layers", default="8-10", help="first-last")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--top", type=int, default=100)
    parser.add_argument("--memory", type=float, help="limit in GiB")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", default="float32")
    arguments = parser.parse_args()
    first, last = map(int, arguments.layers.split("-"))
    memory = None if arguments.memory is None else int(arguments.memory * 2**30)
    layers = list(range(first, last + 1))
    record(
        "survey",
        measure(
            arguments.model,
            layers,
            arguments.images,
            arguments.batch_size,
            arguments.top,
            memory,
            arguments.device,
            arguments.dtype,
        ),
        device=arguments.device,
    )


if __name__ == "__main__":
    main()
