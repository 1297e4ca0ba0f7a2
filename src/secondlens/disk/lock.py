"""One process at a time writes a folder.

The lock is the system's: it ends with the process, however that ends, so that nothing is left to clear away after a
kill. Who holds it stands in a file beside it. Both are removed while the lock is held, and who waited for a removed
file's lock does not get it (`filelock` looks): a finished folder has neither.
"""

import json
import os
import shlex
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from secondlens.disk.files import disk_errors, make_folder, write_text
from secondlens.errors import OutputError

LOCK = ".writer.lock"
HOLDER = ".writer.json"
WAIT = 0.2
"""Seconds before a folder is refused: its writer may be about to end."""

_held: ContextVar[frozenset[Path]] = ContextVar("_held", default=frozenset())


@contextmanager
def one_writer(folder: Path | None) -> Iterator[None]:
    """Keep other processes and threads from writing a folder, which is made where there is none; None: nothing to keep.

    What is called inside may ask for the same folder again.

    Raises `OutputError` that says who writes it, where somebody does.
    """
    place = None if folder is None else folder.resolve()
    if folder is None or place is None or place in _held.get():
        yield
        return
    make_folder(folder)
    lock = FileLock(place / LOCK, timeout=WAIT)
    with disk_errors(folder):
        try:
            lock.acquire()
        except Timeout:
            raise OutputError(
                f"{folder} is being written by {_holder(place)}: expected one writer a folder; wait until it has "
                "ended or stop it, or choose another folder"
            ) from None
    token = _held.set(_held.get() | {place})
    try:
        holder = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "command": shlex.join(sys.argv),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_text(place / HOLDER, json.dumps(holder))
        yield
    finally:
        _held.reset(token)
        _remove(place / HOLDER)
        _remove(place / LOCK)
        lock.release()


def _holder(folder: Path) -> str:
    try:
        found = json.loads((folder / HOLDER).read_text(encoding="utf-8"))
        return f"process {found['pid']} on {found['host']} since {found['since']} ({found['command']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _remove(path: Path) -> None:
    """Remove a file where that can be: Windows keeps one that is open, and the lock's file does no harm."""
    with suppress(OSError):
        path.unlink(missing_ok=True)
