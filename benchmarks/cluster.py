"""What Ray costs beside the same work by as many plain processes: two workers against two processes, on one machine.

Both survey the same images on random weights of real size, on one core each. A plain process surveys every other batch
by itself, alone with its cores' share of the machine, and its statistics stay in it. The cluster's figure is everything
that `cluster_survey` does but the start of Ray, of its workers and of their models: shards to the driver, to the disk,
merged, checkpoints. What follows a pass in both (results, manifest) is timed apart and in neither.

    python -m benchmarks.cluster --model vit-b-32 --layers 8-10 --images 2048
"""

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPModel

from benchmarks.report import record
from benchmarks.survey import SIZES
from secondlens.data.loader import batches, processing_order
from secondlens.data.sources import open_source
from secondlens.lens import load_model
from secondlens.lens.layer import LayerStatistics
from secondlens.surveys.checkpoint import Progress, kept_embeddings
from secondlens.surveys.cluster.costs import Costs
from secondlens.surveys.cluster.crew import Crew, Share, connected
from secondlens.surveys.cluster.survey import by_crew, part_count
from secondlens.surveys.cluster.worker import Setup, SurveyWorker
from secondlens.surveys.job import THUMBNAIL_SIZE, Job, Scan
from secondlens.surveys.plan import make_plan
from secondlens.surveys.progress import SurveyBar
from secondlens.surveys.run import Run, Surveyor
from secondlens.surveys.stream import update


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=[*SIZES, "tiny"], default="vit-b-32")
    parser.add_argument("--layers", default="8-10", help="first-last")
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--top", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="each way in turn; the least counts")
    arguments = parser.parse_args()
    first, last = map(int, arguments.layers.split("-"))
    with tempfile.TemporaryDirectory() as folder:
        record("cluster", measure(Path(folder), arguments, list(range(first, last + 1))))


def measure(folder: Path, arguments: argparse.Namespace, layers: list[int]) -> dict[str, Any]:
    """Both ways in turn, the cluster's with the same workers throughout."""
    torch.set_num_threads(1)
    reference, pictures = (
        save_model(folder / "model", arguments.model),
        save_pictures(folder / "images", arguments.images),
    )
    started = time.perf_counter()
    model = load_model(reference)
    source = open_source(pictures)
    plan = make_plan(model, layers, arguments.images, arguments.top, arguments.batch_size)
    plain, shared, costs = [], [], Costs([])
    with connected(cpus=arguments.workers) as ray:
        setup = Setup(reference, "cpu", "float32", arguments.batch_size, 1, 0, str(folder))
        with Crew(ray, SurveyWorker, (setup,), Share(arguments.workers, 1, 0, False)) as crew:
            crew.start()
            start = time.perf_counter() - started
            for number in range(arguments.rounds):
                plain.append(by_processes(reference, pictures, layers, plan.capacity, arguments))
                costs = Costs([])
                job = Job(model, source, plan, arguments.top, "centred", arguments.batch_size)
                surveyor = Timed(by_crew(crew, costs, ray.put(source)))
                with SurveyBar(False) as bar:
                    parts = part_count(job, arguments.workers, None)
                    Run(job, folder / f"atlas-{number}", surveyor).conduct(bar, parts)
                shared.append(surveyor.seconds)
    return {
        "model": arguments.model,
        "layers": arguments.layers,
        "images": arguments.images,
        "batch_size": arguments.batch_size,
        "top": arguments.top,
        "workers": arguments.workers,
        "processes_seconds": [round(seconds, 2) for seconds in plain],
        "cluster_seconds": [round(seconds, 2) for seconds in shared],
        "ratio": round(min(shared) / min(plain), 3),
        "shards": sum(node.pieces for node in costs.nodes()),
        "start_seconds": round(start, 1),
    }


class Timed:
    """A surveyor that counts the seconds of the first pass."""

    def __init__(self, surveyor: Surveyor) -> None:
        self.surveyor = surveyor
        self.seconds = 0.0

    def __call__(self, run: Run, scan: Scan, progress: Progress) -> Iterator[LayerStatistics]:
        started = time.perf_counter()
        statistics = list(self.surveyor(run, scan, progress))
        self.seconds = self.seconds or time.perf_counter() - started
        return iter(statistics)


def by_processes(
    reference: str, pictures: Path, layers: list[int], capacity: int, arguments: argparse.Namespace
) -> float:
    """Seconds of the slowest of as many plain processes, after their own start."""
    context = multiprocessing.get_context("spawn")
    barrier, seconds = context.Barrier(arguments.workers), context.Queue()
    common = (reference, pictures, layers, capacity, arguments.batch_size, arguments.workers, barrier, seconds)
    processes = [context.Process(target=one_process, args=(number, *common)) for number in range(arguments.workers)]
    for process in processes:
        process.start()
    found = [seconds.get() for _ in processes]
    for process in processes:
        process.join()
    return max(found)


def one_process(
    number: int,
    reference: str,
    pictures: Path,
    layers: list[int],
    capacity: int,
    batch_size: int,
    workers: int,
    barrier: Any,
    seconds: Any,
) -> None:
    """Every `workers`-th batch: decoded, captured, into statistics."""
    torch.set_num_threads(1)
    model, source = load_model(reference), open_source(pictures)
    order = processing_order(len(source.ids))
    mine = [place for place in range(len(order)) if place // batch_size % workers == number]
    statistics = [LayerStatistics(model.tower, layer, min(capacity, len(mine))) for layer in layers]
    barrier.wait()
    started = time.perf_counter()
    with torch.no_grad():
        for batch in batches(
            source,
            model.preprocessing.transform,
            order=[order[place] for place in mine],
            batch_size=batch_size,
            thumbnail_size=THUMBNAIL_SIZE,
        ):
            kept_embeddings(update(model, statistics, batch))
    seconds.put(time.perf_counter() - started)


def save_model(folder: Path, name: str) -> str:
    """A CLIP with random weights of real size, as a folder."""
    torch.manual_seed(0)
    tiny = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 12, "num_attention_heads": 4,
            "patch_size": 32, "projection_dim": 32}  # fmt: skip
    sizes = dict(SIZES.get(name, tiny))
    text = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    embed = sizes.pop("projection_dim")
    config = CLIPConfig(vision_config={"image_size": 224, **sizes}, text_config=text, projection_dim=embed)
    CLIPModel(config).save_pretrained(folder)
    return f"hf:{folder}"


def save_pictures(folder: Path, count: int) -> Path:
    """Photograph-sized JPEGs of smooth noise."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
        coarse.resize((256, 256), Image.Resampling.BICUBIC).save(folder / f"{number:06d}.jpg")
    return folder


if __name__ == "__main__":
    main()
