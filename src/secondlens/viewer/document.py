"""Reports as data, rendered by one pair of templates: Markdown for people with an editor, HTML for all others."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from secondlens.disk.files import write_text

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).with_name("templates")

Spans = tuple[tuple[str, str], ...]
"""Pieces of a text, each with its style: "strong", "em", or "" for none."""


@dataclass(frozen=True)
class Table:
    """A table: its title, the names of its columns, and rows of cells."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]


@dataclass(frozen=True)
class Figure:
    """Images side by side, each as an address relative to the report and its alternative text, and lines below them."""

    images: Sequence[tuple[str, str]]
    caption: Sequence[str | Spans]


@dataclass(frozen=True)
class Section:
    """A part of a document, in the order of its fields. aside: small print behind the title."""

    title: str
    aside: str = ""
    paragraphs: Sequence[str | Spans] = ()
    look: str = ""
    items: Sequence[str] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    code: Sequence[str] = ()


@dataclass(frozen=True)
class Document:
    """A report. notice: paragraphs that nobody should miss."""

    title: str
    lead: Sequence[str | Spans] = ()
    notice: Sequence[str | Spans] = ()
    sections: Sequence[Section] = field(default_factory=list)


def write_document(document: Document, path: Path) -> None:
    """Write a document, atomically, as Markdown or HTML by the ending of the path: `.md` or `.html`.

    All texts are escaped; the page loads nothing but the images beside it.
    """
    template = _environment().get_template(f"document{path.suffix}.jinja")
    write_text(path, template.render(document=document))


def marked(text: str) -> Spans:
    """Return the spans of a text of ours, in which **strong** and *emphasis* are marked."""
    styles = {"**": "strong", "*": "em", None: ""}
    pieces = re.finditer(r"(?P<mark>\*\*|\*)(?P<inner>.+?)(?P=mark)|(?P<plain>[^*]+)", text)
    return tuple((piece["plain"] or piece["inner"], styles[piece["mark"]]) for piece in pieces)


def cell_text(value: object) -> str:
    """Return a cell as text: three digits of a float below one, one decimal of others, nothing for None."""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1 else f"{value:.1f}"
    return "" if value is None else str(value)


def escape_markdown(text: object) -> str:
    """Return a text on one line that Markdown shows as it is, also in a table."""
    line = " ".join(str(text).split())
    return re.sub(r"[\\`*\[\]<|]|(?<!\w)_|_(?!\w)|^[#>]", lambda match: f"\\{match[0]}", line)


def _markdown_spans(text: str | Spans) -> str:
    if isinstance(text, str):
        return escape_markdown(text)
    marks = {"strong": "**", "em": "*", "": ""}
    # Escaping trims a text's ends; the spaces between spans are kept.
    parts = []
    for piece, style in text:
        inner = escape_markdown(piece)
        before, after = (" " if piece[:1].isspace() else ""), (" " if inner and piece[-1:].isspace() else "")
        parts.append(f"{before}{marks[style]}{inner}{marks[style]}{after}")
    return "".join(parts)


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(["html.jinja"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["cell"] = cell_text
    environment.filters["markdown"] = escape_markdown
    environment.filters["spans"] = _markdown_spans
    environment.tests["number"] = lambda value: isinstance(value, int | float)
    return environment
