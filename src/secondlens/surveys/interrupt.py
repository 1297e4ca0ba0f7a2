"""Stopping between batches: an interrupt in the middle of one would leave half of it in the statistics."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """Whether somebody asked to stop; `stop()` raises `KeyboardInterrupt` then."""

    def __init__(self) -> None:
        self.asked = False

    def stop(self) -> None:
        """Raise if asked to."""
        if self.asked:
            raise KeyboardInterrupt


@contextmanager
def deferred() -> Iterator[Interrupt]:
    """Note SIGINT and SIGTERM instead of acting on them; a second one acts as it would have.

    Only the main thread may handle signals: elsewhere nothing is deferred.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        interrupt.asked = True
        restore()

    for number in SIGNALS:
        signal.signal(number, note)
    try:
        yield interrupt
    finally:
        restore()
