"""First-order effects: what accuracy is left when direct contributions are held at their means.

A direct contribution x (of an attention layer, a head, an MLP) is replaced by its mean over reference images:

    z/|z| - (x - mean x)

and so for several at once. Accumulated from the last layer down (Gandelsman et al. 2025, figures 11 and 12; the means
as in Gandelsman et al. 2024, section 3.3) for three curves: the attention layers; the MLPs; and the attention layers
with all MLPs held before the first step. Each head is also replaced alone. Two passes: means, then accuracies.

Beside them, how much a contribution varies at all: `spread` = sqrt(mean |x - mean x|^2) against |mean x|, for heads,
MLPs and every single neuron's direct effect.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from secondlens.data.labelled import LabelledImages
from secondlens.data.loader import Stream, processing_order, stream
from secondlens.data.sources import ImageSource
from secondlens.errors import ImageError
from secondlens.lens.capture import capture
from secondlens.lens.classifier import Head, make_head
from secondlens.lens.first_order import DirectEffects, direct_effects, direct_neurons
from secondlens.lens.model import LensModel
from secondlens.lens.tower import VisionTower
from secondlens.lens.trace import POOL_MLP, CaptureRequest, Trace
from secondlens.progress import RUNNING, Running
from secondlens.studies.indirect import accuracy

CURVES = ("attentions", "MLPs", "attentions, MLPs held")


class Moments:
    """Mean and spread of vectors, by name of a part, in float64; parts can be merged."""

    def __init__(self) -> None:
        self.count = 0
        self.sum: dict[str, Tensor] = {}
        self.square: dict[str, Tensor] = {}

    def update(self, **parts: Float[Tensor, "image ... embed"]) -> None:
        """Take in some images."""
        for name, part in parts.items():
            wide = part.double()
            self._add(name, wide.sum(dim=0), wide.square().sum(dim=-1).sum(dim=0))
        self.count += len(next(iter(parts.values())))

    def merge(self, other: "Moments") -> None:
        """Add what another pass over other images found."""
        for name in other.sum:
            self._add(name, other.sum[name], other.square[name])
        self.count += other.count

    def mean(self, name: str) -> Float[Tensor, "... embed"]:
        """The mean vectors."""
        return self.sum[name] / self.count

    def spread(self, name: str) -> Float[Tensor, "..."]:
        """sqrt(mean |x - mean x|^2)."""
        about_zero = self.square[name] / self.count
        return (about_zero - self.mean(name).square().sum(dim=-1)).clamp(min=0).sqrt()

    def _add(self, name: str, total: Tensor, square: Tensor) -> None:
        self.sum[name] = self.sum[name] + total if name in self.sum else total
        self.square[name] = self.square[name] + square if name in self.square else square


@dataclass(frozen=True)
class FirstOrderStudy:
    """What was found. right: of the unchanged model. curves: by name, after each step, whether each image was right.

    heads: with one head alone at its mean. moments: "heads" [reader, head, embed] and "mlps" [layer, embed].
    neurons: by layer (-1: a pooling head's MLP), |mean| and spread of each neuron's direct effect.
    """

    right: Bool[Tensor, " image"]
    curves: dict[str, Bool[Tensor, "step image"]]
    heads: Bool[Tensor, "reader head image"]
    moments: Moments
    neurons: dict[int, tuple[Float[Tensor, " neuron"], Float[Tensor, " neuron"]]]


@torch.no_grad()
def study_first_order(
    model: LensModel,
    images: LabelledImages,
    reference: ImageSource | None = None,
    *,
    templates: Sequence[str] | None = None,
    limit: int = 5000,
    running: Running = RUNNING,
) -> FirstOrderStudy:
    """Replace direct contributions by their means over `reference` (default: the labelled images themselves).

    templates: of a zero-shot classifier; default: those that fit the model. limit: images of either at most, drawn at
    random.

    Raises `ImageError` where none can be read.
    """
    tower = model.tower

    def read(title: str, source: ImageSource) -> Stream:
        order = processing_order(len(source.ids))[:limit]
        return stream(source, model.preprocessing.transform, order, running, title)

    moments, neurons = Moments(), _NeuronMoments(tower)
    for batch in read("means", images.source if reference is None else reference):
        trace = capture(tower, batch.pixels, CaptureRequest(first_order=True))
        parts = direct_effects(tower, trace)
        moments.update(heads=parts.heads, mlps=parts.mlps)
        neurons.update(trace)
    if not moments.count:
        raise ImageError("expected at least one readable image to take means over, got none")
    head = make_head(model, images.classes, templates)
    right: list[Tensor] = []
    curves: dict[str, list[Tensor]] = {name: [] for name in CURVES}
    alone: list[Tensor] = []
    for batch in read("accuracy", images.source):
        trace = capture(tower, batch.pixels, CaptureRequest(first_order=True))
        wanted = images.labels[batch.positions].to(model.device)
        norms = trace.embeddings.norm(dim=1)
        unit = trace.embeddings / norms[:, None]
        parts = direct_effects(tower, trace)
        right.append((head.predict(unit, norms) == wanted).cpu())
        for name, removed in accumulated(parts, moments).items():
            curves[name].append(_right(head, unit, norms, removed, wanted))
        centred = parts.heads - moments.mean("heads").to(parts.heads)
        each = _right(head, unit, norms, centred.flatten(1, 2).transpose(0, 1), wanted)
        alone.append(each.unflatten(0, centred.shape[1:3]))
    return FirstOrderStudy(
        right=torch.cat(right),
        curves={name: torch.cat(found, dim=1) for name, found in curves.items()},
        heads=torch.cat(alone, dim=2),
        moments=moments,
        neurons=neurons.result(),
    )


def accumulated(parts: DirectEffects, moments: Moments) -> dict[str, Float[Tensor, "step image embed"]]:
    """What to take from the unit-norm embedding at each step of each curve; step 0 of the first two is nothing."""
    attentions = (parts.heads - moments.mean("heads").to(parts.heads)).sum(dim=2).transpose(0, 1)
    mlps = (parts.mlps - moments.mean("mlps").to(parts.mlps)).transpose(0, 1)
    steps = [torch.cat([torch.zeros_like(x[:1]), x.flip(0).cumsum(dim=0)]) for x in (attentions, mlps)]
    return dict(zip(CURVES, (*steps, steps[0] + mlps.sum(dim=0)), strict=True))


def _right(
    head: Head,
    unit: Float[Tensor, "image embed"],
    norms: Float[Tensor, " image"],
    removed: Float[Tensor, "step image embed"],
    wanted: Tensor,
) -> Bool[Tensor, "step image"]:
    return torch.stack([(head.predict(unit - part, norms) == wanted).cpu() for part in removed])


class _NeuronMoments:
    """Direct effects of neurons are a coefficient an image times a fixed vector: two sums a neuron suffice."""

    def __init__(self, tower: VisionTower) -> None:
        self.tower = tower
        self.layers = [POOL_MLP] if tower.pool_mlp is not None else list(range(len(tower.mlps)))
        self.count = 0
        self.sums: dict[int, Tensor] = {}
        self.squares: dict[int, Tensor] = {}
        self.norms: dict[int, Tensor] = {}

    def update(self, trace: Trace) -> None:
        scale = 1 / trace.final_scale
        for layer in self.layers:
            if layer not in self.norms:
                self.norms[layer] = direct_neurons(self.tower, trace, layer).writes.double().norm(dim=1)
            values = (trace.pooled_activations[layer] * scale[:, None]).double()
            self.sums[layer] = self.sums.get(layer, 0) + values.sum(dim=0)
            self.squares[layer] = self.squares.get(layer, 0) + values.square().sum(dim=0)
        self.count += len(trace.embeddings)

    def result(self) -> dict[int, tuple[Tensor, Tensor]]:
        found = {}
        for layer in self.layers:
            mean = self.sums[layer] / self.count
            variance = (self.squares[layer] / self.count - mean.square()).clamp(min=0)
            norms = self.norms[layer]
            found[layer] = ((mean.abs() * norms).float().cpu(), (variance.sqrt() * norms).float().cpu())
        return found


TINY = 1e-12


def summary(study: FirstOrderStudy) -> dict[str, Any]:
    """Accuracy after each step of each curve, and by MLP how constant direct effects of single neurons are.

    `held`: how many layers, from the last down, are at their means. `relative_spread`: median over a layer's neurons of
    spread / |mean|.
    """
    curves = {
        name: [{"held": held, **accuracy(right)} for held, right in enumerate(steps)]
        for name, steps in study.curves.items()
    }
    neurons = [
        {"layer": layer, "relative_spread": float((spread / mean.clamp(min=TINY)).median()),
         "largest_spread": float(spread.max())}
        for layer, (mean, spread) in study.neurons.items()
    ]  # fmt: skip
    return {
        "images": len(study.right),
        "reference_images": study.moments.count,
        "baseline": accuracy(study.right),
        "curves": curves,
        "neurons": neurons,
    }
