"""What a run of a preset is made of: the preset, and what the user put in its place."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from secondlens.errors import ReproductionError, closest
from secondlens.lens.classifier import default_templates, read_templates
from secondlens.lens.model import LensModel
from secondlens.studies.reproduction.presets import DATASETS, POOLS, ROLES, ROOTS, Preset


@dataclass(frozen=True)
class Options:
    """What the user gives. data: NAME to PATH, names being roles (survey, evaluation, classes), data sets or pools.

    layers, top, convention, templates, settings: in the place of the preset's. limit: images of either set at most.
    """

    data: Mapping[str, str] = field(default_factory=dict)
    model: str | None = None
    layers: Sequence[int] | None = None
    top: int | None = None
    convention: str | None = None
    templates: str | None = None
    limit: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    batch_size: int = 32
    workers: int = 0
    device: str = "cpu"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        known = (*ROLES, *ROOTS, *DATASETS, *POOLS)
        for name in self.data:
            if name not in known:
                raise ReproductionError(f"unknown name in --data {name}=...{closest(name, known)}")
        if self.limit is not None and self.limit < 2:
            raise ReproductionError(f"expected --limit of 2 images or more, got {self.limit}")


@dataclass(frozen=True)
class Resolved:
    """A preset with the user's choices. survey, evaluation, classes: paths. changed: what differs from the paper's."""

    preset: Preset
    options: Options
    model: str
    survey: str | None
    evaluation: str | None
    classes: str | None
    settings: dict[str, Any]
    changed: tuple[str, ...]

    @property
    def own_survey(self) -> bool:
        """Whether the survey set is the preset's own."""
        return "survey" not in self.options.data

    @property
    def own_evaluation(self) -> bool:
        """Whether the evaluation set is the preset's own."""
        return "evaluation" not in self.options.data

    @property
    def template_reference(self) -> str | None:
        """What the templates are; None for those that fit the model, which other data get by default."""
        if self.options.templates is not None:
            return self.options.templates
        return self.preset.templates if self.own_evaluation else None

    def templates(self, model: LensModel) -> tuple[str, ...]:
        """The templates themselves; none for a model with a classifier of its own."""
        if model.classifier is not None:
            return ()
        reference = self.template_reference
        return default_templates(model) if reference is None else read_templates(reference)

    @property
    def convention(self) -> str:
        """The convention of effects."""
        return self.options.convention or self.preset.convention

    def layers(self, lens_layers: Sequence[int]) -> list[int]:
        """The layers of a model to survey; raises `ReproductionError` for those that it lacks."""
        asked = self.options.layers or self.preset.layers
        wanted = list(lens_layers) if asked is None else sorted(set(asked))
        missing = [layer for layer in wanted if layer not in lens_layers]
        if missing:
            raise ReproductionError(
                f"{self.preset.name} asks for layer {missing[0]}; {self.model} has the layers {lens_layers[0]} to "
                f"{lens_layers[-1]} with a later attention: give others with --layers"
            )
        return wanted

    def top(self, images: int) -> int:
        """Images kept a neuron: as asked; else the preset's, or a tenth where the images are few."""
        if self.options.top is not None:
            return self.options.top
        return min(self.preset.top, max(2, images // 10))


def resolve(preset: Preset, options: Options, known: Collection[str]) -> Resolved:
    """Put the user's choices into a preset; what is missing is another matter (`missing`).

    known: the study's settings; the user's others are for other presets.
    """
    data = options.data

    def place(role: str, dataset: str) -> str | None:
        return data.get(role) or data.get(dataset) or data.get(DATASETS[dataset].root)

    for card in (preset.survey, preset.evaluation):
        if card is not None and card.dataset not in DATASETS:
            raise ReproductionError(
                f"the preset {preset.name} asks for the data set {card.dataset!r}{closest(card.dataset, DATASETS)}"
            )
    changed = []
    if options.model is not None and options.model != preset.model:
        changed.append(f"model {options.model} for {preset.model}")
    changed += [f"{role} {data[role]}" for role in ("survey", "evaluation") if role in data and getattr(preset, role)]
    for name in ("layers", "top", "convention") if preset.survey is not None else ():
        value, before = getattr(options, name), getattr(preset, name)
        if value is not None and (tuple(value) if name == "layers" else value) != before:
            changed.append(f"{name} {', '.join(map(str, value)) if name == 'layers' else value}")
    if options.limit is not None:
        changed.append(f"at most {options.limit} images of a set")
    if options.templates is not None and preset.evaluation is not None and options.templates != preset.templates:
        changed.append(f"templates {options.templates}")
    settings = {name: value for name, value in options.settings.items() if name in known}
    changed += [f"{name} {value}" for name, value in settings.items() if preset.settings.get(name) != value]
    return Resolved(
        preset=preset,
        options=options,
        model=options.model or preset.model,
        survey=None if preset.survey is None else place("survey", preset.survey.dataset),
        evaluation=None if preset.evaluation is None else place("evaluation", preset.evaluation.dataset),
        classes=data.get("classes") or (preset.classes if "evaluation" not in data else None),
        settings={**preset.settings, **settings},
        changed=tuple(changed),
    )
