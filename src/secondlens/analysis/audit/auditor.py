"""One model, atlas and description, set up once for the audits of any number of pairs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from secondlens.analysis.audit.audit import PairAudit, audit_pair
from secondlens.analysis.audit.by_images import audit_by_images
from secondlens.analysis.audit.classes import ClassPair, class_head, class_pair
from secondlens.analysis.audit.images import WithinClasses, within_classes
from secondlens.analysis.audit.pool import described_pool
from secondlens.analysis.audit.similarity import Similarity
from secondlens.analysis.audit.table import NeuronTable, neuron_table
from secondlens.atlas.store import Atlas
from secondlens.descriptions.store import Descriptions
from secondlens.errors import AuditError, closest
from secondlens.lens.model import LensModel

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
