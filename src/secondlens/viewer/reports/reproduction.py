"""The report of a reproduction: every preset's numbers beside the paper's."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from secondlens.viewer.document import Document, Figure, Section, Table, marked, write_document

if TYPE_CHECKING:
    from secondlens.studies.reproduction.run import Outcome

REPORT = "REPORT.md"
LEAD = (
    "*Interpreting the Second-Order Effects of Neurons in CLIP* (Gandelsman, Efros, Steinhardt, ICLR 2025). "
    '"inside" and "outside" are said of the printed digits with their tolerance, and of claims without digits with '
    'bounds that are a reading of the text. "other setting": the paper\'s digits are of another model, other images or '
    "other settings."
)


def write_report(outcomes: Sequence["Outcome"], out: Path) -> Path:
    """Write REPORT.md, and the same as report.html, over all outcomes; return the former.

    Pictures are those in the presets' folders below `out`.
    """
    document = Document("Beside the paper", [marked(LEAD)], sections=[_overview(outcomes), *map(_section, outcomes)])
    write_document(document, out / REPORT)
    write_document(document, out / "report.html")
    return out / REPORT


def _overview(outcomes: Sequence["Outcome"]) -> Section:
    rows = []
    for outcome in outcomes:
        states = [row["state"] for row in outcome.comparisons]
        counts = [f"{states.count(name)} {name}" for name in dict.fromkeys(states)]
        rows.append([outcome.name, outcome.title, ", ".join(counts) or "nothing to compare"])
    return Section("Overview", tables=[Table("", ["preset", "what", "agreement"], rows)])


def _section(outcome: "Outcome") -> Section:
    paragraphs = [f"{outcome.title} ({outcome.paper})."]
    if outcome.changed:
        paragraphs.append("Not as in the paper: " + "; ".join(outcome.changed) + ".")
    tables = [Table("setting", ["setting", "here"], list(outcome.setting.items()))]
    if outcome.comparisons:
        rows = [[row[name] for name in ("text", "paper", "ours", "state")] for row in outcome.comparisons]
        tables.append(Table("agreement", ["quantity", "paper", "ours", "state"], rows))
    pictures = [name for name in outcome.files if name.endswith(".png")]
    return Section(
        outcome.name,
        paragraphs=[*paragraphs, *outcome.notes],
        items=[f"{row['text']}: {row['note']}" for row in outcome.comparisons if row["note"]],
        tables=[*tables, *(Table(title, columns, rows) for title, columns, rows in outcome.tables)],
        figures=[Figure([(f"{outcome.name}/{name}", outcome.title)], []) for name in pictures],
    )
