"""What an actor of a survey does: hold the model, and survey parts of the images."""

import os
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from secondlens.data.loader import Decoders
from secondlens.data.sources import ImageSource
from secondlens.lens.layer import LayerStatistics
from secondlens.lens.load import load_model
from secondlens.lens.model import LensModel
from secondlens.lens.paths import Convention
from secondlens.surveys.checkpoint import Checkpoints
from secondlens.surveys.cluster.crew import Failure, Piece, guarded, ray_library
from secondlens.surveys.cluster.report import Report, node_name, report
from secondlens.surveys.job import THUMBNAIL_SIZE, Job, Part, Scan
from secondlens.surveys.parts import survey_part
from secondlens.surveys.plan import SurveyPlan

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Setup:
    """What every worker needs to know. folder: where relative paths start."""

    model: str
    device: str
    dtype: str
    batch_size: int
    threads: int
    decoders: int
    folder: str


@dataclass(frozen=True)
class Task:
    """What is common to the parts of a pass: the job without what each worker has itself, and the scan."""

    plan: SurveyPlan
    top: int
    convention: Convention
    thumbnails: bool
    scan: Scan


class Worker:
    """An actor with a model."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        if Path(setup.folder).is_dir():
            os.chdir(setup.folder)
        torch.set_num_threads(setup.threads)
        ray = ray_library()
        self.name = node_name(ray.util.get_node_ip_address())
        self._node: str = ray.get_runtime_context().get_node_id()

    def node(self) -> str:
        """Ray's number of the node."""
        return self._node

    @cached_property
    def model(self) -> LensModel:
        """Loaded when it is first needed: also after a restart."""
        return load_model(self.setup.model, device=self.setup.device, dtype=self.setup.dtype)

    def start(self) -> Report | Failure:
        """Load the model and say what there is."""
        return guarded(self.name, lambda: report(self.name, self.model, self.setup.batch_size))


class SurveyWorker(Worker):
    """An actor that surveys parts of the images."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._decoders: Decoders | None = None
        self._statistics: list[LayerStatistics] = []
        self._key: Any = None

    @torch.no_grad()
    def survey(self, number: int, part: Part, shared: tuple[Task, Any], tally: Any) -> Piece | Failure:
        """Survey a part; the piece's content is the files of the partial result, by name.

        shared: the task, and Ray's reference to the source of the images.
        """
        return guarded(self.name, lambda: self._survey(number, part, *shared, tally))

    def _survey(self, number: int, part: Part, task: Task, reference: Any, tally: Any) -> Piece:
        started = time.monotonic()
        bar = _Tally(number, self.name, tally)
        source = ray_library().get(reference)
        self._prepare(task, reference, source)
        job = Job(self.model, source, task.plan, task.top, task.convention, self.setup.batch_size,
                  thumbnails=task.thumbnails, decoders=self._decoders)  # fmt: skip
        for each in self._statistics:
            each.clear()
        self._statistics = self._statistics or job.statistics(task.scan)
        with TemporaryDirectory() as name:
            folder = Path(name)
            untimed = Checkpoints(folder, timed=False)
            groups = [task.scan.layers]
            survey_part(job, part, task.scan, groups, folder, bar, statistics=self._statistics, checkpoints=untimed)
            files = {path.name: np.fromfile(path, np.uint8) for path in folder.iterdir() if path.is_file()}
        return Piece(number, self.name, bar.done, time.monotonic() - started, files)

    def _prepare(self, task: Task, reference: Any, source: ImageSource) -> None:
        """Keep decoding processes and write directions from part to part, and make new ones for another scan."""
        key = (reference, task.convention, task.scan.kind, task.scan.group)
        if key == self._key:
            return
        if self._decoders is not None:
            self._decoders.close()
        # Before the new ones take memory.
        self._statistics = []
        size = THUMBNAIL_SIZE if task.thumbnails and task.scan.keeps_images else None
        self._decoders = Decoders(source, self.model.preprocessing.transform, self.setup.decoders, size)
        self._key = key


class _Tally:
    """Reports a worker's images to the actor that counts them."""

    def __init__(self, number: int, node: str, tally: Any) -> None:
        self.done = 0
        self._report = lambda done: tally.put.remote(number, node, done)

    def restart(self, description: str, total: int, done: int) -> None:
        """Begin a pass."""
        self.done = done

    def advance(self, images: int) -> None:
        """Count images."""
        self.done += images
        self._report(self.done)


def to_arrays(tensors: Mapping[str, Tensor]) -> Arrays:
    """As numpy arrays, which Ray hands between processes of a machine without a copy."""
    return {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}


def to_tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """The opposite; what Ray handed over must not be written to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable.*")
        return {name: torch.from_numpy(array) for name, array in arrays.items()}
