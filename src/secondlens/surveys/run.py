"""`survey`: one streaming pass over the images, from a model to an atlas.

1. Plan: group the layers so that their statistics fit in memory; usually all in one group.
2. For each group, one pass over the images in a fixed random order: capture, update statistics, checkpoint.
3. Results of each layer, written as they are ready. Neurons whose top images one pass did not prove get a second pass
   around the mean that is then known.
4. The manifest, last.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from secondlens.atlas.files import write_tensors
from secondlens.atlas.manifest import (
    MANIFEST,
    ids_hash,
    layer_file,
)
from secondlens.atlas.store import Atlas
from secondlens.effects.layer import LayerResult, LayerStatistics
from secondlens.effects.paths import Convention, check_convention
from secondlens.errors import SurveyError
from secondlens.images.loader import Batch, Skipped, batches, processing_order
from secondlens.images.sources import ImageSource, open_source
from secondlens.models.load import load_model
from secondlens.models.model import LensModel
from secondlens.surveys.batch_size import BatchSize, find_batch_size
from secondlens.surveys.checkpoint import Checkpoints, Progress, kept_embeddings, require_same
from secondlens.surveys.finish import write_manifest
from secondlens.surveys.interrupt import deferred
from secondlens.surveys.plan import SurveyPlan, make_plan
from secondlens.surveys.progress import SurveyBar
from secondlens.surveys.step import update

THUMBNAIL_SIZE = 128


def survey(
    model: LensModel | str,
    images: Any,
    out: str | Path,
    *,
    layers: Sequence[int] | None = None,
    top: int = 100,
    convention: Convention = "centred",
    batch_size: BatchSize = "auto",
    workers: int = 0,
    memory: int | None = None,
    thumbnails: bool = True,
    progress: bool = False,
) -> Atlas:
    """Survey neurons over images and write an atlas.

    model: a loaded model or a reference. images: anything `open_source` takes. out: the atlas's folder; a survey that
    was interrupted there goes on, a complete one of the same settings is opened. layers: all that a later attention
    reads, by default. top: images kept a neuron (the paper: 100 of about 5,000). workers: processes that decode.
    memory: limit in bytes; layers are surveyed in several passes where they do not fit in one. progress: a bar on
    stderr.

    Raises `ImageError` for unusable images, `SurveyError` for settings that cannot work (top larger than the number of
    images, another survey in the folder, too little memory), `AtlasError` where the folder cannot be written.
    """
    if isinstance(model, str):
        model = load_model(model)
    source = open_source(images)
    layers = list(model.tower.lens_layers) if layers is None else list(layers)
    check_convention(convention)
    batch_size = find_batch_size(batch_size, model, layers, len(source.ids), top, memory, Path(out))
    plan = make_plan(model, layers, len(source.ids), top, batch_size, memory)
    run = Run(model, source, Path(out), plan, top, convention, batch_size, workers, thumbnails)
    return run.conduct(progress)


@dataclass
class Run:
    """One survey: settings and the steps of the module's docstring."""

    model: LensModel
    source: ImageSource
    out: Path
    plan: SurveyPlan
    top: int
    convention: Convention
    batch_size: int
    workers: int
    thumbnails: bool

    def settings(self) -> dict[str, Any]:
        """Everything that changes numbers: an interrupted survey goes on only with the same."""
        return {
            "model weights": self.model.weights_hash,
            "preprocessing": self.model.preprocessing.settings,
            "precision": str(self.model.dtype),
            "images": ids_hash(self.source.ids),
            "layers": sorted(layer for group in self.plan.groups for layer in group),
            "top": self.top,
            "convention": self.convention,
            "batch size": self.batch_size,
        }

    def finished(self) -> Atlas | None:
        """The complete atlas of the same settings in the folder, if there is one; `SurveyError` for another one."""
        if not (self.out / MANIFEST).is_file():
            return None
        atlas = Atlas.open(self.out)
        manifest = atlas.manifest
        stored = {
            "model weights": manifest.model.weights_sha256,
            "preprocessing": manifest.model.preprocessing,
            "precision": manifest.model.dtype,
            "images": ids_hash(sorted(atlas.source_ids)),
            "layers": atlas.layers,
            "top": manifest.top,
            "convention": manifest.convention,
            "batch size": manifest.batch_size,
        }
        asked = {**self.settings(), "images": ids_hash(sorted(self.source.ids))}
        require_same(stored, asked, f"{self.out} holds an atlas of other settings")
        return atlas

    def conduct(self, progress: bool) -> Atlas:
        """The finished atlas that is there already, or the one that this run makes. progress: a bar on stderr."""
        finished = self.finished()
        if finished is not None:
            return finished
        layers = sorted(layer for group in self.plan.groups for layer in group)
        with SurveyBar(progress) as bar:
            bar.note(
                f"{len(self.source.ids)} images, layers {', '.join(map(str, layers))}: {self.plan.sentence}, "
                f"{self.batch_size} images a batch"
            )
            self.execute(bar)
        return Atlas.open(self.out)

    def execute(self, bar: SurveyBar) -> None:
        """Run to the end, from the last checkpoint where there is one."""
        checkpoints = Checkpoints(self.out)
        fresh = Progress(self.settings(), [list(group) for group in self.plan.groups], self.plan.candidates)
        progress = checkpoints.load(fresh)
        clock = Clock(progress.seconds)
        while progress.group < len(progress.groups):
            if progress.scan == "survey":
                self._first_scan(checkpoints, progress, bar, clock)
            self._second_scan(checkpoints, progress, bar, clock)
        write_manifest(self, checkpoints, progress, clock())

    def _first_scan(self, checkpoints: Checkpoints, progress: Progress, bar: SurveyBar, clock: "Clock") -> None:
        """All images; the layers' files; and the state of a second scan for the neurons that are not proved."""
        layers = progress.groups[progress.group]
        statistics = [
            LayerStatistics(self.model.tower, layer, progress.candidates, self.convention) for layer in layers
        ]
        order = processing_order(len(self.source.ids))
        title = f"pass {progress.group + 1} of {len(progress.groups)}"
        self._scan(statistics, title, order, checkpoints, progress, bar, clock)
        self._require_enough(statistics[0].count, progress.skipped.values())
        state: dict[str, Tensor] = {}
        again: set[int] = set()
        while statistics:
            # One at a time, so that a layer's memory is free before the next one's result is computed.
            found = statistics.pop(0)
            result, ambiguous = found.result(self.top)
            unproved = int((~result.proved).sum())
            if unproved:
                progress.second_pass[found.layer] = unproved
                again.update(order if ambiguous is None else ambiguous.tolist())
                state |= named_states({found.layer: found.second_pass(result.proved, self.top)})
            write_tensors(self.out / layer_file(found.layer), result.tensors())
        progress.order = [position for position in order if position in again]
        progress.scan, progress.batch, progress.seconds = "proof", 0, clock()
        checkpoints.save(progress, state)

    def _second_scan(self, checkpoints: Checkpoints, progress: Progress, bar: SurveyBar, clock: "Clock") -> None:
        """The images that could belong to the top of a neuron that the first scan did not prove."""
        layers = [layer for layer in progress.groups[progress.group] if layer in progress.second_pass]
        if layers:
            rows = {layer: (~load_file(self.out / layer_file(layer))["proved"]).nonzero()[:, 0] for layer in layers}
            bar.note(
                f"{sum(map(len, rows.values()))} neurons need a second look at {len(progress.order)} images: "
                "their top images are not proved by one pass"
            )
            statistics = [
                LayerStatistics(self.model.tower, layer, self.top, self.convention, rows[layer]) for layer in layers
            ]
            self._scan(statistics, "second look", progress.order, checkpoints, progress, bar, clock)
            for found in statistics:
                path = self.out / layer_file(found.layer)
                tensors = LayerResult(**load_file(path))
                tensors = tensors.with_rows(rows[found.layer], found.result(self.top)[0])
                write_tensors(path, tensors.tensors())
        progress.group, progress.scan, progress.batch, progress.seconds = (
            progress.group + 1,
            "survey",
            0,
            clock(),
        )
        checkpoints.save(progress, {})

    def _scan(
        self,
        statistics: list[LayerStatistics],
        title: str,
        order: list[int],
        checkpoints: Checkpoints,
        progress: Progress,
        bar: SurveyBar,
        clock: "Clock",
    ) -> None:
        load_states(statistics, checkpoints.state(progress))
        bar.restart(title, len(order), min(progress.batch * self.batch_size, len(order)))

        def save() -> None:
            progress.seconds = clock()
            checkpoints.save(progress, named_states({s.layer: s.state_dict() for s in statistics}))

        with deferred() as interrupt:
            for batch in self._batches(order, progress.batch, thumbnails=progress.first and self.thumbnails):
                self._note_skipped(batch.skipped, progress)
                if len(batch.positions):
                    embeddings = update(self.model, statistics, batch)
                    if progress.first:
                        checkpoints.add_embeddings(batch.positions, kept_embeddings(embeddings))
                    if batch.thumbnails:
                        ids = [self.source.ids[position] for position in batch.positions.tolist()]
                        checkpoints.add_thumbnails(ids, batch.thumbnails)
                progress.batch = batch.number + 1
                bar.advance(len(batch.positions) + len(batch.skipped))
                if interrupt.asked or checkpoints.due():
                    save()
                interrupt.stop()

    def _batches(self, order: list[int], first: int, thumbnails: bool) -> Iterator[Batch]:
        return batches(
            self.source,
            self.model.preprocessing.transform,
            order=order,
            batch_size=self.batch_size,
            workers=self.workers,
            first=first,
            thumbnail_size=THUMBNAIL_SIZE if thumbnails else None,
        )

    def _note_skipped(self, gaps: Iterable[Skipped], progress: Progress) -> None:
        for skipped in gaps:
            if progress.first:
                progress.skipped[skipped.position] = skipped.reason
            elif skipped.position not in progress.skipped:
                raise SurveyError(
                    f"{self.source.ids[skipped.position]} could be read in an earlier pass but not now "
                    f"({skipped.reason}); the images must not change during a survey: restore it and run again"
                )

    def _require_enough(self, count: int, reasons: Iterable[str]) -> None:
        if count == 0:
            raise SurveyError(
                f"none of the {len(self.source.ids)} images could be read (first: {next(iter(reasons))}); "
                "expected pictures in a supported format"
            )
        if count < self.top:
            raise SurveyError(
                f"top is {self.top}, but only {count} of {len(self.source.ids)} images could be read; "
                f"give --top {count} or less, or more images"
            )


def named_states(states: Mapping[int, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The states of some layers as one, `LAYER.NAME`."""
    return {f"{layer}.{name}": tensor for layer, state in states.items() for name, tensor in state.items()}


def state_of(layer: int, states: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A layer's own part of such states."""
    prefix = f"{layer}."
    return {name.removeprefix(prefix): tensor for name, tensor in states.items() if name.startswith(prefix)}


def load_states(statistics: Sequence[LayerStatistics], states: Mapping[str, Tensor]) -> None:
    """Let statistics go on from their states; those without one stay as they are."""
    for found in statistics:
        mine = state_of(found.layer, states)
        if mine:
            found.load_state_dict(mine)


class Clock:
    """Seconds spent on a survey, over all its runs."""

    def __init__(self, before: float) -> None:
        self._start = time.monotonic() - before

    def __call__(self) -> float:
        """Of all runs so far."""
        return time.monotonic() - self._start
