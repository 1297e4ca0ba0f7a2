"""Directions of the indirect effects of *all* neurons of some layers, as a file: what a baseline of the attack reads.

1. A layer's mean activations over the reference images.
2. Some neurons at a time: their exact indirect effects on the same images, and the first component of the largest.

Every part is kept beside the file until all are done, so that an interrupted run goes on from there.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from secondlens.atlas.store import Atlas
from secondlens.atlas.surveyed import require_unchanged
from secondlens.data.loader import processing_order, stream
from secondlens.data.sources import ImageSource
from secondlens.disk.files import write_tensors
from secondlens.disk.journal import settings_differ
from secondlens.disk.lock import one_writer
from secondlens.disk.resumable import Resumable
from secondlens.errors import SecondLensError
from secondlens.lens.capture import capture
from secondlens.lens.indirect import ROWS, Clean, IndirectStatistics, MeanActivations, effects_of
from secondlens.lens.model import LensModel
from secondlens.progress import RUNNING, Running

IMAGES = 300
"""Reference images by default: a neuron costs a run of the layers above for each."""
PART = 256
"""Neurons a part: its images are run once without change, and it is what an interruption loses at most."""


@torch.no_grad()
def write_indirect_directions(
    model: LensModel,
    atlas: Atlas,
    reference: ImageSource,
    layers: Sequence[int],
    out: Path,
    *,
    limit: int = IMAGES,
    rows: int = ROWS,
    running: Running = RUNNING,
) -> dict[str, Any]:
    """Write a safetensors file with `layer-LL` [neuron, embed], unit-norm, and `layer-LL-explained` [neuron].

    reference: images for means and components, as a rule those of the atlas; the first `limit` of a fixed random order.
    As many of them count as a neuron's largest effects as in the atlas, in proportion. rows: neurons times images at a
    time. Returns layers, images, top, and the mean share explained by layer. A finished file of the same settings is
    left as it is.

    Raises `AtlasError` for an atlas of another model or without a layer, `SecondLensError` for a limit below 2 or a
    file of other settings, `ImageError` for one of `surveyed_images` that was replaced since the survey.
    """
    atlas.require_model(model)
    chosen = sorted(set(layers))
    for layer in chosen:
        atlas.layer(layer)
    if limit < 2 or not chosen:
        raise SecondLensError(f"expected a layer and two reference images or more, got {list(layers)} and {limit}")
    order = processing_order(len(reference.ids))[:limit]
    share = atlas.manifest.top / max(1, atlas.manifest.images.count)
    top = min(len(order), max(2, round(share * len(order))))
    images = hashlib.sha256("\n".join(str(reference.ids[place]) for place in order).encode()).hexdigest()
    settings = {"model": model.weights_hash, "images": images, "count": len(order), "top": top, "part": PART}
    parts = out.with_name(f"{out.name}.parts")
    if out.is_file() and not parts.is_dir():
        return _facts(out, chosen, settings)
    with one_writer(parts):
        kept = Resumable(parts, settings, advice="remove it, or write another file")
        starts = range(0, model.neurons, PART)
        for layer in chosen:
            missing = [first for first in starts if _part(layer, first) not in kept]
            if not missing:
                continue
            means = _means(model, layer, reference, order, running)
            for first in missing:
                neurons = list(range(first, min(first + PART, model.neurons)))
                found = IndirectStatistics(len(neurons), model.embed_dim, min(len(order), 4 * top))
                place = len(starts) - len(missing) + missing.index(first)
                for batch in stream(
                    reference, model.preprocessing.transform, order, running, f"indirect effects, layer {layer}",
                    before=place * len(order), total=len(starts) * len(order),
                ):  # fmt: skip
                    clean = Clean.run(model.tower, batch.pixels, layer)
                    found.update(effects_of(model.tower, layer, clean, means, neurons, rows=rows), batch.positions)
                result = found.result(min(top, found.count))
                part = {
                    "directions": result.directions.contiguous(),
                    "explained": result.explained_variance.contiguous(),
                }
                kept.keep(_part(layer, first), lambda path, part=part: save_file(part, path))  # type: ignore[misc]
        written: dict[str, Tensor] = {}
        for layer in chosen:
            found_parts = [load_file(kept[_part(layer, first)]) for first in starts]
            written[f"layer-{layer:02d}"] = torch.cat([part["directions"] for part in found_parts])
            written[f"layer-{layer:02d}-explained"] = torch.cat([part["explained"] for part in found_parts])
        # One entry: the order of several would differ from run to run, and with it the file's hash.
        write_tensors(out, written, {"settings": json.dumps(settings)})
        kept.done()
    return _facts(out, chosen, settings)


def _part(layer: int, first: int) -> str:
    return f"layer-{layer:02d}-{first:05d}.safetensors"


def _means(model: LensModel, layer: int, reference: ImageSource, order: Sequence[int], running: Running) -> Tensor:
    means = MeanActivations()
    title = f"mean activations, layer {layer}"
    for batch in stream(reference, model.preprocessing.transform, order, running, title):
        trace = capture(model.tower, batch.pixels, [layer])
        require_unchanged(reference, batch.positions, trace.embeddings)
        means.update(trace.activations[layer])
    return means.result()


def _facts(path: Path, layers: Sequence[int], settings: dict[str, Any]) -> dict[str, Any]:
    """What a finished file holds; refuses one of other settings or without a layer."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        known, names = json.loads((file.metadata() or {}).get("settings", "{}")), set(file.keys())
        differ = settings_differ(known, settings)
        lacking = [layer for layer in layers if f"layer-{layer:02d}" not in names]
        if differ or lacking:
            what = f"other settings: {differ}" if differ else f"no layer {lacking[0]}"
            raise SecondLensError(f"{path} was made with {what}; remove it, or write another file")
        explained = {layer: float(file.get_tensor(f"layer-{layer:02d}-explained").mean()) for layer in layers}
    return {
        "file": str(path),
        "layers": list(layers),
        "images": settings["count"],
        "top": settings["top"],
        "explained": {str(layer): value for layer, value in explained.items()},
    }
