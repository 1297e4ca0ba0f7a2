"""`run_demo`: one step after the other, told as they end; then the report.

Running commands of the command line inside this process, each at most once: finished ones are kept in a journal.
"""

import io
import json
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

import secondlens
from secondlens.cli.demo.report import write_report
from secondlens.cli.demo.settings import DemoSettings, Done, Stage, Step
from secondlens.cli.demo.story import STORY
from secondlens.disk.journal import Journal
from secondlens.errors import SecondLensError

JOURNAL = "steps.jsonl"


class Commands:
    """The commands of an application, run with `--json`. settings: what must be the same for a journal to go on.

    Raises `SecondLensError` where the folder holds the journal of other settings.
    """

    def __init__(self, app: typer.Typer, folder: Path, settings: dict[str, Any]) -> None:
        self.root = typer.main.get_command(app)
        self.journal = Journal(folder / JOURNAL, settings)
        self.finished = self.journal.open(lambda line: (line["arguments"], line["summary"], line["seconds"]))
        self.ran: list[list[str]] = []
        self.seconds = 0.0

    def has(self, name: str) -> bool:
        """Whether there is a command, such as "segment" or "world render"."""
        found: Any = self.root
        for word in name.split():
            found = getattr(found, "commands", {}).get(word)
        return found is not None

    def call(self, *words: object) -> dict[str, Any]:
        """The facts of a command, from the journal where it was run before."""
        arguments = [str(word) for word in words]
        self.ran.append(arguments)
        for entry in self.finished:
            if entry["arguments"] == arguments:
                self.seconds += entry["seconds"]
                return dict(entry["summary"])
        started, printed = time.monotonic(), io.StringIO()
        with redirect_stdout(printed):
            code = self.root.main(args=[*arguments, "--json"], prog_name="secondlens", standalone_mode=False)
        if code:
            raise typer.Exit(code)
        facts = json.loads(printed.getvalue())
        seconds = time.monotonic() - started
        self.seconds += seconds
        self.finished.append({"arguments": arguments, "summary": facts, "seconds": seconds})
        self.journal.add(self.finished[-1])
        return dict(facts)


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
    report = write_report(done, settings.out)
    return DemoRun(done, sum(one.seconds for one in done), report, stage.facts)
