"""Audits for the review page: the JSON files of `secondlens audit`, checked against the atlas that they are shown with.

A pair's cues become a file of their own, for a site may hold many. Top images are kept as positions in the source, as
everywhere on the site. Of a matrix the classes of its strongest pairs are kept: a page cannot show a thousand.
"""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, TypeAdapter

from secondlens.analysis.audit.audit import PairAudit
from secondlens.analysis.audit.folder import ExplainedError, Kind
from secondlens.atlas.store import Atlas
from secondlens.disk.json_text import json_text
from secondlens.errors import AtlasError
from secondlens.viewer.findings import reading

CLASSES, STRONGEST, TESTS = 30, 30, 200
"""Of a matrix: classes drawn and pairs listed at most; of a folder: tests listed at most."""


class _Named(BaseModel):
    text: str
    score: float


class _Entry(BaseModel):
    source_class: str
    target_class: str
    exploitability: float
    cues: list[_Named]


class _Matrix(BaseModel):
    classes: list[str]
    pairs: list[_Entry]


class _Confusion(BaseModel):
    source_class: str
    target_class: str
    images: int
    errors: int


class _Folder(BaseModel):
    images: int
    accuracy: float
    presence: str
    pairs: list[_Confusion]
    explained: list[ExplainedError]


class _Rates(BaseModel):
    clean_accuracy: float | None
    clean_accuracy_interval: tuple[float, float] | None = None
    adversarial_success: float | None
    adversarial_success_interval: tuple[float, float] | None = None


class _Removed(_Rates):
    neurons: int


class _Removal(BaseModel):
    source_class: str
    target_class: str
    cues: list[str]
    scoring: str
    clean_images: int
    adversarial_images: int
    curve: list[_Removed] = Field(min_length=1)
    best: _Removed
    projection: _Rates


class _Mark(BaseModel):
    """What an audit's file says it is."""

    audit: Kind
    atlas: str


_PAIR = TypeAdapter(PairAudit)
_KINDS: dict[Kind, TypeAdapter[Any]] = {
    "pair": _PAIR,
    "matrix": TypeAdapter(_Matrix),
    "folder": TypeAdapter(_Folder),
    "removal": TypeAdapter(_Removal),
}
_UNUSED: Any = {
    "length": True,
    "chosen": True,
    "cues": {"__all__": {"evidence": {"__all__": {"weight", "coefficient"}}}},
}
"""Of a pair, what no page shows."""


def read_audits(path: Path, atlas: Atlas) -> tuple[dict[str, int], dict[str, bytes]]:
    """Facts for `site.json` and the files of the site by name. path: a JSON file, or a folder of them.

    Other JSON files of a folder are left alone. Raises `AtlasError` where there is no audit, where one cannot be read,
    or where one is of another atlas.
    """
    found = [_read(file, atlas) for file in _files(path)]
    pairs = [audit for audit in found if isinstance(audit, PairAudit)]
    positions = {name: position for position, name in enumerate(atlas.source_ids)}
    files, index = {}, []
    for number, pair in enumerate(pairs):
        name = f"data/audit/pair-{number:03d}.json"
        files[name] = _json(_with_positions(pair, positions))
        named = {name: getattr(pair, name) for name in ("source_class", "target_class", "scoring", "pool")}
        index.append({**named, "cues": len(pair.cues)})
    others = {
        "matrices": [_matrix(audit) for audit in found if isinstance(audit, _Matrix)],
        "folders": [_folder(audit) for audit in found if isinstance(audit, _Folder)],
        "removals": [audit.model_dump() for audit in found if isinstance(audit, _Removal)],
    }
    files["data/audit/index.json"] = _json({"pairs": index, **others})
    return {"pairs": len(pairs), **{name: len(some) for name, some in others.items()}}, files


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = [file for file in sorted(path.glob("*.json")) if _is_audit(file)]
    if not found:
        raise AtlasError(f"{path} has no audits; make some with: secondlens audit ... --out {path}/NAME.json")
    return found


def _is_audit(file: Path) -> bool:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and "audit" in content


def _read(file: Path, atlas: Atlas) -> Any:
    with reading("an audit", file, "give a file as 'secondlens audit ... --out FILE.json' writes it"):
        text = file.read_text(encoding="utf-8")
        mark = _Mark.model_validate(json.loads(text, parse_constant=_number, parse_float=_number))
        audit = _KINDS[mark.audit].validate_json(text, strict=True)
    if mark.atlas != atlas.manifest.created:
        raise AtlasError(
            f"{file} is an audit of the atlas made {mark.atlas[:40]}, {atlas.folder} was made "
            f"{atlas.manifest.created}: its neurons are others; audit this atlas again"
        )
    return audit


def _number(text: str) -> float:
    """JSON has no NaN and no infinity, but Python and pydantic read both, and 1e999."""
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text} is no number of JSON")
    return value


def _with_positions(pair: PairAudit, positions: dict[str, int]) -> dict[str, Any]:
    facts: dict[str, Any] = _PAIR.dump_python(pair, exclude=_UNUSED)
    for cue in facts["cues"]:
        for seen in cue["evidence"]:
            seen["images"] = [positions[name] for name in seen["images"] if name in positions]
    return facts


def _matrix(audit: _Matrix) -> dict[str, Any]:
    """of: all classes; classes: of the strongest pairs; values: a row a shown class; strongest: pairs with cues."""
    chosen: list[str] = []
    for pair in sorted(audit.pairs, key=lambda pair: -pair.exploitability):
        chosen += [
            name for name in (pair.source_class, pair.target_class) if name not in chosen and len(chosen) < CLASSES
        ]
    known = {(pair.source_class, pair.target_class): pair.exploitability for pair in audit.pairs}
    names = sorted(chosen)
    return {
        "of": len(audit.classes),
        "classes": names,
        "values": [[known.get((shown, predicted)) for predicted in names] for shown in names],
        "strongest": [pair.model_dump() for pair in audit.pairs[:STRONGEST]],
    }


def _folder(audit: _Folder) -> dict[str, Any]:
    facts = audit.model_dump()
    return {**facts, "tests": len(audit.explained), "explained": facts["explained"][:TESTS]}


def _json(content: dict[str, Any] | Iterable[Any]) -> bytes:
    return json_text(content).encode()
