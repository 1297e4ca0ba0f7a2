"""The report of a demo: the same content in Markdown and as one HTML page, beside the pictures."""

import os
import shlex
from collections.abc import Sequence
from html import escape
from pathlib import Path

from secondlens.cli.demo.settings import Done, Table
from secondlens.disk.files import write_text

TITLE = "secondlens: the embedded world"
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; }
h2 { border-top: 1px solid #ccc; padding-top: 1rem; margin-top: 2.5rem; }
h2 small { color: #666; font-weight: normal; font-size: 0.9rem; }
pre { background: #f4f4f4; padding: 0.6rem; overflow-x: auto; font-size: 0.85rem; }
table { border-collapse: collapse; margin: 1rem 0; font-size: 0.9rem; }
caption { text-align: left; color: #444; padding-bottom: 0.3rem; }
th, td { border-bottom: 1px solid #ddd; padding: 0.2rem 0.7rem; text-align: left; vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; image-rendering: auto; } figure { margin: 1rem 0; } figcaption { color: #444; }
.look { border-left: 4px solid #0072B2; padding-left: 0.8rem; }
@media (prefers-color-scheme: dark) {
  body { background: #16181c; color: #e4e4e4; } pre { background: #23262c; } th, td { border-color: #444; }
  caption, figcaption, h2 small { color: #aaa; } img { background: white; }
}
"""


def cell(value: object) -> str:
    """A cell as text: floats with three digits."""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1 else f"{value:.1f}"
    return str(value)


def command_line(arguments: Sequence[str]) -> str:
    """A command as it would be typed."""
    return "secondlens " + shlex.join(arguments)


def write_markdown(done: Sequence[Done], path: Path) -> None:
    """Write the report as Markdown."""
    lines = [f"# {TITLE}", "", f"{len(done)} steps, {sum(one.seconds for one in done):.0f} seconds in all."]
    for number, one in enumerate(done, start=1):
        lines += ["", f"## {number}. {one.step.title} ({one.seconds:.1f} s)", "", *_paragraphs(one.told.says)]
        if one.told.look:
            lines += [f"**Look at**: {one.told.look}", ""]
        for table in one.told.tables:
            lines += _markdown_table(table)
        for picture, caption in one.told.pictures:
            lines += [f"![{caption}]({_relative(picture, path)})", "", f"*{caption}*", ""]
        lines += ["```bash", *(command_line(arguments) for arguments in one.commands), "```"]
    write_text(path, "\n".join(lines) + "\n")


def write_html(done: Sequence[Done], path: Path) -> None:
    """Write the report as one page; pictures are linked, nothing is loaded from elsewhere."""
    parts = [f"<p>{len(done)} steps, {sum(one.seconds for one in done):.0f} seconds in all.</p>"]
    for number, one in enumerate(done, start=1):
        parts.append(f"<h2>{number}. {escape(one.step.title)} <small>{one.seconds:.1f} s</small></h2>")
        parts += [f"<p>{escape(sentence)}</p>" for sentence in one.told.says]
        if one.told.look:
            parts.append(f'<p class="look"><b>Look at</b>: {escape(one.told.look)}</p>')
        parts += [_html_table(table) for table in one.told.tables]
        for picture, caption in one.told.pictures:
            source = escape(_relative(picture, path), quote=True)
            parts.append(
                f'<figure><img src="{source}" alt="{escape(caption, quote=True)}">'
                f"<figcaption>{escape(caption)}</figcaption></figure>"
            )
        parts.append(f"<pre>{escape(chr(10).join(command_line(arguments) for arguments in one.commands))}</pre>")
    head = (
        f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{TITLE}</title>'
        f"<style>{STYLE}</style>"
    )
    body = "\n".join([f"<h1>{TITLE}</h1>", *parts])
    write_text(path, f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n')


def _paragraphs(sentences: Sequence[str]) -> list[str]:
    return [line for sentence in sentences for line in (sentence, "")]


def _markdown_table(table: Table) -> list[str]:
    def row(cells: Sequence[object]) -> str:
        return "| " + " | ".join(cell(value).replace("|", "\\|").replace("\n", " ") for value in cells) + " |"

    return [f"*{table.title}*", "", row(table.columns), row(["---"] * len(table.columns)), *map(row, table.rows), ""]


def _html_table(table: Table) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in table.columns)
    rows = "".join("<tr>" + "".join(_html_cell(value) for value in cells) + "</tr>" for cells in table.rows)
    return f"<table><caption>{escape(table.title)}</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _html_cell(value: object) -> str:
    kind = ' class="number"' if isinstance(value, int | float) else ""
    return f"<td{kind}>{escape(cell(value))}</td>"


def _relative(picture: Path, report: Path) -> str:
    return os.path.relpath(picture, report.parent).replace(os.sep, "/")
