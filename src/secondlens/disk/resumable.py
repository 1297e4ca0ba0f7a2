"""A long task in pieces: what it finished is kept in a folder, so that after a kill it goes on and ends the same.

Each piece is a file of its own. `journal.jsonl` names it with the SHA-256 of its bytes, once it is whole on the disk: a
piece that was being written at a kill, is not as it was written or is not there has to be made again, and no other.
"""

import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from secondlens.disk.files import disk_errors, sha256, write_whole
from secondlens.disk.journal import Journal
from secondlens.errors import SecondLensError

JOURNAL = "journal.jsonl"


class Resumable:
    """The finished pieces of a task. folder: for nothing else. settings: what the pieces depend on, JSON-able.

    Nothing is written before the first piece: settings that do not work are not those that the next run has to have.

    Raises `error` where the folder holds pieces made with other settings, naming them, or its journal is damaged; the
    message ends in the advice.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any],
        error: type[SecondLensError] = SecondLensError,
        advice: str = "use those settings, or another folder",
    ) -> None:
        self.folder = folder
        self._journal = Journal(folder / JOURNAL, settings, error, advice)
        self._files: dict[str, Path] = {}
        lines = self._journal.open(_check) if self._journal.path.exists() else []
        self._count = len(lines)
        # The last line of a name counts: the file of an earlier one may be gone.
        last = {line["piece"]: (number, line["sha256"]) for number, line in enumerate(lines)}
        for name, (number, digest) in last.items():
            path = self._path(number, name)
            if path.is_file() and sha256(path) == digest:
                self._files[name] = path

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def __getitem__(self, name: str) -> Path:
        """Return the file of a finished piece."""
        return self._files[name]

    def keep(self, name: str, write: Callable[[Path], object]) -> Path:
        """Let `write` write a piece to the path that it is given; its file in the end. It replaces one of that name."""
        _check({"piece": name, "sha256": ""})
        if not self._journal.path.exists():
            self._journal.open()
        path = self._path(self._count, name)
        write_whole(path, write)
        self._journal.add({"piece": name, "sha256": sha256(path)})
        self._count += 1
        if name in self._files:
            self._files[name].unlink(missing_ok=True)
        self._files[name] = path
        return path

    def done(self) -> None:
        """Remove everything: the task is complete, and its results are elsewhere."""
        with disk_errors(self.folder):
            shutil.rmtree(self.folder, ignore_errors=not self.folder.exists())
        self._files, self._count = {}, 0

    def _path(self, number: int, name: str) -> Path:
        # A file of its own each time: replacing one in place could not be one step with its line of the journal.
        return self.folder / f"{number:06d}-{name}"


def _check(line: Mapping[str, Any]) -> None:
    """Raise `ValueError` for a line without a plain name, which could lie outside the folder."""
    if not isinstance(line["sha256"], str) or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", line["piece"]):
        raise ValueError(f"expected a plain name and a hash, got {line}")
