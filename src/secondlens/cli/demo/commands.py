"""Running commands of the command line inside this process, each at most once: finished ones are kept in a journal."""

import io
import json
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import typer

from secondlens.disk.files import make_folder, write_text
from secondlens.disk.json_text import json_text
from secondlens.surveys.checkpoint import require_same

JOURNAL = "steps.json"


class Commands:
    """The commands of an application, run with `--json`. settings: what must be the same for a journal to go on.

    Raises `SurveyError` where the folder holds the journal of other settings.
    """

    def __init__(self, app: typer.Typer, folder: Path, settings: dict[str, Any]) -> None:
        self.root = typer.main.get_command(app)
        self.path = folder / JOURNAL
        self.content: dict[str, Any] = {"settings": settings, "commands": []}
        self.ran: list[list[str]] = []
        self.seconds = 0.0
        make_folder(folder)
        if self.path.is_file():
            kept = json.loads(self.path.read_text(encoding="utf-8"))
            require_same(kept["settings"], settings, f"{folder} holds a demo of other settings")
            self.content = kept

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
        for entry in self.content["commands"]:
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
        self.content["commands"].append({"arguments": arguments, "summary": facts, "seconds": seconds})
        write_text(self.path, json_text(self.content))
        return dict(facts)
