"""`laboratory`: everything that known scenes tell about one atlas of a model of the world."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from secondlens.analysis.audit import Auditor, open_similarity
from secondlens.atlas.store import Atlas
from secondlens.descriptions.store import Descriptions
from secondlens.errors import WorldError
from secondlens.lens.classifier import default_templates
from secondlens.lens.model import LensModel
from secondlens.progress import Progress
from secondlens.studies.laboratory.agreement import Agreement, agreement, cosine_weights, word_weights
from secondlens.studies.laboratory.cues import CueRank, cue_ranks, pairs_of, recall
from secondlens.studies.laboratory.selectivity import Selectivity, presence, projections, selectivity
from secondlens.world.biases import Biases
from secondlens.world.phrases import CONCEPT_KINDS, CONCEPTS
from secondlens.world.sampler import scene_at
from secondlens.world.vocabulary import NOUNS

SEED = 80_001
"""Of the laboratory's scenes; no other part draws from it."""
SCORINGS = ("paper", "images")
"""Of the audit."""


@dataclass(frozen=True)
class LayerLaboratory:
    """One layer. readings: by name ("words": the description, "cosine": the direction alone), weights of the concepts
    [neuron, concept] and how they agree with the truth.
    """

    truth: Selectivity
    weights: dict[str, Float[Tensor, "neuron concept"]]
    agreement: dict[str, dict[str, Agreement]]

    @property
    def layer(self) -> int:
        """Number of the layer in the model."""
        return self.truth.layer


@dataclass(frozen=True)
class Laboratory:
    """All layers over the same unbiased scenes; cues: the ranks of planted cues, by scoring of the audit."""

    scenes: int
    shown: Bool[Tensor, "scene concept"]
    layers: list[LayerLaboratory]
    cues: dict[str, list[CueRank]] = field(default_factory=dict)


def laboratory(
    model: LensModel,
    atlas: Atlas,
    descriptions: Descriptions,
    *,
    scenes: int = 2000,
    shown_each: int = 2,
    layers: Sequence[int] | None = None,
    biases: Biases | None = None,
    seed: int = SEED,
    progress: Progress | None = None,
) -> Laboratory:
    """Measure true selectivity on unbiased scenes, compare words with it, and count planted cues that audits find.

    shown_each: classes shown for each predicted class of the audit; 0 leaves it out. biases: the table that the model
    was trained with. Raises `WorldError` for too few scenes, `AtlasError` for an atlas of another model.
    """
    if scenes < 50:
        raise WorldError(f"expected 50 scenes or more, got {scenes}")
    drawn = [scene_at(seed, index, kind="unbiased") for index in range(scenes)]
    shown = presence(drawn)
    found = []
    for index, x in projections(model, atlas, drawn, layers=layers, progress=progress).items():
        truth = selectivity(x, shown, index, seed=seed)
        weights = {
            "words": word_weights(descriptions, index, x.shape[1]),
            "cosine": cosine_weights(model, atlas, index),
        }
        found.append(
            LayerLaboratory(truth, weights, {name: agreement(given, truth) for name, given in weights.items()})
        )
    cues = {}
    if shown_each:
        table = biases or Biases.load()
        pairs = pairs_of(table, shown_each, seed)
        templates = default_templates(model)
        similarity = open_similarity("name", model, descriptions, templates)
        for scoring in SCORINGS:
            auditor = Auditor(model, atlas, descriptions, similarity, templates, scoring, list(NOUNS), layers)
            cues[scoring] = cue_ranks(auditor, table, pairs, progress=progress)
    return Laboratory(scenes, shown, found, cues)


def summary(found: Laboratory) -> dict[str, Any]:
    """Plain data. By layer: the share of selective neurons, medians of the best auc, of which kind the best concept is,
    and how words and directions agree with the truth; and the recall of planted cues by scoring.
    """
    return {
        "scenes": found.scenes,
        "concepts": len(CONCEPTS),
        "layers": [_layer(layer) for layer in found.layers],
        "cues": {scoring: recall(ranks) for scoring, ranks in found.cues.items()},
    }


def _layer(layer: LayerLaboratory) -> dict[str, Any]:
    truth = layer.truth
    auc = truth.auc.nan_to_num(0.5)
    best, place = auc.max(dim=1)
    kinds = [CONCEPTS[index][0] for index in place.tolist()]
    return {
        "layer": layer.layer,
        "neurons": len(auc),
        "selective_fraction": float(truth.selective.float().mean()),
        "chance_auc": 0.5 + truth.null,
        "best_auc": dict(
            zip(("q05", "q50", "q95"), np.quantile(best.numpy(), [0.05, 0.5, 0.95]).tolist(), strict=True)
        ),
        "best_kind": {kind: kinds.count(kind) / len(kinds) for kind in CONCEPT_KINDS},
        "concepts_per_neuron": float(((auc - 0.5) > truth.null).sum(dim=1).float().median()),
        **{
            name: {figure: _agreement(value) for figure, value in figures.items()}
            for name, figures in layer.agreement.items()
        },
    }


def _agreement(found: Agreement) -> dict[str, float]:
    return {"observed": found.observed, "chance": found.chance, "p_value": found.p_value}
