"""A progress bar on stderr for commands, and what happens to warnings and interrupts."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from secondlens.progress import Progress as Report


@contextmanager
def bar() -> Iterator[Report]:
    """One bar a title, each at the number that was last given."""
    from rich.console import Console
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
    import typer

    try:
        yield
    except KeyboardInterrupt:
        typer.echo("secondlens: interrupted; what was finished is kept: the same command goes on from there", err=True)
        raise typer.Exit(130) from None
