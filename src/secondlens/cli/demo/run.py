"""`run_demo`: one step after the other, told as they end; then the report."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

import secondlens
from secondlens.cli.demo.commands import Commands
from secondlens.cli.demo.report import write_html, write_markdown
from secondlens.cli.demo.settings import DemoSettings
from secondlens.cli.demo.step import Done, Stage, Step
from secondlens.cli.demo.story import STORY
from secondlens.errors import SecondLensError


@dataclass(frozen=True)
class DemoRun:
    """A finished demo: its steps, and the files to open."""

    done: list[Done]
    seconds: float
    report: Path
    facts: dict[str, Any]


def run_demo(
    app: typer.Typer,
    settings: DemoSettings,
    before: Callable[[int, Step], None] | None = None,
    after: Callable[[Done], None] | None = None,
) -> DemoRun:
    """Run every step of the story whose commands the application has.

    before: called with a step's number and the step, before it. after: with what it told. A demo that was interrupted
    goes on: finished commands are not run again. Raises `SecondLensError` for too few scenes, and what the commands
    raise.
    """
    if settings.scenes < 100:
        raise SecondLensError(f"expected a demo of 100 scenes or more, got {settings.scenes}")
    identity = {
        "model": settings.model,
        "scenes": settings.scenes,
        "quick": settings.quick,
        "secondlens": secondlens.__version__,
    }
    commands = Commands(app, settings.out, identity)
    settings.pictures.mkdir(exist_ok=True)
    stage = Stage(settings, commands.call)
    steps = [step for step in STORY if all(commands.has(name) for name in step.needs)]
    done: list[Done] = []
    for number, step in enumerate(steps):
        if before is not None:
            before(number, step)
        commands.ran, commands.seconds = [], 0.0
        told = step.run(stage)
        done.append(Done(step, told, commands.ran, commands.seconds))
        if after is not None:
            after(done[-1])
    write_markdown(done, settings.out / "report.md")
    write_html(done, settings.out / "report.html")
    return DemoRun(done, sum(one.seconds for one in done), settings.out / "report.html", stage.facts)
