"""How long functions run, and how they report how far they are: they call a function, which the caller may give."""

from collections.abc import Callable
from dataclasses import dataclass

Progress = Callable[[str, int, int], None]
"""Called with a title, how many are done, and of how many."""
Count = Callable[[int, int], None]
"""Called with how many are done, and of how many."""


def silent(title: str, done: int, total: int) -> None:
    """Where nobody wants to know."""


@dataclass(frozen=True)
class Running:
    """How something runs, apart from what it computes.

    batch_size: images per forward pass. workers: processes that decode images, none by default. device: for models that
    are loaded; one that was loaded stays where it is. progress: told how far it is.
    """

    batch_size: int = 32
    workers: int = 0
    device: str = "cpu"
    progress: Progress = silent

    def counting(self, title: str) -> Count:
        """Return what is called without a title: progress under this one."""
        return lambda done, total: self.progress(title, done, total)


RUNNING = Running()
"""Where the caller says nothing."""
