"""The progress bar of a survey: on stderr, with images/s and time left."""

import sys
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class SurveyBar:
    """A bar over images; `advance` counts them, `restart` begins another pass."""

    def __init__(self, shown: bool) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=Console(file=sys.stderr),
            disable=not shown,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> "SurveyBar":
        self._bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.__exit__(kind, error, trace)

    def restart(self, description: str, total: int, done: int) -> None:
        """Begin a pass over `total` images, of which `done` were done before."""
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(description, total=total, completed=done, rate="")

    def advance(self, images: int) -> None:
        """Count images."""
        if self._task is None:
            return
        self._bar.advance(self._task, images)
        speed = self._bar.tasks[0].speed if self._bar.tasks else None
        self._bar.update(self._task, rate=f"{speed:.1f} images/s" if speed else "")

    def show(self, images: int, rate: str) -> None:
        """Images done so far, and a rate that somebody else measured."""
        if self._task is not None:
            self._bar.update(self._task, completed=images, rate=rate)

    def note(self, text: str) -> None:
        """A line above the bar."""
        self._bar.console.print(text, highlight=False, soft_wrap=True) if not self._bar.disable else None
