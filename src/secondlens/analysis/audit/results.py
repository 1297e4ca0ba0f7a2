"""Results of audits as JSON files, which the viewer shows: a command's facts, their kind, and of which atlas."""

from pathlib import Path
from typing import Any, Literal

from secondlens.atlas.store import Atlas
from secondlens.disk.files import check_file, make_folder, write_text
from secondlens.disk.json_text import json_text

Kind = Literal["pair", "matrix", "folder", "removal"]


def audit_facts(kind: Kind, atlas: Atlas, facts: dict[str, Any]) -> dict[str, Any]:
    """Facts with `audit`, their kind, and `atlas`, when the atlas was made: neuron numbers mean nothing in another."""
    return {"audit": kind, "atlas": atlas.manifest.created, **facts}


def write_audit(path: Path, facts: dict[str, Any]) -> None:
    """Write what `audit_facts` gives, atomically. Raises `OutputError` for another ending than .json."""
    check_file(path, ".json")
    make_folder(path.parent)
    write_text(path, json_text(facts, 1) + "\n")
