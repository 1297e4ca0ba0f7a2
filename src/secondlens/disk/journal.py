"""A journal: what a long task has finished, one JSON object a line, under a first line with the settings it ran with.

Lines are appended and flushed to disk one by one, so that a killed task has lost at most the line it was writing; that
half line is cut off when the journal is opened again.
"""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from secondlens.disk.files import disk_errors, write_text
from secondlens.errors import SecondLensError


class Journal:
    """The lines of one file. settings: JSON-able; another run's file with other settings is refused.

    error: the kind of `SecondLensError` to raise. advice: the end of its message, what to do.
    """

    def __init__(
        self,
        path: Path,
        settings: Mapping[str, Any],
        error: type[SecondLensError] = SecondLensError,
        advice: str = "use those settings, or another folder",
    ) -> None:
        self.path = path
        self._settings = json.loads(json.dumps(settings, ensure_ascii=False))
        self._error, self._advice = error, advice

    def open(self, read: Callable[[dict[str, Any]], object] = lambda line: line) -> list[dict[str, Any]]:
        """The finished lines; makes the file where there is none. read: called with each, to refuse what does not fit
        by a `ValueError`, `KeyError` or `TypeError`.

        Raises `error` for a damaged file and for other settings, naming those that differ.
        """
        with disk_errors(self.path.parent):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            content = self.path.read_bytes() if self.path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if not whole:
            write_text(self.path, json.dumps(self._settings, ensure_ascii=False) + "\n")
            return []
        try:
            header, *lines = [json.loads(line) for line in whole.split(b"\n") if line]
            for line in lines:
                read(line)
        except (ValueError, KeyError, TypeError) as problem:
            raise self._error(f"{self.path} is damaged ({problem}); {self._advice}") from problem
        self._require_same(header)
        if len(whole) < len(content):
            os.truncate(self.path, len(whole))
        return lines

    def add(self, line: Mapping[str, Any]) -> None:
        """Append one line, and wait until it is on the disk."""
        text = json.dumps(line, ensure_ascii=False) + "\n"
        with disk_errors(self.path.parent), self.path.open("ab") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())

    def _require_same(self, before: Any) -> None:
        named = settings_differ(before if isinstance(before, dict) else {}, self._settings)
        if named:
            raise self._error(f"{self.path} was made with other settings: {named}; {self._advice}")


def settings_differ(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Which settings differ and how, as the part of a message; empty where none does."""
    names = [*new, *(name for name in old if name not in new)]
    return "; ".join(
        f"{name} was {_short(old.get(name))}, is {_short(new.get(name))}"
        for name in names
        if old.get(name) != new.get(name)
    )


def _short(value: Any) -> str:
    text = "not set" if value is None else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
