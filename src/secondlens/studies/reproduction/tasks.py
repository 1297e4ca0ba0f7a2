"""What a study of a preset gets and gives, and the registry of studies."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from secondlens.atlas.store import Atlas
from secondlens.data.labelled import LabelledImages
from secondlens.data.sources import ImageSource
from secondlens.errors import ReproductionError, closest
from secondlens.lens.model import LensModel
from secondlens.progress import Progress, Running
from secondlens.studies.reproduction.presets import first_problem
from secondlens.studies.reproduction.settings import Resolved

NO_LIMIT = 2**62


class Settings(BaseModel):
    """Base of a study's settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Task:
    """What a study works on. settings: its own kind. folder: where its files go. tell: progress. write_files: writes
    the files of what a study found into a folder, and returns their paths.
    """

    run: Resolved
    model: LensModel
    settings: Any
    folder: Path
    tell: Progress
    write_files: Callable[[Any, Path], list[Path]]
    atlas: Atlas | None = None
    survey: ImageSource | None = None
    evaluation: LabelledImages | None = None
    templates: tuple[str, ...] = ()

    @property
    def limit(self) -> int:
        """Images at most."""
        return NO_LIMIT if self.run.options.limit is None else self.run.options.limit

    @property
    def running(self) -> Running:
        """How the study runs."""
        options = self.run.options
        return Running(options.batch_size, options.workers, options.device, self.tell)

    def write(self, study: Any) -> list[str]:
        """Write the files of what a study found; return the names of those in the task's folder."""
        return [path.name for path in self.write_files(study, self.folder) if path.parent == self.folder]

    def surveyed(self) -> Atlas:
        """The atlas; raises `ReproductionError` where the preset names no survey set."""
        if self.atlas is None:
            raise ReproductionError(f"the preset {self.run.preset.name} needs a survey set for its study; add 'survey'")
        return self.atlas

    def labelled(self) -> LabelledImages:
        """The evaluation images; raises `ReproductionError` where the preset names none."""
        if self.evaluation is None:
            raise ReproductionError(
                f"the preset {self.run.preset.name} needs evaluation images for its study; add 'evaluation'"
            )
        return self.evaluation


@dataclass(frozen=True)
class Measured:
    """What a study found. values: by key, figures in the paper's units, words, or None where nothing can be said.

    tables: title, columns and rows for the report. files: names in the task's folder, pictures among them.
    """

    values: dict[str, float | list[str] | None]
    tables: list[tuple[str, list[str], list[list[Any]]]] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Study:
    """A kind of study: the function, and the model of its settings."""

    measure: Callable[[Task], Measured]
    settings: type[Settings]

    def check(self, settings: dict[str, Any], preset: str) -> Settings:
        """The settings in their own type; `ReproductionError` for those that do not fit."""
        try:
            return self.settings.model_validate(settings)
        except ValidationError as error:
            raise ReproductionError(f"the settings of {preset} do not fit: {first_problem(error)}") from error


STUDIES: dict[str, Study] = {}
"""Name to study; a module registers its own with `register`."""


def register(name: str, settings: type[Settings]) -> Callable[[Callable[[Task], Measured]], Callable[[Task], Measured]]:
    """Make a function the study of that name."""

    def add(measure: Callable[[Task], Measured]) -> Callable[[Task], Measured]:
        STUDIES[name] = Study(measure, settings)
        return measure

    return add


def study_of(name: str) -> Study:
    """A registered study; raises `ReproductionError` for an unknown one."""
    if name not in STUDIES:
        raise ReproductionError(f"unknown study {name!r}{closest(name, STUDIES)}")
    return STUDIES[name]


def percent(share: float) -> float:
    """As the paper prints it."""
    return 100 * share


def with_interval(found: dict[str, Any]) -> str:
    """An accuracy and its 95 % interval, in percent."""
    return f"{100 * found['accuracy']:.1f} ({100 * found['low']:.1f} to {100 * found['high']:.1f})"
