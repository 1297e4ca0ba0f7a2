"""The report of a demo: one document, in Markdown and as an HTML page, beside the pictures."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from secondlens.cli.demo.settings import Done
from secondlens.viewer.document import Document, Figure, Section, write_document


def command_line(arguments: Sequence[str]) -> str:
    """Return a command as it would be typed."""
    return "secondlens " + shlex.join(arguments)


def write_report(done: Sequence[Done], folder: Path) -> Path:
    """Write report.md and report.html into a folder; return the page."""
    seconds = sum(one.seconds for one in done)
    sections = [_section(number, one, folder) for number, one in enumerate(done, start=1)]
    document = Document(
        "secondlens: the embedded world", [f"{len(done)} steps, {seconds:.0f} seconds in all."], sections=sections
    )
    for ending in (".md", ".html"):
        write_document(document, folder / f"report{ending}")
    return folder / "report.html"


def _section(number: int, one: Done, folder: Path) -> Section:
    figures = [
        Figure([(os.path.relpath(picture, folder).replace(os.sep, "/"), caption)], [caption])
        for picture, caption in one.told.pictures
    ]
    return Section(
        f"{number}. {one.step.title}",
        aside=f"{one.seconds:.1f} s",
        paragraphs=one.told.says,
        look=one.told.look,
        tables=one.told.tables,
        figures=figures,
        code=[command_line(arguments) for arguments in one.commands],
    )
