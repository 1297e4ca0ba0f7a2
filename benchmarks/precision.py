"""What each precision of the model costs: surveys and ablations in float32, bfloat16 and float16 beside float64.

1. A survey of the same pictures in every precision; directions, norms, explained variance against those of float64.
2. Top images: where the sets differ, the norms of the two images must tie within the measured error. Norms of all
   pictures are computed apart from the survey, densely, in the same batches.
3. The ablation study in every precision, on as many other pictures: accuracies, and predictions that change. (On the
   pictures of the survey, some norms are a threshold themselves: rounding alone would decide what is large.)

    python -m benchmarks.precision                                              the embedded model, drawn scenes
    python -m benchmarks.precision --model hf:FOLDER --images labels.csv        a model and labelled images of yours
"""

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.report import record
from secondlens.atlas import Atlas
from secondlens.cli.options import parse_layers
from secondlens.data.labelled import LabelledImages, open_labelled
from secondlens.data.loader import batches, processing_order
from secondlens.data.sources import ImageSource
from secondlens.data.sources.base import subset
from secondlens.lens import LensModel, load_model
from secondlens.lens.capture import capture
from secondlens.lens.paths import coefficients, path_weights, write_maps
from secondlens.studies.ablation import AblationStudy, ablate
from secondlens.surveys.batch_size import BATCH_SIZE
from secondlens.surveys.run import survey
from secondlens.world import scene_at, write_dataset

REFERENCE, DTYPES = "float64", ("float32", "bfloat16", "float16")
SEED = 70_011
CLEAR = 0.9
"""A direction is well defined where the second singular value is below this share of the first."""
ROUNDING = 1e-5
"""Relative: statistics hold coefficients and norms in float32, whatever the model's precision."""


@dataclass(frozen=True)
class Found:
    """One precision. norms: layer to |phi - mean| of every picture, [picture, neuron], in float64."""

    atlas: Atlas
    study: AblationStudy
    norms: dict[int, Tensor]


def run(reference: str, dtype: str, images: str, count: int, layers: list[int] | None, top: int, out: Path) -> Found:
    model = load_model(reference, dtype=dtype)
    labelled = open_labelled(images, model)
    order = processing_order(len(labelled.source.ids))
    surveyed = subset(labelled.source, sorted(order[:count]), "a sample")
    others = sorted(order[count : 2 * count])
    evaluated = LabelledImages(subset(labelled.source, others, "others"), labelled.classes, labelled.labels[others])
    atlas = survey(model, surveyed, out, layers=layers, top=top, thumbnails=False)
    return Found(atlas, ablate(model, atlas, evaluated), dense_norms(model, surveyed, atlas.layers))


@torch.no_grad()
def dense_norms(model: LensModel, source: ImageSource, layers: list[int]) -> dict[int, Tensor]:
    """|phi - mean| in the source's order, by layer: without the survey's statistics but from the same batches."""
    parts: dict[int, list[Tensor]] = {layer: [] for layer in layers}
    places = []
    order = processing_order(len(source.ids))
    for batch in batches(source, model.preprocessing.transform, order=order, batch_size=BATCH_SIZE):
        trace = capture(model.tower, batch.pixels, layers)
        places.append(batch.positions)
        for layer in layers:
            weights = path_weights(trace, model.tower, layer)
            parts[layer].append(coefficients(weights, trace.activations[layer]).double())
    found = {}
    for layer in layers:
        made = torch.cat(parts.pop(layer))
        centred = (made - made.mean(dim=0)).transpose(0, 1)
        writes = write_maps(model.tower, layer).directions(torch.arange(model.neurons)).double()
        norms = torch.cat([(a @ b).norm(dim=2) for a, b in zip(centred.split(64), writes.split(64), strict=True)]).T
        found[layer] = torch.empty_like(norms)
        found[layer][torch.cat(places)] = norms
    return found


def compare(low: Found, wide: Found) -> dict[str, Any]:
    """Errors over all neurons of all layers, medians and 99th percentiles."""
    angles, clear_angles, norms, variances, overlaps = [], [], [], [], []
    swaps, unexplained, gap = 0, 0, 0.0
    for layer in wide.atlas.layers:
        mine, theirs = low.atlas.layer(layer), wide.atlas.layer(layer)
        ours, others = (torch.nn.functional.normalize(some.directions.double(), dim=1) for some in (mine, theirs))
        angle = (1 - (ours * others).sum(dim=1).abs()).clamp(min=0)
        alive = theirs.top_norms[:, 0] > 0
        spectrum = theirs.spectrum
        clear = alive & (spectrum[:, 1] < CLEAR**2 * spectrum[:, 0])
        angles.append(angle[alive])
        clear_angles.append(angle[clear])
        reference = theirs.top_norms.double()
        norms.append(((mine.top_norms.double() - reference).abs() / reference)[alive].flatten())
        variances.append((mine.explained_variance - theirs.explained_variance).abs()[alive])
        same, pairs = swapped(mine.top_positions, theirs.top_positions)
        overlaps.append(same)
        exact, narrow = wide.norms[layer], low.norms[layer]
        for neuron, entered, gone in pairs:
            # The pair of the swap that lies widest apart.
            left = gone[exact[gone, neuron].argmax()]
            came = entered[exact[entered, neuron].argmin()]
            apart = exact[left, neuron] - exact[came, neuron]
            error = (narrow - exact)[[left, came], neuron].abs().sum() + ROUNDING * exact[left, neuron]
            swaps += len(entered)
            unexplained += int(apart > error)
            gap = max(gap, float(apart / exact[left, neuron]))
    accuracies, changed = [], []
    for one, other in zip(low.study.layers, wide.study.layers, strict=True):
        for variant in other.predicted:
            right = [
                study.right(layer, variant).double().mean() for study, layer in ((low.study, one), (wide.study, other))
            ]
            accuracies.append(100 * abs(float(right[0] - right[1])))
            changed.append((one.predicted[variant] != other.predicted[variant]).double().mean())
    return {
        "directions": spread(angles),
        "clear_directions": spread(clear_angles),
        "clear_share": round(sum(map(len, clear_angles)) / sum(map(len, angles)), 4),
        "norms": spread(norms),
        "explained_variance": spread(variances),
        "top_overlap": round(float(torch.cat(overlaps).mean()), 5),
        "top_overlap_least": round(float(torch.cat(overlaps).min()), 3),
        "swaps": swaps,
        "swaps_beyond_error": unexplained,
        "largest_gap": gap,
        "accuracy_points": round(max(accuracies), 2),
        "accuracy_points_mean": round(sum(accuracies) / len(accuracies), 3),
        "predictions_changed": round(float(torch.stack(changed).mean()), 5),
    }


def swapped(mine: Tensor, theirs: Tensor) -> tuple[Tensor, list[tuple[int, Tensor, Tensor]]]:
    """(share of the top that is the same, a neuron; neurons with others, the images only in one, only in the other)."""
    held = (mine[:, :, None] == theirs[:, None]).any(dim=2)
    kept = (theirs[:, :, None] == mine[:, None]).any(dim=2)
    some = (~held).any(dim=1).nonzero()[:, 0].tolist()
    return held.double().mean(dim=1), [(n, mine[n][~held[n]], theirs[n][~kept[n]]) for n in some]


def spread(values: list[Tensor]) -> dict[str, float]:
    found = torch.cat(values).double()
    return {"median": float(found.median()), "99 %": float(found.quantile(0.99)), "most": float(found.max())}


def measure(
    reference: str, images: str, count: int, layers: list[int] | None, top: int, folder: Path
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    wide = run(reference, REFERENCE, images, count, layers, top, folder / REFERENCE)
    for dtype in DTYPES:
        print(f"{dtype} beside {REFERENCE}", file=sys.stderr, flush=True)
        try:
            low = run(reference, dtype, images, count, layers, top, folder / dtype)
        except RuntimeError as error:
            found[dtype] = {"cannot": str(error).splitlines()[0]}
            continue
        found[dtype] = compare(low, wide)
    first = wide.study.layers[0]
    return {
        "model": reference if reference == "world:" else Path(reference.removeprefix("hf:")).name,
        "layers": f"{wide.atlas.layers[0]}-{wide.atlas.layers[-1]}",
        "neurons": len(wide.atlas.layers) * wide.atlas.manifest.model.neurons,
        "images": len(wide.study.positions),
        "top": top,
        "accuracy": round(float(wide.study.right(first, "baseline").double().mean()), 4),
        "dtypes": found,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="world:")
    parser.add_argument("--images", help="labelled, as of secondlens ablate; default: drawn scenes")
    parser.add_argument("--count", type=int, default=200, help="pictures surveyed, and others evaluated")
    parser.add_argument("--layers", help="e.g. 8-10; default: all")
    parser.add_argument("--top", type=int, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, images = Path(name), arguments.images
        if images is None:
            scenes = write_dataset(
                folder / "scenes", [scene_at(SEED, i) for i in range(2 * arguments.count)], masks=False
            )
            images = str(scenes / "labels.csv")
        layers = parse_layers(arguments.layers)
        figures = measure(arguments.model, images, arguments.count, layers, arguments.top, folder)
    places = ("--images",) if arguments.model == "world:" else ("--model", "--images")
    record("precision", figures, places=places)


if __name__ == "__main__":
    main()
