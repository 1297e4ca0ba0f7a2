"""The report of an attack: HTML and Markdown for people, JSON and Parquet for machines."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from secondlens.applications.attack.folder import AttackFolder, Cell
from secondlens.applications.attack.gallery import Exhibit
from secondlens.applications.attack.judging import agreement, all_judgements
from secondlens.applications.attack.pages import markdown, page
from secondlens.applications.attack.results import KINDS, summarise
from secondlens.disk.files import make_folder, write_table, write_text
from secondlens.disk.json_text import json_text


def write_report(
    folder: AttackFolder,
    rows: Sequence[Mapping[str, Any]],
    cells: Sequence[Cell],
    pictures: int,
    exhibits: Sequence[Exhibit],
    judge: str,
) -> dict[str, Any]:
    """Write report/ and return what summary.json holds. pictures: ordered a cell; judge: who decided.

    summary.json: the attack's card, `binary` and `among_all` (see `results.summarise`), cues, captions, agreement.
    """
    make_folder(folder.report)
    found = {
        "attack": folder.card(),
        "judge": judge,
        **{
            name: summarise(rows, cells, pictures, kind)
            for name, kind in zip(("binary", "among_all"), KINDS, strict=True)
        },
        "cues": _cues(folder, cells),
        "captions": _captions(folder, cells),
        "agreement": agreement(all_judgements(folder)),
        "gallery": [{"name": each.row["name"], "image": each.picture, "map": each.heat} for each in exhibits],
    }
    write_text(folder.report / "summary.json", json_text(found, 2))
    write_table(folder.report / "predictions.parquet", _table(rows))
    write_text(folder.report / "report.md", markdown(found, exhibits))
    write_text(folder.report / "report.html", page(found, exhibits))
    return found


def _cues(folder: AttackFolder, cells: Sequence[Cell]) -> list[dict[str, Any]]:
    wanted = set(cells)
    return [line for line in folder.lines("cues") if Cell.of(line) in wanted]


def _captions(folder: AttackFolder, cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """A method's captions: answers asked for, kept, and left out by reason."""
    wanted = set(cells)
    found: dict[str, dict[str, Any]] = {}
    for line in folder.lines("descriptions"):
        if Cell.of(line) not in wanted:
            continue
        mine = found.setdefault(line["method"], {"method": line["method"], "answers": 0, "kept": 0, "left_out": {}})
        mine["answers"] += line["answers"]
        mine["kept"] += len(line["kept"])
        for text in line["left_out"]:
            mine["left_out"][text["reason"]] = mine["left_out"].get(text["reason"], 0) + 1
    return list(found.values())


def _table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """predictions.parquet: a row a picture."""
    plain = [{**row, "cues": list(row["cues"]), "judgements": json.dumps(row["judgements"])} for row in rows]
    return pa.Table.from_pylist(plain)
