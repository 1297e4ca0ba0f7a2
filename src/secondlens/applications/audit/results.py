"""Results of audits as JSON files, which the viewer shows: a command's facts, their kind, and of which atlas."""

from pathlib import Path
from typing import Any, Literal

from secondlens.atlas.files import disk_errors, write_text
from secondlens.atlas.store import Atlas
from secondlens.errors import AuditError
from secondlens.json_text import json_text

Kind = Literal["pair", "matrix", "folder", "removal"]


def audit_facts(kind: Kind, atlas: Atlas, facts: dict[str, Any]) -> dict[str, Any]:
    """Facts with `audit`, their kind, and `atlas`, when the atlas was made: neuron numbers mean nothing in another."""
    return {"audit": kind, "atlas": atlas.manifest.created, **facts}


def prepare_audit_path(path: Path) -> None:
    """Before what takes long: make the file's folder. Raises `AuditError` for a name that does not end in .json."""
    if path.suffix != ".json":
        raise AuditError(f"expected a file that ends in .json for the audit, got {path}")
    with disk_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)


def write_audit(path: Path, facts: dict[str, Any]) -> None:
    """Write what `audit_facts` gives, atomically. Raises `AuditError` for another ending than .json."""
    prepare_audit_path(path)
    write_text(path, json_text(facts, 1) + "\n")
