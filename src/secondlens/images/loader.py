"""Batches of preprocessed images, decoded in worker processes, the same however often a run is interrupted."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from secondlens.images.decode import UnreadableImage, decode, thumbnail
from secondlens.images.sources import ImageSource

Preprocess = Callable[[list[Image.Image]], Tensor]


@dataclass(frozen=True)
class Skipped:
    """An image that could not be used; `position` counts into the source's ids."""

    position: int
    reason: str


@dataclass(frozen=True)
class Batch:
    """Batch `number`: pixels [image, 3, height, width] of the readable images, whose `positions` are [image].

    thumbnails: JPEG bytes of each readable image, where asked for.
    """

    number: int
    positions: Tensor
    pixels: Tensor
    skipped: tuple[Skipped, ...]
    thumbnails: tuple[bytes, ...]


def processing_order(count: int) -> list[int]:
    """A fixed random order of `count` images.

    Photographs are often sorted by class; the mean of the first few hundred in a random order is close to the mean of
    all, which is what lets a survey prove most neurons in one pass.
    """
    return np.random.Generator(np.random.PCG64(count)).permutation(count).tolist()


def batches(
    source: ImageSource,
    preprocess: Preprocess,
    *,
    order: Sequence[int],
    batch_size: int,
    workers: int = 0,
    first: int = 0,
    thumbnail_size: int | None = None,
) -> Iterator[Batch]:
    """Batch b covers order[b * batch_size : (b + 1) * batch_size], whatever of it can be read.

    first: the number of the batch to begin with, so that a resumed run forms the same batches.
    workers: processes that decode and preprocess; 0 does it in this one.
    """
    spans = [list(order[start : start + batch_size]) for start in range(0, len(order), batch_size)]
    dataset = _Batches(source, preprocess, spans, first, thumbnail_size)
    # One item of the dataset is a whole batch, so workers preprocess by the batch and hand over one tensor.
    yield from DataLoader(
        dataset,
        batch_size=None,
        shuffle=False,
        num_workers=workers,
        prefetch_factor=2 if workers else None,
        worker_init_fn=_single_threaded,
    )


class _Batches(Dataset):
    def __init__(
        self,
        source: ImageSource,
        preprocess: Preprocess,
        spans: list[list[int]],
        first: int,
        thumbnail_size: int | None,
    ) -> None:
        self.source = source
        self.preprocess = preprocess
        self.spans = spans
        self.first = first
        self.thumbnail_size = thumbnail_size

    def __len__(self) -> int:
        return len(self.spans) - self.first

    def __getitem__(self, item: int) -> Batch:
        number = item + self.first
        positions, images, skipped = [], [], []
        for position in self.spans[number]:
            try:
                images.append(decode(self.source.read(position)))
                positions.append(position)
            except UnreadableImage as error:
                skipped.append(Skipped(position, error.reason))
        pixels, failed = self._pixels(images)
        skipped += [Skipped(positions[index], reason) for index, reason in failed.items()]
        kept = [index for index in range(len(images)) if index not in failed]
        size = self.thumbnail_size
        return Batch(
            number=number,
            positions=torch.tensor([positions[index] for index in kept], dtype=torch.int64),
            pixels=pixels,
            skipped=tuple(skipped),
            thumbnails=tuple(thumbnail(images[index], size) for index in kept) if size else (),
        )

    def _pixels(self, images: list[Image.Image]) -> tuple[Tensor, dict[int, str]]:
        if not images:
            return torch.zeros(0, 3, 0, 0), {}
        try:
            return self.preprocess(images), {}
        except Exception:
            # One image of an impossible shape must not cost its batch: find it.
            rows, failed = [], {}
            for index, image in enumerate(images):
                try:
                    rows.append(self.preprocess([image]))
                except Exception as error:
                    failed[index] = f"preprocessing failed: {error}"
            return torch.cat(rows) if rows else torch.zeros(0, 3, 0, 0), failed


def _single_threaded(worker: int) -> None:
    torch.set_num_threads(1)
