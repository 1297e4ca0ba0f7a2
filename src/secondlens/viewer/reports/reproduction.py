"""The report of a reproduction: Markdown with tables and pictures, and the same as JSON."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from secondlens.disk.files import write_text

if TYPE_CHECKING:
    from secondlens.studies.reproduction.run import Outcome

REPORT = "REPORT.md"
HEAD = """# Beside the paper

*Interpreting the Second-Order Effects of Neurons in CLIP* (Gandelsman, Efros, Steinhardt, ICLR 2025). "inside" and
"outside" are said of the printed digits with their tolerance, and of claims without digits with bounds that are a
reading of the text. "other setting": the paper's digits are of another model, other images or other settings.
"""


def write_report(outcomes: Sequence["Outcome"], out: Path) -> Path:
    """REPORT.md in a folder, over all outcomes; pictures are those in the presets' folders below it."""
    parts = [HEAD, _overview(outcomes)]
    parts += [_section(outcome) for outcome in outcomes]
    path = out / REPORT
    write_text(path, "\n".join(parts))
    return path


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table; bars in cells are escaped."""

    def line(cells: Sequence[Any]) -> str:
        return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    return "\n".join([line(columns), line(["---"] * len(columns)), *map(line, rows)]) + "\n"


def _overview(outcomes: Sequence["Outcome"]) -> str:
    rows = []
    for outcome in outcomes:
        states = [row["state"] for row in outcome.comparisons]
        counts = [f"{states.count(name)} {name}" for name in dict.fromkeys(states)]
        rows.append([f"[{outcome.name}](#{outcome.name})", outcome.title, ", ".join(counts) or "nothing to compare"])
    return markdown_table(["preset", "what", "agreement"], rows)


def _section(outcome: "Outcome") -> str:
    parts = [f"## {outcome.name}\n", f"{outcome.title} ({outcome.paper}).\n"]
    parts.append(markdown_table(["setting", "here"], list(outcome.setting.items())))
    if outcome.changed:
        parts.append("Not as in the paper: " + "; ".join(outcome.changed) + ".\n")
    if outcome.comparisons:
        rows = [[row[name] for name in ("text", "paper", "ours", "state")] for row in outcome.comparisons]
        parts.append(markdown_table(["quantity", "paper", "ours", "state"], rows))
        notes = [f"- {row['text']}: {row['note']}" for row in outcome.comparisons if row["note"]]
        if notes:
            parts.append("\n".join(notes) + "\n")
    for title, columns, rows in outcome.tables:
        parts.append(f"{title}\n")
        parts.append(markdown_table(columns, rows))
    pictures = [name for name in outcome.files if name.endswith(".png")]
    parts += [f"![{outcome.title}]({outcome.name}/{name})\n" for name in pictures]
    parts += [f"{note}\n" for note in outcome.notes]
    return "\n".join(parts)
