"""How far can descriptions be trusted? Everything that needs images, in one pass over them.

For every layer, over held-out labelled images:

- **Accuracy** with all effects replaced: by their mean, by their projection on the direction (rank one), and by the
  reconstruction of the direction from m texts, for several pools and m. `paper`: the coefficient <phi - mean, r> from
  the true direction, times the reconstructed one (Gandelsman et al. 2025, figure 4). `released`: the coefficient from
  the reconstructed direction, as the paper's released code computes it.
- **Prediction**: for each neuron the rank correlation over images of its true coefficient and the one that its words
  predict, <z/|z| - mean, r'>, and the ROC-AUC of the latter for images above the survey's threshold. `mismatched` is
  the same with the words of another neuron.
- **Stability**: the survey repeated on these images: cosine of the directions and overlap of the first words; and
  overlap with the words found in a random half of the pool, of those in it.
- **Second opinion**: the label that the neuron's activations on these images give (`descriptions.dissect`), and how
  near it is to the nearest of the first words; `mismatched`, to those of another neuron.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from secondlens.atlas.store import Atlas
from secondlens.data.labelled import LabelledImages
from secondlens.data.loader import processing_order, stream
from secondlens.descriptions.dissect import dissect
from secondlens.descriptions.pool import Pool
from secondlens.descriptions.store import Descriptions
from secondlens.lens.capture import capture
from secondlens.lens.classifier import make_head
from secondlens.lens.layer import LayerStatistics
from secondlens.lens.model import LensModel
from secondlens.numerics.agreement import auc, overlap, rank_correlation
from secondlens.numerics.intervals import bootstrap_interval
from secondlens.numerics.sparse.codes import sparse_decompose
from secondlens.numerics.sparse.dictionary import text_atoms
from secondlens.numerics.sparse.omp import refit
from secondlens.progress import RUNNING, Running
from secondlens.studies.projections import Projector

FIRST_WORDS = 10
"""Words of a description that are compared with another one's."""


@dataclass
class LayerStudy:
    """What the pass found of one layer. right: by name of a replacement, whether each image was classified right.
    neurons: figures by name, [neuron].
    """

    layer: int
    right: dict[str, Bool[Tensor, " image"]]
    neurons: dict[str, dict[str, Float[Tensor, " neuron"]]]
    labels: dict[str, list[str]]


@dataclass(frozen=True)
class DescriptionStudy:
    """What was found of all layers, and the descriptions that were studied."""

    layers: list[LayerStudy]
    described: list[Descriptions]


@dataclass
class _Collected:
    x: list[Tensor] = field(default_factory=list)
    activations: list[Tensor] = field(default_factory=list)
    right: dict[str, list[Tensor]] = field(default_factory=dict)


@torch.no_grad()
def study_descriptions(
    model: LensModel,
    atlas: Atlas,
    images: LabelledImages,
    described: Sequence[tuple[Descriptions, Pool]],
    *,
    templates: Sequence[str] | None = None,
    limit: int = 5000,
    seed: int = 0,
    running: Running = RUNNING,
) -> DescriptionStudy:
    """Study the descriptions of an atlas, over one or several pools, on labelled images that it was not made of.

    templates: of a zero-shot classifier; default: those that fit the model.
    limit: images at most, drawn at random; their projections and activations
    are held, 8 bytes an image and neuron.

    Raises `AtlasError` for an atlas of another model.
    """
    atlas.require_model(model)
    order = processing_order(len(images.source.ids))[:limit]
    head = make_head(model, images.classes, templates)
    truth = images.labels.to(model.device)
    projectors = {index: Projector(model, atlas.layer(index)) for index in atlas.layers}
    rebuilt = {index: reconstructions(atlas, index, described) for index in atlas.layers}
    places = {
        index: {name: projectors[index].add(directions.to(model.device)) for name, directions in rebuilt[index].items()}
        for index in atlas.layers
    }
    top = max(2, round(atlas.manifest.top * len(order) / max(1, atlas.manifest.images.count)))
    again = {
        index: LayerStatistics(model.tower, index, min(4 * top, len(order)), atlas.manifest.convention)
        for index in atlas.layers
    }
    collected = {index: _Collected() for index in atlas.layers}
    embeddings = []
    for batch in stream(images.source, model.preprocessing.transform, order, running):
        trace = capture(model.tower, batch.pixels, atlas.layers)
        norms = trace.embeddings.norm(dim=1)
        unit = trace.embeddings / norms[:, None]
        embeddings.append(unit.cpu())
        wanted = truth[batch.positions.to(truth.device)]
        for index, projector in projectors.items():
            again[index].update(trace, batch.positions)
            part = projector.part(trace)
            mine = collected[index]
            mine.x.append(part.x.cpu())
            mine.activations.append(part.activations.cpu())
            directions = atlas.layer(index).directions.to(part.x)
            variants = {"baseline": unit, "without_all": part.rest, "rank_one": part.rest + part.x @ directions}
            for name, place in places[index].items():
                target = rebuilt[index][name].to(part.x)
                variants[f"{name} paper"] = part.rest + part.x @ target
                variants[f"{name} released"] = part.rest + part.other[place] @ target
            for name, changed in variants.items():
                mine.right.setdefault(name, []).append((head.predict(changed, norms) == wanted).cpu())
    found = torch.cat(embeddings)
    studies = []
    for number, index in enumerate(atlas.layers):
        running.progress("neurons", number, len(atlas.layers))
        directions = again[index].result(min(top, len(found))).directions.cpu()
        studies.append(_layer_study(atlas, index, described, rebuilt[index], collected[index], found, directions, seed))
    running.progress("neurons", len(atlas.layers), len(atlas.layers))
    return DescriptionStudy(studies, [description for description, _ in described])


def name_of(pool: str, size: int) -> str:
    """How a reconstruction is called."""
    return f"{pool} {size}"


def reconstructions(
    atlas: Atlas, layer: int, described: Sequence[tuple[Descriptions, Pool]], sizes: Sequence[int] | None = None
) -> dict[str, Float[Tensor, "neuron embed"]]:
    """Least-squares reconstructions of a layer's directions from the first m texts of each description.

    sizes: the m, by default the description's own. Names are those of `name_of`.
    """
    signals = atlas.layer(layer).directions.double()
    rebuilt = {}
    for descriptions, pool in described:
        atoms = text_atoms(pool.embeddings, descriptions.card.settings.normalisation)
        indices = descriptions.indices(layer, len(signals))
        for size in descriptions.sizes if sizes is None else sizes:
            parts = []
            for start in range(0, len(signals), 64):
                rows = indices[start : start + 64, :size]
                fitted = refit(signals[start : start + 64], atoms, rows, descriptions.card.settings.nonnegative)
                parts.append(torch.einsum("sj,sje->se", fitted, atoms[rows.clamp(min=0)]))
            rebuilt[name_of(descriptions.name, size)] = torch.cat(parts).float()
    return rebuilt


def _layer_study(
    atlas: Atlas,
    layer: int,
    described: Sequence[tuple[Descriptions, Pool]],
    rebuilt: dict[str, Tensor],
    collected: _Collected,
    embeddings: Float[Tensor, "image embed"],
    resampled: Float[Tensor, "neuron embed"],
    seed: int,
) -> LayerStudy:
    opened = atlas.layer(layer)
    x = torch.cat(collected.x)
    centred = embeddings - embeddings.mean(dim=0)
    neurons: dict[str, dict[str, Tensor]] = {}
    labels: dict[str, list[str]] = {}
    for descriptions, pool in described:
        name = descriptions.name
        size = max([m for m in descriptions.sizes if m <= 32] or descriptions.sizes[:1])
        predicted = centred @ rebuilt[name_of(name, size)].T
        figures = {
            "rank_correlation": rank_correlation(predicted, x),
            "auc": auc(predicted, x, opened.thresholds),
            "mismatched_rank_correlation": rank_correlation(predicted.roll(1, dims=1), x),
            "mismatched_auc": auc(predicted.roll(1, dims=1), x, opened.thresholds),
            "resampled_cosine": (resampled * opened.directions).sum(dim=1),
        }
        figures |= _word_stability(descriptions, pool, layer, opened.directions, resampled, seed)
        best, score = dissect(
            torch.cat(collected.activations), embeddings, pool.embeddings, min(100, len(x) // 10 or 1)
        )
        words = descriptions.indices(layer, len(x.T))[:, :FIRST_WORDS]
        atoms = text_atoms(pool.embeddings, "unit").float()
        figures["second_opinion_score"] = score
        figures["second_opinion_cosine"] = _nearest(atoms, words, best)
        figures["second_opinion_mismatched"] = _nearest(atoms, words, best.roll(1))
        neurons[name] = figures
        labels[name] = [pool.texts[row] for row in best.tolist()]
    right = {name: torch.cat(parts) for name, parts in collected.right.items()}
    return LayerStudy(layer, right, neurons, labels)


def _nearest(atoms: Tensor, words: Tensor, labels: Tensor) -> Tensor:
    """[neuron]: the largest cosine of a label with one of the words, over centred texts."""
    likeness = torch.einsum("nje,ne->nj", atoms[words.clamp(min=0)], atoms[labels])
    return likeness.masked_fill(words < 0, -1.0).amax(dim=1)


def _word_stability(
    descriptions: Descriptions, pool: Pool, layer: int, directions: Tensor, resampled: Tensor, seed: int
) -> dict[str, Tensor]:
    """Overlap of the first words with those of the resampled directions, and with those from half the pool."""
    settings = descriptions.card.settings
    count = min(FIRST_WORDS, settings.nonzero)
    words = descriptions.indices(layer, len(directions))[:, :count]

    def first(signals: Tensor, texts: Tensor) -> Tensor:
        return sparse_decompose(
            signals,
            texts,
            min(count, len(texts)),
            nonnegative=settings.nonnegative,
            normalisation=settings.normalisation,
        ).indices

    other = first(resampled, pool.embeddings)
    figures = {"resampled_overlap": _overlaps(words, other)}
    rng = np.random.default_rng(seed)
    half = torch.from_numpy(np.sort(rng.permutation(len(pool.texts))[: max(2, len(pool.texts) // 2)]))
    found = first(directions, pool.embeddings[half])
    found = torch.where(found >= 0, half[found.clamp(min=0)], -1)
    inside = torch.isin(words, half)
    figures["half_pool_overlap"] = _overlaps(torch.where(inside, words, -1), found)
    return figures


def _overlaps(words: Tensor, others: Tensor) -> Tensor:
    pairs = zip(words.tolist(), others.tolist(), strict=True)
    return torch.tensor([overlap([w for w in mine if w >= 0], theirs) for mine, theirs in pairs])


REFERENCES = ("baseline", "rank_one", "without_all")


def summary(found: DescriptionStudy) -> dict[str, Any]:
    """Accuracies with 95 % intervals, and medians over neurons, by layer."""
    layers = []
    for study in found.layers:
        curve = [
            {
                "pool": description.name,
                "texts": size,
                **{
                    way: _accuracy(study, f"{name_of(description.card.settings.pool, size)} {way}")
                    for way in ("paper", "released")
                },
            }
            for description in found.described
            for size in description.sizes
        ]
        neurons = {
            pool: {name: float(torch.nanmedian(values)) for name, values in figures.items()}
            for pool, figures in study.neurons.items()
        }
        accuracies = {name: _accuracy(study, name) for name in REFERENCES}
        layers.append({"layer": study.layer, **accuracies, "reconstructed": curve, "neurons": neurons})
    return {"images": len(found.layers[0].right["baseline"]), "layers": layers}


def _accuracy(study: LayerStudy, name: str) -> dict[str, float]:
    right = study.right[name]
    low, high = bootstrap_interval(right)
    return {"accuracy": float(right.float().mean()), "low": low, "high": high}
