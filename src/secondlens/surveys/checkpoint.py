"""Progress of a survey on disk: a killed survey goes on from here and ends as if it had not been killed.

`progress/progress.json` is written last and by rename, and names the state file it belongs to; what it does not name
is left over from a kill and removed.
"""

import json
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from safetensors.torch import load_file
from torch import Tensor

from secondlens.atlas.store import embeddings_table
from secondlens.disk.files import make_folder, write_table, write_tensors, write_text
from secondlens.errors import SurveyError

# A checkpoint may cost a twentieth of the time, and a kill at most this many seconds or twenty checkpoints' time.
INTERVAL = 60.0
SHARE = 0.05


@dataclass
class Progress:
    """Where a survey stands.

    settings: what must not change. groups, capacity: the plan, which depends on the memory that was free. parts: into
    how many parts the images are cut. group, scan, batch: the pass, the first ("first") or the second ("second") over
    its images, and the next batch. skipped: reasons by position. second_pass: number of neurons that needed one, by
    layer. thumbnails, embeddings: files of what was kept of the images.
    """

    settings: dict[str, Any]
    groups: list[list[int]]
    capacity: int
    parts: int = 1
    group: int = 0
    scan: str = "first"
    batch: int = 0
    skipped: dict[int, str] = field(default_factory=dict)
    second_pass: dict[int, int] = field(default_factory=dict)
    thumbnails: list[str] = field(default_factory=list)
    embeddings: list[str] = field(default_factory=list)
    seconds: float = 0.0
    state: str | None = None

    def next_scan(self, group: int, scan: str) -> None:
        """Move on to the beginning of another pass."""
        self.group, self.scan, self.batch = group, scan, 0


class Checkpoints:
    """Reads and writes `Progress` and the statistics' state in the folder of an atlas or of a part.

    timed: whether checkpoints become due; without, none is written between passes.
    """

    def __init__(self, folder: Path, timed: bool = True) -> None:
        self.folder = folder / "progress"
        self._timed = timed
        self._written = time.monotonic()
        self._cost = 0.0
        self._thumbnails: list[tuple[str, bytes]] = []
        self._embeddings: list[tuple[Tensor, Tensor]] = []

    def load(self, fresh: Progress) -> Progress:
        """The progress of an interrupted run, else the fresh one; raises `SurveyError` where settings differ."""
        path = self.folder / "progress.json"
        if not path.is_file():
            make_folder(self.folder)
            return fresh
        stored = json.loads(path.read_text(encoding="utf-8"))
        require_same(
            stored["settings"],
            # Also what only the stored ones have: of a part, which of them it is.
            dict.fromkeys(stored["settings"]) | fresh.settings,
            f"{self.folder.parent} holds an unfinished survey of other settings",
        )
        for name in ("skipped", "second_pass"):
            stored[name] = {int(key): value for key, value in stored[name].items()}
        progress = Progress(**stored)
        known = {path.name, progress.state, *progress.thumbnails, *progress.embeddings}
        for left_over in self.folder.iterdir():
            # A folder holds finished parts, which look after themselves.
            if left_over.name not in known and left_over.is_file():
                left_over.unlink()
        return progress

    def state(self, progress: Progress) -> dict[str, Tensor]:
        """The statistics' state that belongs to a progress."""
        return {} if progress.state is None else load_file(self.folder / progress.state)

    def due(self) -> bool:
        """Whether it is time for a checkpoint."""
        return self._timed and time.monotonic() - self._written > max(INTERVAL, self._cost / SHARE)

    def add_thumbnails(self, ids: list[str], jpegs: tuple[bytes, ...]) -> None:
        """Keep thumbnails until the next checkpoint."""
        self._thumbnails += zip(ids, jpegs, strict=True)

    def add_embeddings(self, positions: Tensor, embeddings: Tensor) -> None:
        """Keep embeddings as `kept_embeddings` gives them until the next checkpoint."""
        self._embeddings.append((positions, embeddings))

    def save(self, progress: Progress, state: dict[str, Tensor]) -> None:
        """Write everything; the progress last."""
        started, old = time.monotonic(), progress.state
        tag = f"{progress.group:03d}-{progress.scan}-{progress.batch:08d}"
        if self._thumbnails:
            name = f"thumbnails-{tag}.parquet"
            ids, jpegs = zip(*self._thumbnails, strict=True)
            write_table(self.folder / name, pa.table({"id": pa.array(ids), "jpeg": pa.array(jpegs, pa.binary())}))
            progress.thumbnails.append(name)
            self._thumbnails = []
        if self._embeddings:
            name = f"embeddings-{tag}.parquet"
            write_table(self.folder / name, embeddings_table(*map(torch.cat, zip(*self._embeddings, strict=True))))
            progress.embeddings.append(name)
            self._embeddings = []
        progress.state = None
        if state:
            progress.state = f"state-{tag}.safetensors"
            write_tensors(self.folder / progress.state, state)
        write_text(self.folder / "progress.json", json.dumps(vars(progress)))
        if old is not None and old != progress.state:
            (self.folder / old).unlink(missing_ok=True)
        self._written = time.monotonic()
        self._cost = self._written - started

    def paths(self, names: list[str]) -> list[Path]:
        """Return where files of a progress lie."""
        return [self.folder / name for name in names]

    def remove(self) -> None:
        """The survey is complete."""
        shutil.rmtree(self.folder, ignore_errors=True)


def kept_embeddings(embeddings: Tensor) -> Tensor:
    """Unit-norm embeddings in half precision: 1 kB an image at 512 dimensions."""
    return torch.nn.functional.normalize(embeddings, dim=1).half().cpu()


def require_same(stored: dict[str, Any], asked: dict[str, Any], what: str) -> None:
    """Raise `SurveyError` that names the first setting in which two surveys differ."""
    for name in asked:
        if stored.get(name) != asked[name]:
            raise SurveyError(
                f"{what}: {name} was {_short(stored.get(name))}, now {_short(asked[name])}; "
                "run it with the same settings, or choose another folder"
            )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
