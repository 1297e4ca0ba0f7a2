"""What a step of the demo is: something that runs commands, and what it tells about them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from secondlens.cli.demo.settings import DemoSettings

Facts = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """Columns and rows of cells to show."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]


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
