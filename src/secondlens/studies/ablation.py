"""Accuracy with a layer's effects replaced, for all layers in one pass over labelled images (paper, figure 3).

1. One ablator a layer, from the atlas alone (`ablator`); layers that do not fit into memory together go in several
   passes.
2. In every batch: one captured forward pass, every variant of every layer, the class that each predicts.
3. Only predicted classes are kept: four bytes an image, layer and variant.

Evaluation images that the survey saw are counted, by their embeddings: an atlas keeps those of its images, and the same
picture has the same embedding whatever its file is called.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from secondlens.atlas.manifest import ids_hash
from secondlens.atlas.store import Atlas
from secondlens.data.labelled import LabelledImages
from secondlens.data.loader import Skipped, processing_order, stream
from secondlens.descriptions.pool import Pool
from secondlens.descriptions.store import Descriptions
from secondlens.disk.lock import one_writer
from secondlens.errors import AtlasError, ImageError
from secondlens.lens.capture import capture
from secondlens.lens.classifier import Head, default_templates, make_head
from secondlens.lens.model import LensModel
from secondlens.lens.trace import Trace
from secondlens.numerics.intervals import bootstrap_interval, paired_difference
from secondlens.progress import RUNNING, Running
from secondlens.studies.ablation_progress import AblationCheckpoints, Collected
from secondlens.studies.ablator import BASELINE, LayerAblator, ablator_bytes, group_layers
from secondlens.studies.descriptions import reconstructions
from secondlens.surveys.plan import free_memory


@dataclass(frozen=True)
class LayerAblation:
    """One layer. predicted: by variant, the class of each image. large: share of images with a large effect."""

    layer: int
    predicted: dict[str, Int[Tensor, " image"]]
    large: Float[Tensor, " neuron"]


@dataclass(frozen=True)
class AblationStudy:
    """All layers over the same images.

    positions: images in `images.source.ids`. labels: their classes. surveyed: whether the survey saw them.
    passes: over the images. own_head: the model's own classifier, else zero-shot with `templates`.
    """

    images: LabelledImages
    positions: Int[Tensor, " image"]
    labels: Int[Tensor, " image"]
    surveyed: Bool[Tensor, " image"]
    layers: list[LayerAblation]
    skipped: list[Skipped]
    passes: int
    own_head: bool
    templates: tuple[str, ...]

    def right(self, layer: LayerAblation, variant: str) -> Bool[Tensor, " image"]:
        """Whether each image was classified right."""
        return layer.predicted[variant] == self.labels


@torch.no_grad()
def ablate(
    model: LensModel,
    atlas: Atlas,
    images: LabelledImages,
    *,
    layers: Sequence[int] | None = None,
    described: Sequence[tuple[Descriptions, Pool]] = (),
    sizes: Sequence[int] | None = None,
    templates: Sequence[str] | None = None,
    limit: int | None = None,
    memory: int | None = None,
    out: Path | None = None,
    running: Running = RUNNING,
) -> AblationStudy:
    """Classify labelled images with the effects of each layer replaced in every way of `ablator`.

    layers: of the atlas, all by default. described: descriptions to reconstruct directions from, each with its pool, by
    the first m texts for m in `sizes` (default: the description's own). templates: of a zero-shot classifier; default:
    those that fit the model. limit: images at most, drawn at random but always the same. memory: limit in bytes of
    what the layers of one pass take; by default three quarters of what is free. out: the folder that `write_study` will
    be given; a study that was interrupted goes on from its checkpoint there.

    Raises `AtlasError` for an atlas of another model or a layer that it lacks, `ImageError` where no image can be read,
    `SurveyError` where `out` holds an unfinished study of other settings.
    """
    atlas.require_model(model)
    if limit is not None and limit < 1:
        raise ImageError(f"expected to evaluate at least one image, got --limit {limit}")
    chosen = [atlas.layer(index).index for index in (atlas.layers if layers is None else sorted(set(layers)))]
    order = processing_order(len(images.source.ids))[:limit]
    templates = default_templates(model) if templates is None else templates
    head = make_head(model, images.classes, templates)
    settings = {
        "atlas": [atlas.manifest.model.weights_sha256, atlas.manifest.created],
        "images": ids_hash([images.source.ids[position] for position in order]),
        "classes": ids_hash([*images.classes, *map(str, images.labels.tolist())]),
        "templates": list(templates),
        "descriptions": [[found.name, found.card.created] for found, _ in described],
        "texts": list(sizes or ()),
        "precision": str(model.dtype),
        "batch size": running.batch_size,
    }
    with one_writer(out):
        checkpoints = AblationCheckpoints(out, {**settings, "layers": chosen})
        run = _Run(model, atlas, images, order, head, checkpoints, running)
        targets = len(described) * len(sizes or (0,) * 6)
        found = checkpoints.load(_groups(model, chosen, targets, running.batch_size, memory))
        groups = found.groups
        for number, group in enumerate(groups):
            if number < found.group:
                continue
            ablators = []
            for index in group:
                ablator = LayerAblator.of(model, atlas.layer(index))
                for name, directions in reconstructions(atlas, index, described, sizes).items():
                    ablator.add(name, directions)
                ablators.append(ablator)
            run.scan(ablators, found, "images" if len(groups) == 1 else f"images, pass {number + 1} of {len(groups)}")
            # Their memory is free before the next ones are made.
            del ablators, ablator
    positions = torch.cat(found.positions)
    return AblationStudy(
        images=images,
        positions=positions,
        labels=images.labels[positions],
        surveyed=torch.cat(found.surveyed),
        layers=[
            LayerAblation(
                layer,
                {name: torch.cat(parts) for name, parts in found.predicted[layer].items()},
                found.large[layer] / len(positions),
            )
            for layer in chosen
        ],
        skipped=found.skipped,
        passes=len(groups),
        own_head=head.own,
        templates=() if head.own else tuple(templates),
    )


class _Run:
    """A pass over the images, as often as there are groups of layers."""

    def __init__(
        self,
        model: LensModel,
        atlas: Atlas,
        images: LabelledImages,
        order: list[int],
        head: Head,
        checkpoints: AblationCheckpoints,
        running: Running,
    ) -> None:
        self.model, self.images, self.order, self.head = model, images, order, head
        self.checkpoints, self.running = checkpoints, running
        self.known = _KnownImages(atlas, model)

    def scan(self, ablators: list[LayerAblator], found: Collected, title: str) -> None:
        """All images that are left of a pass into `found`."""
        layers = [ablator.layer for ablator in ablators]
        for ablator in ablators:
            if ablator.layer in found.large:
                ablator.large += found.large[ablator.layer].to(ablator.large)
        before, count = list(found.skipped), len(self.order)
        self.running.progress(title, min(found.batch * self.running.batch_size, count), count)
        read = stream(
            self.images.source, self.model.preprocessing.transform, self.order, self.running, title, first=found.batch
        )
        for batch in read:
            trace = capture(self.model.tower, batch.pixels, layers)
            if found.group == 0:
                found.positions.append(batch.positions)
                found.surveyed.append(self.known.seen(trace))
                found.skipped = before + read.skipped
            classify(ablators, self.head, trace, found.predicted)
            found.batch = batch.number + 1
            if self.checkpoints.due():
                found.note_large(ablators)
                self.checkpoints.save(found)
        if found.group == 0:
            found.skipped = before + read.skipped
        if not found.positions:
            raise ImageError(
                f"none of the {len(self.order)} images could be read (first: {found.skipped[0].reason}); "
                "expected pictures in a supported format"
            )
        found.note_large(ablators)
        found.group, found.batch = found.group + 1, 0
        self.checkpoints.save(found)


def classify(
    ablators: Sequence[LayerAblator], head: Head, trace: Trace, predicted: dict[int, dict[str, list[Tensor]]]
) -> None:
    """Add the classes that each layer's variants give to one captured batch."""
    norms = trace.embeddings.norm(dim=1)
    for ablator in ablators:
        variants = ablator.ablate(trace)
        changed = torch.cat(list(variants.values())).float()
        classes = head.predict(changed, norms.float().repeat(len(variants))).to(torch.int32).cpu()
        mine = predicted.setdefault(ablator.layer, {})
        for name, part in zip(variants, classes.split(len(norms)), strict=True):
            mine.setdefault(name, []).append(part)


def _groups(
    model: LensModel, layers: Sequence[int], targets: int, batch_size: int, memory: int | None
) -> list[list[int]]:
    tower = model.tower
    height, width = tower.image_size
    tokens = (height // tower.patch) * (width // tower.patch) + tower.prefix_tokens
    sizes = {layer: ablator_bytes(tower, layer, targets, batch_size, tokens) for layer in layers}
    if memory is None:
        memory = free_memory(model.device) * 3 // 4
    return group_layers(sizes, memory)


class _KnownImages:
    """Tells images that a survey saw by their unit-norm embeddings, which the atlas has in half precision."""

    # Half precision moves a unit vector by at most 2^-11 = 4.9e-4 of its length.
    DISTANCE = 1e-3

    def __init__(self, atlas: Atlas, model: LensModel) -> None:
        try:
            self.embeddings = atlas.image_embeddings.to(model.device)
        except AtlasError:
            # An older atlas: nothing can be said.
            self.embeddings = torch.zeros(1, model.embed_dim, device=model.device)
        self.distance = max(self.DISTANCE, 8 * torch.finfo(model.dtype).eps)

    def seen(self, trace: Trace) -> Bool[Tensor, " image"]:
        """Whether each image of a batch was surveyed."""
        unit = torch.nn.functional.normalize(trace.embeddings.float(), dim=1)
        nearest = self.embeddings[(unit @ self.embeddings.T).argmax(dim=1)]
        return ((unit - nearest).norm(dim=1) < self.distance).cpu()


def summary(study: AblationStudy) -> dict[str, Any]:
    """Plain data. A layer's accuracies stand under the variants' names, as plain numbers; `intervals` holds 95 %
    bootstrap intervals, `differences` each variant less the baseline (paired; `PairedDifference`), `large_fraction` the
    share of (image, neuron) pairs above the survey's thresholds.
    """
    return {
        "images": len(study.positions),
        "classes": len(study.images.classes),
        "skipped": len(study.skipped),
        "surveyed_images": int(study.surveyed.sum()),
        "classifier": "own head" if study.own_head else "zero-shot",
        "templates": list(study.templates),
        "passes": study.passes,
        "layers": [_layer(study, layer) for layer in study.layers],
    }


def _layer(study: AblationStudy, layer: LayerAblation) -> dict[str, Any]:
    right = {name: study.right(layer, name) for name in layer.predicted}
    return {
        "layer": layer.layer,
        **{name: float(values.double().mean()) for name, values in right.items()},
        "intervals": {name: list(bootstrap_interval(values)) for name, values in right.items()},
        "differences": {
            name: asdict(paired_difference(right[BASELINE], values))
            for name, values in right.items()
            if name != BASELINE
        },
        "large_fraction": float(layer.large.double().mean()),
    }
