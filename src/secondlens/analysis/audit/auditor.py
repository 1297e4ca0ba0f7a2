"""One model, atlas and description, set up once for the audits of any number of pairs, also by the survey's images."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from secondlens.analysis.audit.audit import CUES, PairAudit, audit_pair, cue_evidence
from secondlens.analysis.audit.classes import ClassPair, class_head, class_pair
from secondlens.analysis.audit.images import (
    WithinClasses,
    image_scores,
    image_significance,
    pick_image_cues,
    within_classes,
)
from secondlens.analysis.audit.scores import NEURONS, neuron_weights, strongest
from secondlens.analysis.audit.similarity import SYNONYM, Similarity, open_similarity
from secondlens.analysis.audit.table import NeuronTable, neuron_table
from secondlens.atlas.store import Atlas
from secondlens.descriptions.pools import described_pool
from secondlens.descriptions.store import Descriptions
from secondlens.errors import AuditError, closest
from secondlens.lens.classifier import default_templates
from secondlens.lens.model import LensModel


def audit_by_images(
    within: WithinClasses,
    table: NeuronTable,
    pair: ClassPair,
    similarity: Similarity,
    *,
    pool: str = "",
    neurons: int = NEURONS,
    cues: int = CUES,
    synonym: float = SYNONYM,
    draws: int = 2000,
    seed: int = 0,
    atlas: Atlas | None = None,
    descriptions: Descriptions | None = None,
) -> PairAudit:
    """Audit a pair by the survey's images; the neurons behind a cue are those of the table that carry most of it.

    Scores are beyond the cues before; p-values are of the phrase by itself. Options as in `audit_pair`. Raises
    `AuditError` for options out of range.
    """
    push = within.push(pair)
    scores = image_scores(within, push)
    tests = image_significance(within, push, scores, draws, seed)
    picked, synonyms = pick_image_cues(within, push, pair.source_class, pair.target_class, similarity, cues, synonym)
    weights = neuron_weights(table, pair.vector, "effect")
    chosen = strongest(weights, neurons)
    rows = torch.from_numpy(chosen)
    carried = (table.directions[rows] @ within.atoms.T).double().numpy() * table.strengths[rows].double().numpy()[
        :, None
    ]
    listed = [
        cue_evidence(
            table, within.texts[cue.row], cue.row, cue.score,
            (tests.p[cue.row], tests.q[cue.row], tests.p_family[cue.row]), cue.similarity, chosen, weights[chosen],
            carried[:, cue.row], atlas, descriptions, cue.also,
        )
        for cue in picked
    ]  # fmt: skip
    return PairAudit.of(
        table, pair, similarity, chosen, weights, source="images of the survey", pool=pool, scoring="images",
        n_resamples=draws, cues=listed, synonyms=synonyms,
    )  # fmt: skip


SCORINGS = ("paper", "effect", "images")


@dataclass
class Auditor:
    """What all pairs share. classes: of the label set, needed for scoring "images". layers: default, all described."""

    model: LensModel
    atlas: Atlas
    descriptions: Descriptions
    similarity: Similarity
    templates: tuple[str, ...]
    scoring: str = "paper"
    classes: Sequence[str] | None = None
    layers: Sequence[int] | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.scoring not in SCORINGS:
            raise AuditError(f"unknown scoring {self.scoring!r}{closest(self.scoring, SCORINGS)}")

    @cached_property
    def table(self) -> NeuronTable:
        """The neurons of the audit."""
        return neuron_table(self.atlas, self.descriptions, self.layers)

    @cached_property
    def within(self) -> WithinClasses:
        """The survey's images by class; raises `AuditError` where no classes are known."""
        if self.classes is None:
            raise AuditError("scoring by images needs the names of all classes; give them with --classes FILE")
        names, head = class_head(self.model, self.classes, self.templates)
        return within_classes(self.atlas, described_pool(self.model, self.descriptions), names, head)

    def pair(self, shown: str, predicted: str) -> ClassPair:
        """Two classes by name."""
        return class_pair(self.model, shown, predicted, self.templates)

    def audit(self, pair: ClassPair, **options: Any) -> PairAudit:
        """The cues of a pair by the chosen scoring; options as in `audit_pair`."""
        given = {
            "pool": self.descriptions.name,
            "atlas": self.atlas,
            "descriptions": self.descriptions,
            **self.options,
            **options,
        }
        if self.scoring == "images":
            return audit_by_images(self.within, self.table, pair, self.similarity, **given)
        return audit_pair(self.table, pair, self.similarity, scoring=self.scoring, **given)  # type: ignore[arg-type]


def audit(
    model: LensModel,
    atlas: Atlas,
    shown: str,
    predicted: str,
    descriptions: Descriptions | None = None,
    *,
    similarity: str = "auto",
    **options: Any,
) -> PairAudit:
    """Find what makes images of one class look like another to the model: the cues of one pair of classes.

    shown, predicted: the class that images contain, and that they would be taken for. descriptions: of the atlas, by
    default the latest. similarity: as in `open_similarity`. options: as in `audit_pair`. `Auditor` is for many pairs.
    """
    atlas.require_model(model)
    described = descriptions or Descriptions.open(atlas)
    templates = default_templates(model)
    auditor = Auditor(model, atlas, described, open_similarity(similarity, model, described, templates), templates)
    return auditor.audit(auditor.pair(shown, predicted), **options)
