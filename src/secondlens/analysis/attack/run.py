"""All stages, one after the other; each takes up what is on disk."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import secondlens
from secondlens.analysis.attack.cues import CueSources, cells_of, find_cues
from secondlens.analysis.attack.descriptions import write_descriptions
from secondlens.analysis.attack.folder import AttackFolder, Cell
from secondlens.analysis.attack.image_makers import ImageMaker
from secondlens.analysis.attack.judges import Judge
from secondlens.analysis.attack.judging import all_judgements, judge_pictures
from secondlens.analysis.attack.making import make_pictures
from secondlens.analysis.attack.predictions import find_predictions
from secondlens.analysis.attack.results import join
from secondlens.analysis.attack.settings import AttackSettings, check_methods
from secondlens.analysis.audit.classes import ClassPair
from secondlens.data.language.base import LanguageModel
from secondlens.disk.lock import one_writer
from secondlens.errors import AuditError, closest
from secondlens.lens.classifier import TEMPLATES
from secondlens.progress import Progress

STAGES = ("cues", "descriptions", "images", "judge", "predictions")


@dataclass(frozen=True)
class AttackPlan:
    """What is attacked and how. classes: to predict among. until: the last stage to run. templates: of class names."""

    pairs: Sequence[ClassPair]
    methods: tuple[str, ...]
    settings: AttackSettings
    classes: Sequence[str]
    templates: Sequence[str] = TEMPLATES
    until: str = STAGES[-1]

    def cells(self) -> list[Cell]:
        """All cells."""
        return cells_of(self.pairs, self.methods, self.settings)


def run_attack(
    folder: AttackFolder,
    plan: AttackPlan,
    sources: CueSources,
    language: LanguageModel | None,
    maker: ImageMaker | None,
    judges: Sequence[Judge],
    progress: Progress | None = None,
    card: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Run every stage up to the plan's last; the rows of `results.join`, none where it stopped before predictions.

    The back ends of stages that are not reached may be None. The first judge decides on success; the others are for
    agreement. card: more to write into attack.json. Raises what the stages raise; a run that was cut off anywhere goes
    on from there when it is called again.
    """
    check_methods(plan.methods)
    if plan.until not in STAGES:
        raise AuditError(f"unknown stage {plan.until!r}{closest(plan.until, STAGES)}")
    with one_writer(folder.path):
        folder.claim({**_card(plan, sources, language, maker, judges), **(card or {})})
        return _stages(folder, plan, sources, language, maker, judges, progress)


def _stages(
    folder: AttackFolder,
    plan: AttackPlan,
    sources: CueSources,
    language: LanguageModel | None,
    maker: ImageMaker | None,
    judges: Sequence[Judge],
    progress: Progress | None,
) -> list[dict[str, Any]]:
    last = STAGES.index(plan.until)
    cues = find_cues(folder, plan.pairs, plan.methods, sources, plan.settings, progress)
    if last < 1:
        return []
    descriptions = write_descriptions(folder, cues, _needed(language, "language model"), plan.settings, progress)
    if last < 2:
        return []
    images = make_pictures(folder, descriptions, _needed(maker, "image model"), plan.settings, progress)
    if last < 3:
        return []
    if not judges:
        raise AuditError("expected at least one judge, got none")
    for judge in judges:
        judge_pictures(folder, images, judge, progress)
    if last < 4:
        return []
    predictions = find_predictions(folder, images, sources.model, plan.pairs, plan.classes, plan.templates, progress)
    return join(images, predictions, all_judgements(folder), judges[0].name)


def _needed(found: Any, what: str) -> Any:
    if found is None:
        raise AuditError(f"this stage needs the {what}; name one")
    return found


def _card(
    plan: AttackPlan,
    sources: CueSources,
    language: LanguageModel | None,
    maker: ImageMaker | None,
    judges: Sequence[Judge],
) -> dict[str, Any]:
    return {
        "secondlens": secondlens.__version__,
        "model": sources.model.reference,
        "pairs": [[pair.source_class, pair.target_class] for pair in plan.pairs],
        "methods": list(plan.methods),
        "settings": plan.settings.model_dump(),
        "templates": list(plan.templates),
        "classes": list(plan.classes),
        "pool": sources.descriptions.name,
        "similarity": sources.similarity.name,
        "language_model": language.name if language else None,
        "image_model": maker.name if maker else None,
        "judges": [judge.name for judge in judges],
    }
