"""An attack's folder: one journal a stage, the pictures, the report; and what one cell of it is called.

attack.json           the settings, models and back ends
indirect.safetensors  directions of indirect effects, where they were computed for this attack
cues.jsonl            a line a cell: the phrases with their scores
answers.jsonl         a line an answer of the language model, as it came
descriptions.jsonl    a line a cell: what was kept, left out and why, and which were chosen
prompts.csv           file,prompt: every picture that is to be made
images.jsonl          a line a picture; the pictures are in images/
judgements/NAME.jsonl a line a picture and judge
predictions.jsonl     a line a picture: what the model takes it for
report/               report.html, report.md, summary.json, predictions.parquet, gallery/
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from secondlens.disk.files import make_folder, write_text
from secondlens.disk.journal import Journal
from secondlens.disk.lock import HOLDER, LOCK
from secondlens.errors import AuditError, LanguageError, SecondLensError

CARD = "attack.json"
INDIRECT = "indirect.safetensors"
ADVICE = "run with the same settings, or into another folder"


def stopped(error: SecondLensError, kept: str) -> SecondLensError:
    """The error of a stage that stopped half-way, with what is kept and that it goes on from there."""
    kind = LanguageError if isinstance(error, LanguageError) else AuditError
    return kind(f"{error} ({kept}: the same command goes on from there)")


class Cell(NamedTuple):
    """One pair of classes, one method, one repeat."""

    source_class: str
    target_class: str
    method: str
    repeat: int

    @property
    def place(self) -> str:
        """Its folder under images/: readable, and one of its own."""
        return f"{slug(self.source_class)}--{slug(self.target_class)}/{self.method}/{self.repeat}"

    def facts(self) -> dict[str, Any]:
        """As plain data, the keys of every line."""
        return dict(self._asdict())

    @classmethod
    def of(cls, line: Mapping[str, Any]) -> "Cell":
        """The cell of a line."""
        return cls(str(line["source_class"]), str(line["target_class"]), str(line["method"]), int(line["repeat"]))

    def seed(self, base: int, *more: object) -> int:
        """A seed of its own, for whatever it is used for."""
        digest = hashlib.sha256(json.dumps([base, *self, *more]).encode()).digest()
        return int.from_bytes(digest[:4]) >> 1


def slug(name: str) -> str:
    """A class's name as that of a folder; different names stay different."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.split(",")[0].lower()).strip("-")
    exact = plain == name
    return plain if exact and plain else f"{plain[:40]}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


class AttackFolder:
    """Paths and journals of one attack."""

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder)

    @property
    def images(self) -> Path:
        """Where the pictures are."""
        return self.path / "images"

    @property
    def report(self) -> Path:
        """Where the report goes."""
        return self.path / "report"

    def journal(self, name: str, settings: Mapping[str, Any]) -> Journal:
        """The journal of a stage; settings: what its lines depend on."""
        return Journal(self.path / f"{name}.jsonl", settings, AuditError, ADVICE)

    def claim(self, card: Mapping[str, Any]) -> None:
        """Write attack.json, or refuse a folder that holds something else."""
        write_text(self.prepare() / CARD, json.dumps(card, indent=2, ensure_ascii=False) + "\n")

    def prepare(self) -> Path:
        """Make the folder, or refuse one that holds something else; its path."""
        make_folder(self.path)
        strange = [
            path for path in self.path.iterdir() if INDIRECT not in path.name and path.name not in (LOCK, HOLDER)
        ]
        if strange and not (self.path / CARD).is_file():
            raise AuditError(f"{self.path} is not empty and holds no attack; choose another folder")
        return self.path

    def card(self) -> dict[str, Any]:
        """attack.json; raises `AuditError` where there is none."""
        try:
            found = json.loads((self.path / CARD).read_text(encoding="utf-8"))
            if not isinstance(found, dict):
                raise ValueError("no JSON object")
        except FileNotFoundError as error:
            raise AuditError(f"{self.path} holds no attack; make one with: secondlens attack run") from error
        except (OSError, ValueError) as error:
            raise AuditError(f"cannot read {self.path / CARD}: {error}") from error
        return found

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The finished lines of a journal, without looking at its settings; none where there is no such file."""
        path = self.path / f"{name}.jsonl"
        content = path.read_bytes() if path.is_file() else b""
        whole = content[: content.rfind(b"\n") + 1].split(b"\n")[1:]
        try:
            return [json.loads(line) for line in whole if line]
        except ValueError as error:
            raise AuditError(f"{path} is damaged: {error}") from error
