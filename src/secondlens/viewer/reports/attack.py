"""The report of an attack: results.json and pages in Markdown and HTML."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from secondlens.analysis.attack.folder import AttackFolder, Cell
from secondlens.analysis.attack.judging import agreement, all_judgements
from secondlens.analysis.attack.results import KINDS, summarise
from secondlens.analysis.attack.settings import METHODS
from secondlens.analysis.audit.similarity import names_of
from secondlens.disk.files import make_folder, write_table, write_text
from secondlens.disk.json_text import json_text
from secondlens.viewer.document import Document, Figure, Section, Spans, Table, marked, write_document
from secondlens.viewer.reports.attack_gallery import Exhibit

TITLE = "Semantic adversarial images"
INTENDED_USE = (
    "**What this is for.** To find out, before others do, by which spurious cues a vision model can be led astray, and "
    "to mend it: to see which classes lean on surroundings, colours or companions, to collect data against that, to "
    "remove the neurons that carry a cue, and to report a model's weaknesses with figures.",
    "**What it is not for.** To deceive systems that you are not allowed to test. Audit models that are yours, that "
    "are published, or whose owners agreed.",
    "**What the pictures are.** All are synthetic and say so in their metadata. They show no real persons or events "
    "and are no evidence of any; they are no training data without a look at each.",
    "**What the figures say.** Success is the share of *ordered* pictures that a judge found valid (it shows the shown "
    "class and not the predicted one) and that the model took for the predicted class. It depends on the image model, "
    "the language model and the judge as much as on the attacked model; compare methods within one report only.",
)


def cues_marked(text: str, cues: Sequence[str]) -> Spans:
    """Return a caption with its cues as strong spans."""
    names = sorted({name for cue in cues for name in names_of(cue)}, key=len, reverse=True)
    if not names:
        return ((text, ""),)
    pattern = rf"(?<!\w)((?:{'|'.join(map(re.escape, names))})(?:s|es)?)(?!\w)"
    pieces = re.split(pattern, text, flags=re.IGNORECASE)
    return tuple((piece, "strong" if number % 2 else "") for number, piece in enumerate(pieces) if piece)


def _percent(row: Mapping[str, Any]) -> str:
    """Pictures of 100: mean, +- the standard deviation over repeats."""
    return f"{100 * row['success']:.1f}" + (f" ± {100 * row['std']:.1f}" if row["std"] is not None else "")


def _interval(row: Mapping[str, Any]) -> str:
    return "" if row["low"] is None else f"{100 * row['low']:.1f} to {100 * row['high']:.1f}"


def _tables(found: Mapping[str, Any]) -> list[Table]:
    tables: list[Table] = []
    titles = {"binary": "of the two classes", "among_all": "among all classes"}
    for name, title in titles.items():
        summary = found[name]
        methods = [row["method"] for row in summary["methods"]]
        pairs = list(dict.fromkeys((row["source_class"], row["target_class"]) for row in summary["pairs"]))
        rates = {(row["source_class"], row["target_class"], row["method"]): row for row in summary["pairs"]}
        tables.append(
            Table(
                f"Pictures of 100 taken for the predicted class, {title} (mean ± std over repeats)",
                ["shown → predicted", *methods],
                [[f"{a} → {b}", *(_percent(rates[a, b, method]) for method in methods)] for a, b in pairs]
                + [["all pairs", *(_percent(row) for row in summary["methods"])]]
                + [["95 % interval", *(_interval(row) for row in summary["methods"])]],
            )
        )
        tables.append(
            Table(
                f"Against the baselines, {title}",
                ["method", "baseline", "difference", "times as often", "95 % interval", "p, cells", "p, pairs"],
                [
                    [
                        row["method"],
                        row["baseline"],
                        f"{100 * row['difference']:+.1f}",
                        "baseline never" if row["ratio"] is None else f"{row['ratio']:.1f}",
                        " to ".join(
                            "∞" if row[end] is None else f"{row[end]:.1f}" for end in ("ratio_low", "ratio_high")
                        ),
                        f"{row['p_cells']:.2g}",
                        f"{row['p_pairs']:.2g}",
                    ]
                    for row in summary["tests"]
                ],
            )
        )
    tables.append(
        Table(
            f"Pictures by method, judged by {found['judge']}",
            ["method", "pictures", "valid", "discarded", "undecided", "fooled of the valid"],
            [
                [
                    row["method"],
                    *(str(row[name]) for name in ("images", "valid", "discarded", "undecided")),
                    "" if row["fooled_of_valid"] is None else f"{100 * row['fooled_of_valid']:.1f} %",
                ]
                for row in found["binary"]["methods"]
            ],
        )
    )
    tables.append(
        Table(
            "Captions by method",
            ["method", "answers", "kept", "left out"],
            [
                [row["method"], str(row["answers"]), str(row["kept"]),
                 ", ".join(f"{count} {reason}" for reason, count in row["left_out"].items()) or "none"]
                for row in found["captions"]
            ],
        )
    )  # fmt: skip
    if found["agreement"]:
        tables.append(
            Table(
                "Agreement of judges on whether a picture is valid",
                ["judges", "pictures", "agree", "Cohen's kappa"],
                [
                    [" and ".join(row["judges"]), str(row["images"]), f"{100 * row['agree']:.1f} %",
                     "undefined" if row["kappa"] is None else f"{row['kappa']:.2f}"]
                    for row in found["agreement"]
                ],
            )
        )  # fmt: skip
    cues = {
        (line["source_class"], line["target_class"], line["method"]): line
        for line in found["cues"]
        if line["repeat"] == 1
    }
    tables.append(
        Table(
            "Cues (first repeat, strongest first)",
            ["shown → predicted", "method", "cues"],
            [[f"{a} → {b}", method, "; ".join(cue["text"] for cue in line["cues"][:10])]
             for (a, b, method), line in cues.items()],
        )
    )  # fmt: skip
    return tables


def _facts(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    card = found["attack"]
    return [
        ("attacked model", str(card["model"])),
        ("captions by", str(card["language_model"])),
        ("pictures by", str(card["image_model"])),
        ("judged by", ", ".join(card["judges"])),
        ("settings", ", ".join(f"{name} {value}" for name, value in card["settings"].items() if value is not None)),
        *((f"method {row['method']}", METHODS[row["method"]]) for row in found["binary"]["methods"]),
    ]


def report(found: Mapping[str, Any], exhibits: Sequence[Exhibit]) -> Document:
    """Return how the attack was made, its tables and its gallery as a document."""
    note = "Cues are bold. Map: vermilion speaks for the predicted class, blue for the shown one."
    gallery = Section(
        "Gallery",
        paragraphs=[note] if exhibits else ["No valid picture of these methods fooled the model."],
        figures=[_exhibit(each) for each in exhibits],
    )
    facts = Section("How it was made", tables=[Table("", ["what", "which"], _facts(found))])
    tables = [Section(table.title, tables=[Table("", table.columns, table.rows)]) for table in _tables(found)]
    return Document(TITLE, notice=[marked(text) for text in INTENDED_USE], sections=[facts, *tables, gallery])


def _exhibit(each: Exhibit) -> Figure:
    row = each.row
    outcome = f"taken for {row['target_class']} of the two, {row['prediction']} among all (margin {row['margin']:.3f})"
    heading = ((f"{row['source_class']} → {row['target_class']}, {row['method']}", "strong"),)
    images = [(each.picture, "synthetic picture"), (each.heat, "map")]
    return Figure(images, [heading, cues_marked(row["prompt"], row["cues"]), outcome])


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
    for ending in (".md", ".html"):
        write_document(report(found, exhibits), folder.report / f"report{ending}")
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
