"""`laboratory`: everything that known scenes tell about one atlas of a model of the world."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from jaxtyping import Bool, Float
from torch import Tensor

from secondlens.applications.audit import Auditor, open_similarity
from secondlens.atlas.store import Atlas
from secondlens.descriptions.store import Descriptions
from secondlens.errors import WorldError
from secondlens.lens.classifier import default_templates
from secondlens.lens.model import LensModel
from secondlens.progress import Progress
from secondlens.studies.laboratory.agreement import Agreement, agreement, cosine_weights, word_weights
from secondlens.studies.laboratory.cues import CueRank, cue_ranks, pairs_of
from secondlens.studies.laboratory.selectivity import Selectivity, presence, projections, selectivity
from secondlens.world.biases import Biases
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
