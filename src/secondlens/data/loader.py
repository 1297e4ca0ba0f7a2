"""From a source of pictures to batches of pixels, decoded and preprocessed in worker processes.

What a batch covers is fixed by the order and the batch size alone: an unreadable picture leaves a gap in its
batch and moves no other picture. So a run that resumes at batch `first` forms the same batches again.
"""

import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from secondlens.data.decode import UnreadableImage, decode, thumbnail
from secondlens.data.sources import ImageSource
from secondlens.errors import ImageError
from secondlens.progress import RUNNING, Running

Preprocess = Callable[[list[Image.Image]], Tensor]

_ORDER_SEED = 20_240_607


@dataclass(frozen=True)
class Skipped:
    """A picture that could not be used: its index into `source.ids`, and why."""

    position: int
    reason: str


# Compared by identity: tensors have no single truth value.
@dataclass(frozen=True, eq=False)
class Batch:
    """The readable pictures of one slice of the order, and what was skipped in it.

    `positions` are indices into `source.ids`, one a row of `pixels`; `thumbnails` are JPEG files in the same
    order, or empty if none were asked for. If no picture is readable, `pixels` is [0, 3, 0, 0].
    """

    number: int
    positions: Int64[Tensor, "image"]
    pixels: Float[Tensor, "image 3 height width"]
    skipped: tuple[Skipped, ...]
    thumbnails: tuple[bytes, ...]


def batches(
    source: ImageSource,
    preprocess: Preprocess,
    *,
    order: Sequence[int],
    batch_size: int,
    workers: int = 0,
    first: int = 0,
    thumbnail_size: int | None = None,
) -> Generator[Batch, None, None]:
    """Batch `b` = the pictures at `order[b * batch_size : (b + 1) * batch_size]`, b = first, first + 1, ...

    `preprocess` takes the readable RGB images of a batch to pixels [image, 3, height, width]; `order` holds
    indices into `source.ids`. With `workers` > 0 it runs in that many processes, each two batches ahead; they
    end when the iterator is closed. Raises `ValueError` for impossible arguments and `ImageError` if the
    source holds something else than pictures or `preprocess` gives another shape.
    """
    decoders = Decoders(source, preprocess, workers, thumbnail_size)
    items = decoders.batches(order, batch_size, first)

    def then_close() -> Generator[Batch, None, None]:
        try:
            yield from items
        finally:
            decoders.close()

    return then_close()


class Stream:
    """One pass over images: iterating it yields the batches in which at least one image can be read.

    skipped: the images that could not be read, up to the end of the batch that was yielded last.
    """

    def __init__(self, found: Generator[Batch, None, None], tell: Callable[[int], None]) -> None:
        self.skipped: list[Skipped] = []
        self._found, self._tell = found, tell

    def __iter__(self) -> Iterator[Batch]:
        done = 0
        with closing(self._found) as found:
            for batch in found:
                self.skipped += batch.skipped
                if len(batch.positions):
                    yield batch
                done += len(batch.positions) + len(batch.skipped)
                self._tell(done)


def stream(
    source: ImageSource,
    preprocess: Preprocess,
    order: Sequence[int],
    running: Running = RUNNING,
    title: str = "images",
    *,
    first: int = 0,
    before: int = 0,
    total: int | None = None,
) -> Stream:
    """Start a pass over the images at `order`, decoded as in `batches`; progress is told when a batch has been used.

    title: what progress shows. first: the batch to begin with. before, total: images of other passes under the same
    title that are done, and of all of them; by default this pass is the only one.
    """
    found = batches(
        source, preprocess, order=order, batch_size=running.batch_size, workers=running.workers, first=first
    )
    start = before + min(first * running.batch_size, len(order))
    return Stream(found, lambda done: running.progress(title, start + done, len(order) if total is None else total))


class Decoders:
    """Batches of one source in one order after the other; the processes that decode stay until `close`.

    The arguments are those of `batches`, which is this for one order.
    """

    def __init__(
        self, source: ImageSource, preprocess: Preprocess, workers: int = 0, thumbnail_size: int | None = None
    ) -> None:
        if workers < 0 or (thumbnail_size is not None and thumbnail_size < 1):
            raise ValueError("thumbnail_size must be positive and workers must not be negative")
        self._source = source
        # The loader reads this list anew whenever it is iterated.
        self._slices: list[_Slice] = []
        self._loader: DataLoader[Any] | None = DataLoader(
            _Reader(source, preprocess, thumbnail_size),
            batch_size=None,
            sampler=self._slices,
            collate_fn=_unchanged,
            num_workers=workers,
            persistent_workers=workers > 0,
            worker_init_fn=_leave_interrupts_to_the_consumer,
        )

    def batches(self, order: Sequence[int], batch_size: int, first: int = 0) -> Iterator[Batch]:
        """See the function `batches`. One iteration at a time."""
        if batch_size < 1 or first < 0:
            raise ValueError("batch_size must be positive and first must not be negative")
        if order and not 0 <= min(order) <= max(order) < len(self._source.ids):
            raise ValueError(f"order must hold indices into the {len(self._source.ids)} ids of the source")
        if self._loader is None:
            raise ValueError("these decoders are closed")
        self._slices[:] = [
            _Slice(number, tuple(order[number * batch_size : (number + 1) * batch_size]))
            for number in range(first, -(-len(order) // batch_size))
        ]
        return self._read(self._loader)

    def _read(self, loader: "DataLoader[Any]") -> Iterator[Batch]:
        for item in loader:
            if isinstance(item, ImageError):
                raise item
            yield item

    def close(self) -> None:
        """End the processes."""
        # The DataLoader's iterator ends its workers when the last reference to it goes.
        self._loader = None


def processing_order(count: int) -> list[int]:
    """A fixed pseudo-random permutation of range(count): the same on every machine, whatever the pictures.

    Collections are often sorted by class, and the mean over the first hundred pictures of one class is a poor
    estimate of the mean over all. Sorts the raw output of PCG64, a stream that numpy promises not to change;
    its `permutation` carries no such promise.
    """
    keys = np.random.PCG64(_ORDER_SEED).random_raw(count)
    return np.argsort(keys, kind="stable").tolist()


@dataclass(frozen=True)
class _Slice:
    number: int
    positions: tuple[int, ...]


class _Picture(NamedTuple):
    position: int
    image: Image.Image


@dataclass(frozen=True)
class _Reader(Dataset):
    source: ImageSource
    preprocess: Preprocess
    thumbnail_size: int | None

    def __getitem__(self, part: _Slice) -> Batch | ImageError:
        # As a value: an exception raised in a worker reaches the consumer as another one, with its traceback
        # as the message.
        try:
            with one_thread():
                return self._batch(part)
        except ImageError as error:
            return error

    def _batch(self, part: _Slice) -> Batch:
        read: list[_Picture] = []
        skipped: list[Skipped] = []
        for position in part.positions:
            try:
                read.append(_Picture(position, self._read(position)))
            except UnreadableImage as error:
                skipped.append(Skipped(position, error.reason))
        pictures, pixels = self._pixels(read, skipped)
        if pixels.ndim != 4 or pixels.shape[:2] != (len(pictures), 3):
            raise ImageError(
                f"expected pixels [{len(pictures)}, 3, height, width] from preprocess, "
                f"came {list(pixels.shape)}; return one row an image"
            )
        size = self.thumbnail_size
        return Batch(
            number=part.number,
            positions=torch.tensor([picture.position for picture in pictures], dtype=torch.int64),
            pixels=pixels,
            skipped=tuple(sorted(skipped, key=lambda gap: part.positions.index(gap.position))),
            thumbnails=() if size is None else tuple(thumbnail(picture.image, size) for picture in pictures),
        )

    def _read(self, position: int) -> Image.Image:
        try:
            data = self.source.read(position)
        except OSError as error:
            raise UnreadableImage(f"unreadable: {error.strerror or error}") from error
        return decode(data)

    def _pixels(self, read: list[_Picture], skipped: list[Skipped]) -> tuple[list[_Picture], Tensor]:
        """The pictures that can be preprocessed and their pixels; the others are added to `skipped`."""
        nothing = torch.zeros(0, 3, 0, 0)
        if not read:
            return [], nothing
        try:
            return read, self.preprocess([picture.image for picture in read])
        except Exception:
            # One picture of an odd shape (1 x 5000) must not take its batch along.
            kept, rows = [], []
            for picture in read:
                try:
                    rows.append(self.preprocess([picture.image]))
                    kept.append(picture)
                except Exception as error:
                    text = " ".join(str(error).split())[:120] or type(error).__name__
                    skipped.append(Skipped(picture.position, f"preprocessing failed: {text}"))
            return kept, torch.cat(rows) if rows else nothing


def _leave_interrupts_to_the_consumer(worker: int) -> None:
    # Ctrl-C reaches every process of a terminal's group; the consumer closes the iterator when it has tidied up.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _unchanged(item: Any) -> Any:
    return item


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: workers are parallel already, and the tensors of a picture are small.

    Threads that wait for each other at so small a task cost more than they give, up to a factor of ten where
    other programs keep the cores busy.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
