"""Finished shards on disk, beside a survey's own progress, until they are merged and a checkpoint has them."""

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from secondlens.atlas.files import make_folder, write_tensors
from secondlens.images.loader import Skipped


class ShardFiles:
    """`FOLDER/GROUP-SCAN-FIRST-STOP.safetensors`: batches FIRST to STOP - 1 of one scan of one group of layers."""

    def __init__(self, folder: Path, group: int, scan: str) -> None:
        self.folder = folder
        self._prefix = f"{group:03d}-{scan}-"
        make_folder(folder)
        for left_over in folder.glob(".*.partial"):
            left_over.unlink()

    def clear(self) -> None:
        """Remove all, also those of other scans."""
        for path in self.folder.glob("*.safetensors"):
            path.unlink()

    def spans(self) -> list[range]:
        """The batches of the shards that are there, in order."""
        found = []
        for path in self.folder.glob(f"{self._prefix}*.safetensors"):
            first, stop = path.stem.removeprefix(self._prefix).split("-")
            found.append(range(int(first), int(stop)))
        return sorted(found, key=lambda span: (span.start, span.stop))

    def write(self, span: range, tensors: dict[str, Tensor]) -> None:
        """Keep a finished shard."""
        write_tensors(self._path(span), tensors)

    def read(self, span: range) -> dict[str, Tensor]:
        """A shard that is there."""
        return load_file(self._path(span))

    def remove(self, before: int) -> None:
        """Remove the shards that begin before a batch: those that a checkpoint has, and any that overlap them."""
        for span in self.spans():
            if span.start < before:
                self._path(span).unlink()

    def _path(self, span: range) -> Path:
        return self.folder / f"{self._prefix}{span.start:08d}-{span.stop:08d}.safetensors"


def state_in(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The statistics' state in a shard."""
    prefix = "state."
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def skipped_in(tensors: Mapping[str, Tensor]) -> list[Skipped]:
    """What a shard skipped."""
    return [Skipped(*gap) for gap in json.loads(tensors["skipped"].numpy().tobytes())]


def thumbnails_in(tensors: Mapping[str, Tensor]) -> tuple[bytes, ...]:
    """Its JPEG files."""
    whole, files, start = tensors["thumbnails"].numpy().tobytes(), [], 0
    for length in tensors["lengths"].tolist():
        files.append(whole[start : start + length])
        start += length
    return tuple(files)


def gaps(first: int, stop: int, done: Sequence[range], size: int) -> list[range]:
    """What of batches first to stop - 1 is not done, in pieces of at most `size`, as even as can be."""
    missing, start = [], first
    for span in [*done, range(stop, stop)]:
        if span.start > start:
            missing.append(range(start, min(span.start, stop)))
        start = max(start, span.stop)
    pieces = []
    for gap in missing:
        count = -(-len(gap) // size)
        cuts = [gap.start + len(gap) * number // count for number in range(count + 1)]
        pieces += [range(a, b) for a, b in pairwise(cuts)]
    return pieces
