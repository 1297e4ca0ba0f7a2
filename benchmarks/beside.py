"""Another implementation beside ours in the same run: any command, in turn with a survey of ours, medians.

The command may hold {images}, {layers}, {out} and {model}: they become the folder of images, layers such as 8,9,10, an
empty folder for what it writes, and the model as it was given. Both are timed from outside, start and loading of the
model included, as their users see them; memory is the most that the largest of a command's processes had.

    python -m benchmarks.beside --command "python other.py {images} --layers {layers}" \\
        --model hf:FOLDER --images FOLDER --layers 8-10
    python -m benchmarks.beside --command "..." --model vit-b-32 --images 64 --layers 8-10

The second takes random weights of that size and as many random pictures, which both are given as folders.
"""

import argparse
import shlex
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.cluster import save_model, save_pictures
from benchmarks.report import record
from benchmarks.survey import SIZES
from secondlens.cli.options import parse_layers
from secondlens.data.sources import open_source

OURS = (
    "{python} -c 'from secondlens.cli.app import main; main()' "
    "survey {model} {images} --out {out} --layers {layers} --top {top} --json"
)


@dataclass(frozen=True)
class Ran:
    """seconds: on the clock. memory: bytes, the most that one of its processes had. status: 0 where all went well."""

    seconds: float
    memory: int
    status: int


def run(command: str, places: dict[str, str]) -> Ran:
    """Run a command to its end, placeholders filled in; what it prints goes to stderr.

    Raises `SystemExit` with the command where it cannot be started.
    """
    words = [word.format(**places) for word in shlex.split(command)]
    started = time.perf_counter()
    try:
        process = subprocess.Popen(words, stdout=sys.stderr)
    except OSError as error:
        raise SystemExit(f"cannot run {words[0]!r}: {error.strerror}") from error
    # Not the peak that `wait` reports: a child's begins with its parent's, and this process holds torch.
    family = _Family(process.pid)
    family.start()
    status = process.wait()
    return Ran(time.perf_counter() - started, family.end(), status)


class _Family(threading.Thread):
    """The largest peak among a process and its descendants: the kernel's own, asked for ten times a second."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.peak, self.over = pid, 0, threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.1):
            self.peak = max(self.peak, *map(self._peak, self._family(self.pid)))

    def end(self) -> int:
        self.over.set()
        self.join()
        return self.peak

    def _family(self, pid: int) -> list[int]:
        family = [pid]
        for parent in family:
            for path in Path("/proc").glob(f"{parent}/task/*/children"):
                try:
                    family += map(int, path.read_text().split())
                except OSError:
                    continue
        return family

    def _peak(self, pid: int) -> int:
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:
            return 0
        return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def in_turn(ours: str, theirs: str, places: dict[str, str], rounds: int) -> tuple[list[Ran], list[Ran]]:
    """Both commands as often as `rounds`, one after the other; each into an empty {out}.

    Raises `SystemExit` where one fails.
    """
    found: tuple[list[Ran], list[Ran]] = ([], [])
    for number in range(rounds):
        # Who begins changes: what the first leaves in the system's caches helps the second.
        for which in (0, 1) if number % 2 == 0 else (1, 0):
            with tempfile.TemporaryDirectory() as out:
                ran = run((ours, theirs)[which], {**places, "out": f"{out}/out"})
            if ran.status != 0:
                raise SystemExit(f"{'ours' if which == 0 else 'theirs'} ended with status {ran.status}")
            found[which].append(ran)
    return found


def measure(
    command: str, model: str, images: str, layers: str, top: int, rounds: int, ours: str = OURS
) -> dict[str, Any]:
    """Images a second of both, paired ratio of their seconds, memory; medians over rounds."""
    count = len(open_source(images).ids)
    numbers = parse_layers(layers)
    places = {
        "python": sys.executable,
        "model": model,
        "images": images,
        "layers": "all" if numbers is None else ",".join(map(str, numbers)),
        "top": str(top),
    }
    mine, theirs = in_turn(ours, command, places, rounds)
    pairs = list(zip(mine, theirs, strict=True))
    return {
        "layers": layers,
        "images": count,
        "top": top,
        "rounds": rounds,
        "ours_seconds": round(statistics.median(ran.seconds for ran in mine), 2),
        "theirs_seconds": round(statistics.median(ran.seconds for ran in theirs), 2),
        "ours_images_per_second": round(count / statistics.median(ran.seconds for ran in mine), 3),
        "theirs_images_per_second": round(count / statistics.median(ran.seconds for ran in theirs), 3),
        "ratio": round(statistics.median(b.seconds / a.seconds for a, b in pairs), 3),
        "ours_peak_gib": round(statistics.median(ran.memory for ran in mine) / 2**30, 2),
        "theirs_peak_gib": round(statistics.median(ran.memory for ran in theirs) / 2**30, 2),
    }


@contextmanager
def at_hand(model: str, images: str) -> Iterator[tuple[str, str]]:
    """(model, images) as given; the name of a size and a number become random weights and random pictures on disk."""
    with tempfile.TemporaryDirectory() as folder:
        if model in (*SIZES, "tiny"):
            model = save_model(Path(folder) / "model", model)
        if images.isdigit():
            images = str(save_pictures(Path(folder) / "images", int(images)))
        yield model, images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--command", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--images", required=True, help="anything that a survey takes")
    parser.add_argument("--layers", default="all")
    parser.add_argument("--top", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--name", default="other", help="of the other implementation, for the table")
    arguments = parser.parse_args()
    with at_hand(arguments.model, arguments.images) as (model, images):
        figures = measure(arguments.command, model, images, arguments.layers, arguments.top, arguments.rounds)
    places = tuple(o for o in ("--model", "--images") if "/" in getattr(arguments, o.strip("-")))
    record(
        "beside",
        {"model": Path(arguments.model).name, "name": arguments.name, **figures},
        places=("--command", *places),
    )


if __name__ == "__main__":
    main()
