"""The report of an attack: results.json and pages in Markdown and HTML."""

import html
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from secondlens.analysis.attack.folder import AttackFolder, Cell
from secondlens.analysis.attack.judging import agreement, all_judgements
from secondlens.analysis.attack.results import KINDS, summarise
from secondlens.analysis.attack.settings import METHODS
from secondlens.analysis.audit.similarity import names_of
from secondlens.disk.files import make_folder, write_table, write_text
from secondlens.disk.json_text import json_text
from secondlens.viewer.reports.attack_gallery import Exhibit

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


def bold(text: str, cues: Sequence[str], mark: tuple[str, str], escape: Callable[[str], str] = str) -> str:
    """A caption with its cues between marks; everything else escaped."""
    names = sorted({name for cue in cues for name in names_of(cue)}, key=len, reverse=True)
    if not names:
        return escape(text)
    pattern = re.compile(rf"(?<!\w)({'|'.join(map(re.escape, names))})(?:s|es)?(?!\w)", re.IGNORECASE)
    parts, last = [], 0
    for match in pattern.finditer(text):
        parts += [escape(text[last : match.start()]), mark[0], escape(match[0]), mark[1]]
        last = match.end()
    return "".join([*parts, escape(text[last:])])


def _percent(row: Mapping[str, Any]) -> str:
    """Pictures of 100: mean, +- the standard deviation over repeats."""
    return f"{100 * row['success']:.1f}" + (f" ± {100 * row['std']:.1f}" if row["std"] is not None else "")


def _interval(row: Mapping[str, Any]) -> str:
    return "" if row["low"] is None else f"{100 * row['low']:.1f} to {100 * row['high']:.1f}"


def _tables(found: Mapping[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """title, columns and rows of every table."""
    tables: list[tuple[str, list[str], list[list[str]]]] = []
    titles = {"binary": "of the two classes", "among_all": "among all classes"}
    for name, title in titles.items():
        summary = found[name]
        methods = [row["method"] for row in summary["methods"]]
        pairs = list(dict.fromkeys((row["source_class"], row["target_class"]) for row in summary["pairs"]))
        rates = {(row["source_class"], row["target_class"], row["method"]): row for row in summary["pairs"]}
        tables.append(
            (
                f"Pictures of 100 taken for the predicted class, {title} (mean ± std over repeats)",
                ["shown → predicted", *methods],
                [[f"{a} → {b}", *(_percent(rates[a, b, method]) for method in methods)] for a, b in pairs]
                + [["all pairs", *(_percent(row) for row in summary["methods"])]]
                + [["95 % interval", *(_interval(row) for row in summary["methods"])]],
            )
        )
        tables.append(
            (
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
        (
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
        (
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
            (
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
        (
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


def _heading(row: Mapping[str, Any]) -> str:
    return f"{row['source_class']} → {row['target_class']}, {row['method']}"


def markdown(found: Mapping[str, Any], exhibits: Sequence[Exhibit]) -> str:
    """report.md."""

    def escape(text: str) -> str:
        return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", text)

    lines = ["# Semantic adversarial images", "", *(f"{text}\n" for text in INTENDED_USE), "## How it was made", ""]
    lines += [f"- {escape(name)}: {escape(value)}" for name, value in _facts(found)]
    for title, columns, rows in _tables(found):
        lines += [
            "",
            f"## {escape(title)}",
            "",
            f"| {' | '.join(map(escape, columns))} |",
            "|" + " --- |" * len(columns),
        ]
        lines += [f"| {' | '.join(map(escape, row))} |" for row in rows]
    lines += [
        "",
        "## Gallery",
        "",
        "Cues are bold. Map: vermilion speaks for the predicted class, blue for the shown one.",
        "",
    ]
    for each in exhibits:
        row = each.row
        lines += [
            f"### {escape(_heading(row))}",
            "",
            f"![picture](<{each.picture}>) ![map](<{each.heat}>)",
            "",
            f"{bold(row['prompt'], row['cues'], ('**', '**'), escape)}  ",
            f"taken for {escape(row['target_class'])} of the two, {escape(row['prediction'])} among all "
            f"(margin {row['margin']:.3f})",
            "",
        ]
    return "\n".join(lines) + "\n"


STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: .5rem 0 1.5rem } th, td { padding: .25rem .7rem; text-align: left }
th { border-bottom: 1px solid #888 } td + td { font-variant-numeric: tabular-nums }
.use { border-left: 4px solid #0072B2; padding: .1rem 1rem; background: #f4f8fb }
.gallery { display: flex; flex-wrap: wrap; gap: 1.2rem } figure { margin: 0; width: 452px }
figure img { width: 224px; image-rendering: auto } figcaption { font-size: 14px } .quiet { color: #555 }
"""


def page(found: Mapping[str, Any], exhibits: Sequence[Exhibit]) -> str:
    """report.html: one file beside its gallery; texts are escaped, nothing is fetched."""
    escape = html.escape
    parts = ["<!doctype html><html lang='en'><meta charset='utf-8'><title>Semantic adversarial images</title>",
             f"<style>{STYLE}</style><h1>Semantic adversarial images</h1><div class='use'>"]  # fmt: skip
    for text in INTENDED_USE:
        marked = re.sub(r"[*]{2}(.+?)[*]{2}", r"<b>\1</b>", escape(text))
        slanted = re.sub(r"[*](.+?)[*]", r"<i>\1</i>", marked)
        parts.append(f"<p>{slanted}</p>")
    parts += ["</div><h2>How it was made</h2><table>"]
    parts += [f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in _facts(found)]
    parts.append("</table>")
    for title, columns, rows in _tables(found):
        parts.append(
            f"<h2>{escape(title)}</h2><table><tr>{''.join(f'<th>{escape(name)}</th>' for name in columns)}</tr>"
        )
        parts += [f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows]
        parts.append("</table>")
    parts.append(
        "<h2>Gallery</h2><p class='quiet'>Cues are bold. Map: vermilion speaks for the predicted class, blue for the "
        "shown one.</p><div class='gallery'>"
    )
    for each in exhibits:
        row = each.row
        verdict = (
            f"taken for {row['target_class']} of the two, {row['prediction']} among all (margin {row['margin']:.3f})"
        )
        parts.append(
            f"<figure><img src='{escape(each.picture)}' alt='synthetic picture'>"
            f"<img src='{escape(each.heat)}' alt='map'>"
            f"<figcaption><b class='quiet'>{escape(_heading(row))}</b><br>"
            f"{bold(row['prompt'], row['cues'], ('<b>', '</b>'), escape)}<br>"
            f"<span class='quiet'>{escape(verdict)}</span></figcaption></figure>"
        )
    if not exhibits:
        parts.append("<p>No valid picture of these methods fooled the model.</p>")
    return "".join([*parts, "</div></html>\n"])


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
