"""Whether decoding keeps up: a survey of photographs with decoding workers beside the same survey of pixels in memory.

Both run the same model and statistics over the same photographs, in turn, batch by batch of the same run.

    python -m benchmarks.decoding --model hf:MODEL --images FOLDER --workers 2
"""

import argparse
import statistics
import time

import torch

from benchmarks.report import record
from secondlens.data.loader import Batch, batches, processing_order
from secondlens.data.sources import open_source
from secondlens.lens import load_model
from secondlens.lens.layer import LayerStatistics
from secondlens.surveys.stream import update


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a reference, or 'vit-b-32' for random weights of real size")
    parser.add_argument("--images", required=True)
    parser.add_argument("--layers", default="8-10")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if ":" in arguments.model:
        model = load_model(arguments.model)
    else:
        from transformers import CLIPImageProcessorPil

        from benchmarks.survey import random_model
        from secondlens.lens.preprocessing import from_processor

        model = random_model(arguments.model)
        model.preprocessing = from_processor(CLIPImageProcessorPil())
    first, last = map(int, arguments.layers.split("-"))
    source = open_source(arguments.images)
    order = processing_order(len(source.ids))[: arguments.limit]
    settings = {"order": order, "batch_size": arguments.batch_size, "thumbnail_size": 128}

    def run(stream: object) -> float:
        found = [LayerStatistics(model.tower, layer, 200) for layer in range(first, last + 1)]
        started = time.perf_counter()
        for batch in stream:  # type: ignore[attr-defined]
            update(model, found, batch)
        return time.perf_counter() - started

    kept: list[Batch] = list(batches(source, model.preprocessing.transform, **settings))  # type: ignore[arg-type]
    decoded, memory, alone = [], [], []
    for _ in range(arguments.rounds):
        memory.append(run(kept))
        workers = arguments.workers
        decoded.append(run(batches(source, model.preprocessing.transform, workers=workers, **settings)))  # type: ignore[arg-type]
        started = time.perf_counter()
        for _ in batches(source, model.preprocessing.transform, workers=workers, **settings):  # type: ignore[arg-type]
            pass
        alone.append(time.perf_counter() - started)
    seconds = {name: statistics.median(values) for name, values in (("d", decoded), ("m", memory), ("a", alone))}
    record(
        "decoding",
        {
            "model": arguments.model.rpartition("/")[2],
            "layers": arguments.layers,
            "images": len(order),
            "workers": arguments.workers,
            "threads": torch.get_num_threads(),
            "survey_images_per_second": round(len(order) / seconds["d"], 1),
            "from_memory_images_per_second": round(len(order) / seconds["m"], 1),
            "decoding_alone_images_per_second": round(len(order) / seconds["a"], 1),
            "ratio_to_memory": round(statistics.median(d / m for d, m in zip(decoded, memory, strict=True)), 3),
        },
        places=("--model", "--images"),
    )


if __name__ == "__main__":
    main()
