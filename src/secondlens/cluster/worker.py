"""What an actor of a survey does: hold the model, and survey shards."""

import json
import os
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from secondlens.cluster.crew import Failure, Piece, guarded
from secondlens.cluster.library import ray_library
from secondlens.cluster.report import Report, node_name, report
from secondlens.effects.layer import LayerStatistics
from secondlens.effects.paths import Convention
from secondlens.images.loader import Batch, Decoders
from secondlens.models.load import load_model
from secondlens.models.model import LensModel
from secondlens.surveys.checkpoint import kept_embeddings
from secondlens.surveys.run import load_states, named_states
from secondlens.surveys.step import update

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
class Shard:
    """A contiguous range of a pass. positions: its images, in their order. candidates: images kept a neuron. rows: of
    a second look, which neurons of each layer. thumbnail_size: None for no thumbnails. embeddings: whether to keep
    them.
    """

    positions: tuple[int, ...]
    layers: tuple[int, ...]
    candidates: int
    convention: Convention
    rows: dict[int, np.ndarray] | None
    thumbnail_size: int | None
    embeddings: bool


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
    """An actor that surveys shards."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._decoders: Decoders | None = None
        self._reads: Any = None
        self._key: Any = None
        self._statistics: list[LayerStatistics] = []

    @torch.no_grad()
    def survey(self, number: int, shard: Shard, shared: tuple[Arrays, Any], tally: Any) -> Piece | Failure:
        """The statistics of a shard, and what is kept of its images; see `pack`.

        shared: the state they begin with, and Ray's reference to the source of the images.
        """
        return guarded(self.name, lambda: self._survey(number, shard, *shared, tally))

    def _survey(self, number: int, shard: Shard, states: Arrays, reference: Any, tally: Any) -> Piece:
        started, done = time.monotonic(), 0
        decoders = self._decoders_of(reference, shard.thumbnail_size)
        statistics = self._fresh(shard)
        load_states(statistics, to_tensors(states))
        found: list[Batch] = []
        embeddings: list[Tensor] = []
        for batch in decoders.batches(shard.positions, self.setup.batch_size):
            if len(batch.positions):
                embedded = update(self.model, statistics, batch)
                if shard.embeddings:
                    embeddings.append(kept_embeddings(embedded))
            # All but the pixels.
            found.append(Batch(batch.number, batch.positions, torch.zeros(0, 3, 0, 0), batch.skipped, batch.thumbnails))
            done += len(batch.positions) + len(batch.skipped)
            tally.put.remote(number, self.name, done)
        state = named_states({each.layer: each.state_dict() for each in statistics})
        return Piece(number, self.name, done, time.monotonic() - started, pack(state, found, embeddings))

    def _decoders_of(self, reference: Any, thumbnail_size: int | None) -> Decoders:
        """Of the source that Ray keeps; the processes stay from shard to shard."""
        if self._decoders is None or self._reads != (reference, thumbnail_size):
            if self._decoders is not None:
                self._decoders.close()
            source = ray_library().get(reference)
            transform = self.model.preprocessing.transform
            self._decoders = Decoders(source, transform, self.setup.decoders, thumbnail_size)
            self._reads = reference, thumbnail_size
        return self._decoders

    def _fresh(self, shard: Shard) -> list[LayerStatistics]:
        """Statistics without images; what they are made of is kept from shard to shard."""
        rows = {} if shard.rows is None else shard.rows
        key = (shard.layers, shard.convention, [found.tobytes() for found in rows.values()])
        if key != self._key:
            # Before the new ones take memory.
            self._statistics = []
            for layer in shard.layers:
                some = None if shard.rows is None else torch.from_numpy(rows[layer].copy())
                tower = self.model.tower
                self._statistics.append(LayerStatistics(tower, layer, 1, shard.convention, some))
            self._key = key
        for found in self._statistics:
            found.restart(shard.candidates)
        return self._statistics


def to_arrays(tensors: Mapping[str, Tensor]) -> Arrays:
    """As numpy arrays, which Ray hands between processes of a machine without a copy."""
    return {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}


def to_tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """The opposite; what Ray handed over must not be written to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable.*")
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


def pack(state: Mapping[str, Tensor], found: list[Batch], embeddings: list[Tensor]) -> Arrays:
    """A finished shard as arrays: `state.*`, `positions` of the images, their `embeddings`, `thumbnails` one after the
    other and their `lengths`, and `skipped`, JSON of [position, reason].
    """
    jpegs = [jpeg for batch in found for jpeg in batch.thumbnails]
    gaps = [(gap.position, gap.reason) for batch in found for gap in batch.skipped]
    return {
        **{f"state.{name}": array for name, array in to_arrays(state).items()},
        "positions": torch.cat([batch.positions for batch in found]).numpy(),
        "embeddings": torch.cat(embeddings).numpy() if embeddings else np.zeros((0, 0), np.float16),
        "thumbnails": np.frombuffer(b"".join(jpegs), np.uint8),
        "lengths": np.array([len(jpeg) for jpeg in jpegs], np.int64),
        "skipped": np.frombuffer(json.dumps(gaps).encode(), np.uint8),
    }
