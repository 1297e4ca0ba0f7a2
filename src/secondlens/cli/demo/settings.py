"""How large a demo is, where its files are, from which seeds, and what a step of it is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from secondlens.viewer.document import Table

SURVEY_SEED, EVALUATION_SEED, PICTURE_SEED = 70_001, 70_002, 70_003
"""Of scenes that neither the training nor the model card's figures use."""


@dataclass(frozen=True)
class DemoSettings:
    """model: a reference. out: the folder. scenes: surveyed. quick: a small demo, to see that everything runs.

    shown, predicted: the pair of classes that is audited; of those with two planted looks or surroundings the one that
    `audit matrix` finds most exploitable.
    """

    model: str
    out: Path
    scenes: int = 2000
    quick: bool = False
    shown: str = "car"
    predicted: str = "snake"

    @property
    def evaluated(self) -> int:
        """Labelled scenes that ablations are measured on."""
        return 100 if self.quick else 1000

    @property
    def top(self) -> int:
        """Images kept a neuron: 5 %, about as many as show one of the 32 things, but no fewer than 10.

        The paper keeps 2 % of photographs, which show far more kinds of things.
        """
        return max(10, self.scenes // 20)

    @property
    def survey(self) -> Path:
        """Folder of the scenes that neurons are surveyed over."""
        return self.out / "scenes"

    @property
    def evaluation(self) -> Path:
        """Folder of labelled scenes that the survey does not see."""
        return self.out / "labelled"

    @property
    def examples(self) -> Path:
        """Folder of a few scenes of two objects, to look at."""
        return self.out / "examples"

    @property
    def atlas(self) -> Path:
        """The atlas's folder."""
        return self.out / "atlas"

    @property
    def audits(self) -> Path:
        """Folder of the audits, for the atlas's review page."""
        return self.out / "audits"

    @property
    def attack(self) -> Path:
        """The attack's folder."""
        return self.out / "attack"

    @property
    def pictures(self) -> Path:
        """Folder of the report's pictures."""
        return self.out / "pictures"


Facts = dict[str, Any]


@dataclass(frozen=True)
class Told:
    """What a step has to say, in short sentences; what to look at; tables; pictures with their captions."""

    says: Sequence[str]
    look: str = ""
    tables: Sequence[Table] = ()
    pictures: Sequence[tuple[Path, str]] = ()


@dataclass
class Stage:
    """What steps run on. call: runs one command, given its words, and returns its JSON. facts: left for later steps."""

    settings: DemoSettings
    call: Callable[..., Facts]
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """One step. needs: commands without which it is left out."""

    title: str
    run: Callable[[Stage], Told]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Done:
    """A step that was run: its commands as they would be typed, and the seconds it took."""

    step: Step
    told: Told
    commands: list[list[str]]
    seconds: float
