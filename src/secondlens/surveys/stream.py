"""The survey's pass: images to effects to statistics, with checkpoints, until it ends or is interrupted."""

import signal
import threading
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from secondlens.data.loader import Batch, Skipped
from secondlens.errors import NotFiniteError, SurveyError
from secondlens.lens.capture import capture
from secondlens.lens.layer import LayerStatistics
from secondlens.lens.model import LensModel
from secondlens.lens.trace import CaptureRequest
from secondlens.surveys.checkpoint import Checkpoints, Progress, kept_embeddings
from secondlens.surveys.job import Job, Part, Scan


def update(model: LensModel, statistics: Sequence[LayerStatistics], batch: Batch) -> Float[Tensor, "image embed"]:
    """One captured forward pass into the statistics of some layers; the images' embeddings, unnormalised."""
    positions = to_device(batch.positions, model.device)
    request = CaptureRequest(layers=[each.layer for each in statistics], low_precision=True)
    trace = capture(model.tower, to_device(batch.pixels, model.device), request)
    for each in statistics:
        each.update(trace, positions)
    return trace.embeddings


def finish(model: LensModel) -> None:
    """Wait until an accelerator has done what it was given."""
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor there. From pinned memory, so that nobody waits until a GPU has done what it was given before."""
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


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


@runtime_checkable
class Advance(Protocol):
    """What a pass reports its progress to."""

    def restart(self, description: str, total: int, done: int) -> None:
        """Begin a pass over `total` images, of which `done` were surveyed before."""

    def advance(self, images: int) -> None:
        """Count images."""


@torch.no_grad()
def stream(
    job: Job,
    scan: Scan,
    part: Part,
    statistics: list[LayerStatistics],
    checkpoints: Checkpoints,
    progress: Progress,
    bar: Advance,
    known_skipped: Container[int] | None = None,
) -> None:
    """Survey the images of a part, from the batch at which `progress` stands, into `statistics`.

    known_skipped: positions that an earlier pass could not read; by default there was none, and `progress` notes them.

    Raises `SurveyError` where an image cannot be read that an earlier pass read, and `NotFiniteError` naming the image
    whose effects are not finite.
    """
    load_states(statistics, checkpoints.state(progress))
    images = len(job.images_of(part))
    title = f"layers {', '.join(map(str, scan.layers))}" + (", second pass" if scan.kind == "second" else "")
    bar.restart(title, images, min(progress.batch * job.batch_size, images))
    clock = Clock(progress.seconds)

    def save() -> None:
        progress.seconds = clock()
        checkpoints.save(progress, named_states({each.layer: each.state_dict() for each in statistics}))

    try:
        with deferred() as interrupt:
            for batch in job.batches(part, progress.batch, job.thumbnails and scan.keeps_images):
                _note_skipped(job, batch.skipped, progress, known_skipped)
                if len(batch.positions):
                    embeddings = update(job.model, statistics, batch)
                    if scan.keeps_images:
                        checkpoints.add_embeddings(batch.positions, kept_embeddings(embeddings))
                    if batch.thumbnails:
                        ids = [job.source.ids[position] for position in batch.positions.tolist()]
                        checkpoints.add_thumbnails(ids, batch.thumbnails)
                progress.batch = batch.number + 1
                bar.advance(len(batch.positions) + len(batch.skipped))
                if interrupt.asked or checkpoints.due():
                    save()
                interrupt.stop()
    except NotFiniteError as error:
        raise NotFiniteError(error.position, job.source.ids[error.position]) from error
    progress.seconds = clock()


def named_states(states: Mapping[int, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the states of some layers as one, `LAYER.NAME`."""
    return {f"{layer}.{name}": tensor for layer, state in states.items() for name, tensor in state.items()}


def load_states(statistics: Sequence[LayerStatistics], states: Mapping[str, Tensor]) -> None:
    """Let statistics go on from such states; those without one stay as they are."""
    for each in statistics:
        prefix = f"{each.layer}."
        state = {name.removeprefix(prefix): tensor for name, tensor in states.items() if name.startswith(prefix)}
        if state:
            each.load_state_dict(state)


def _note_skipped(job: Job, skipped: Sequence[Skipped], progress: Progress, known: Container[int] | None) -> None:
    for image in skipped:
        if known is None:
            progress.skipped[image.position] = image.reason
        elif image.position not in known:
            raise changed_image(job.source.ids[image.position], image.reason)


def changed_image(name: str, reason: str) -> SurveyError:
    """Return the error for an image that could be read in an earlier pass only."""
    return SurveyError(
        f"{name} could be read in an earlier pass but not now ({reason}); the images must not change during a survey: "
        "restore it and run again"
    )


class Clock:
    """Seconds spent on a survey, over all its runs."""

    def __init__(self, before: float) -> None:
        self._start = time.monotonic() - before

    def __call__(self) -> float:
        """Return the seconds of all runs so far."""
        return time.monotonic() - self._start
