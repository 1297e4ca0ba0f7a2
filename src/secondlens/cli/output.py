"""What commands print: tables, JSON on stdout, progress and warnings on stderr."""

import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from secondlens.disk.json_text import json_text
from secondlens.progress import Progress as Report
from secondlens.progress import Running

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, for machines.")]


def print_json(content: dict[str, Any]) -> None:
    """One JSON object on one line; what is undefined (NaN, infinity) is null."""
    print(json_text(content))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> None:
    """A table; cells are shown as text, whatever markup they contain; numbers stand to the right."""
    kept = [list(row) for row in rows]
    table = Table(title=Text(title) if title else None, box=box.SIMPLE_HEAD, title_justify="left")
    for index, name in enumerate(columns):
        numeric = bool(kept) and all(isinstance(row[index], int | float) for row in kept)
        table.add_column(Text(name), justify="right" if numeric else "left", no_wrap=numeric, overflow="fold")
    for row in kept:
        table.add_row(*(Text(_cell(value)) for value in row))
    Console().print(table)


def print_facts(facts: dict[str, object]) -> None:
    """Two columns, names and values."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, value in facts.items():
        table.add_row(Text(name, style="bold"), Text(_cell(value)))
    Console().print(table)


def print_written(paths: Iterable[object]) -> None:
    """Name the files that were written, one a line, on stderr."""
    for path in paths:
        typer.echo(f"wrote {path}", err=True)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.1e}" if value and abs(value) < 1e-3 else f"{value:.3f}"
    return str(value)


def accuracy_text(found: dict[str, Any]) -> str:
    """Return an accuracy and its 95 % interval, in percent."""
    return f"{100 * found['accuracy']:.1f} ({100 * found['low']:.1f} to {100 * found['high']:.1f})"


@contextmanager
def bar() -> Iterator[Report]:
    """One bar a title, each at the number that was last given."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=Console(file=sys.stderr)) as shown:

        def advance(title: str, done: int, total: int) -> None:
            if title not in tasks:
                tasks[title] = shown.add_task(title, total=total)
            shown.update(tasks[title], completed=done, total=total)

        yield advance


@contextmanager
def warnings_to_stderr() -> Iterator[None]:
    """Warnings of ours as one plain line each, when the bar is gone."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    for warning in caught:
        if issubclass(warning.category, UserWarning):
            print(f"secondlens: {warning.message}", file=sys.stderr)


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C says in one line that what was finished is kept, and exits with code 130."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("secondlens: interrupted; what was finished is kept: the same command goes on from there", err=True)
        raise typer.Exit(130) from None


def decoders(workers: int | None) -> int:
    """Return how many processes decode images; None for up to four."""
    return min(4, os.cpu_count() or 1) if workers is None else workers


@contextmanager
def running(batch_size: int = 32, workers: int | None = 0, device: str = "cpu") -> Iterator[Running]:
    """How a command runs: with bars, warnings and Ctrl-C as above. workers: None for up to four."""
    with interruptible(), warnings_to_stderr(), bar() as advance:
        yield Running(batch_size, decoders(workers), device, advance)
