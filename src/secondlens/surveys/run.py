"""`survey`: one streaming pass over the images, from a model to an atlas.

1. Plan: group the layers so that their statistics fit in memory; usually all in one group.
2. For each group, one pass over the images in a fixed random order: capture, update statistics, checkpoint. The images
   may be cut into parts, surveyed anywhere, and merged (`surveys.parts`); a plain survey has one part.
3. Results of each layer, written as they are ready. Neurons whose top images one pass did not certify get a second pass
   around the mean that is then known.
4. The manifest, last.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secondlens.atlas.manifest import MANIFEST, LayerMetadata, ids_hash, layer_file
from secondlens.atlas.store import Atlas
from secondlens.data.sources import open_source
from secondlens.disk.files import sha256, write_tensors
from secondlens.disk.lock import one_writer
from secondlens.errors import SurveyError
from secondlens.lens.layer import LayerResult, LayerStatistics
from secondlens.lens.load import load_model
from secondlens.lens.model import LensModel
from secondlens.lens.paths import Convention, check_convention, paths_of
from secondlens.surveys.batch_size import BatchSize, find_batch_size
from secondlens.surveys.checkpoint import Checkpoints, Progress, require_same
from secondlens.surveys.finish import (
    SurveyedImages,
    collect_extras,
    layer_summary,
    model_metadata,
    read_result,
    write_manifest,
)
from secondlens.surveys.job import Job, Part, Scan
from secondlens.surveys.parts import PartialResult, require_no_part, survey_part
from secondlens.surveys.plan import make_plan
from secondlens.surveys.progress import SurveyBar
from secondlens.surveys.stream import stream


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
    reads, by default. top: images kept per neuron (the paper: 100 of about 5,000). workers: processes that decode.
    memory: limit in bytes; layers are surveyed in several passes where they do not fit in one. progress: a progress bar
    on stderr.

    Raises `ImageError` for unusable images, `SurveyError` for settings that cannot work (top larger than the number of
    images, another survey in the folder, too little memory), `AtlasError` where the folder cannot be written.
    """
    folder = Path(out)
    job = make_job(model, images, folder, layers, top, convention, batch_size, workers, memory, thumbnails)
    with SurveyBar(progress) as bar:
        return Run(job, folder, in_process).conduct(bar)


def survey_shard(
    model: LensModel | str,
    images: Any,
    out: str | Path,
    part: Part | str,
    *,
    second: Atlas | None = None,
    layers: Sequence[int] | None = None,
    top: int = 100,
    convention: Convention = "centred",
    batch_size: BatchSize = "auto",
    workers: int = 0,
    memory: int | None = None,
    thumbnails: bool = True,
    progress: bool = False,
) -> PartialResult:
    """Survey one part of the images and write a partial result, for `merge_parts`.

    part: "0/2" is the first of two. second: an atlas whose uncertified neurons are surveyed once more, around their
    means; layers are then its own. The rest is as in `survey`.

    Raises what `survey` raises, and `SurveyError` for an atlas of other settings or without uncertified neurons.
    """
    folder, part = Path(out), Part.parse(part) if isinstance(part, str) else part
    if second is not None:
        layers, top, batch_size = second.layers, second.manifest.top, second.manifest.batch_size
        convention = second.manifest.convention
    job = make_job(model, images, folder, layers, top, convention, batch_size, workers, memory, thumbnails)
    scan, base = Scan(0, tuple(job.layers)), {}
    if second is not None:
        require_atlas_of(second, job)
        needed = [metadata.layer for metadata in second.manifest.layers if metadata.uncertified]
        if not needed:
            raise SurveyError(f"no second pass is needed: every neuron in {second.folder} is certified or tied")
        base = {layer_file(layer): sha256(second.folder / layer_file(layer)) for layer in needed}
        scan = second_scan(second.folder, 0, needed)
    groups = [[layer for layer in group if layer in scan.layers] for group in job.plan.groups]
    with SurveyBar(progress) as bar, one_writer(folder):
        return survey_part(job, part, scan, [group for group in groups if group], folder, bar, base)


def make_job(
    model: LensModel | str,
    images: Any,
    out: Path,
    layers: Sequence[int] | None,
    top: int,
    convention: Convention,
    batch_size: BatchSize,
    workers: int,
    memory: int | None,
    thumbnails: bool,
) -> Job:
    """Return the survey that the arguments of `survey` ask for."""
    if isinstance(model, str):
        model = load_model(model)
    source = open_source(images)
    layers = list(model.tower.lens_layers) if layers is None else list(layers)
    check_convention(convention)
    batch_size = find_batch_size(batch_size, model, layers, len(source.ids), top, memory, out)
    plan = make_plan(model, layers, len(source.ids), top, batch_size, memory)
    return Job(model, source, plan, top, convention, batch_size, workers, thumbnails)


Surveyor = Callable[["Run", Scan, Progress], Iterator[LayerStatistics]]
"""Surveys all images and yields the statistics of a scan's layers, one layer in memory at a time where it can."""


def in_process(run: "Run", scan: Scan, progress: Progress) -> Iterator[LayerStatistics]:
    """Survey all images here, in one part."""
    if progress.parts != 1:
        raise SurveyError(
            f"{run.out} holds a survey in {progress.parts} parts, begun by 'secondlens cluster survey'; continue it "
            "with that command, or choose another folder"
        )
    statistics = run.job.statistics(scan)
    known = None if scan.keeps_images else progress.skipped
    stream(run.job, scan, Part(), statistics, run.checkpoints, progress, run.bar, known)
    while statistics:
        yield statistics.pop(0)


@dataclass
class Run:
    """A survey from its plan to its atlas. surveyor: who looks at the images."""

    job: Job
    out: Path
    surveyor: Surveyor

    def finished(self) -> Atlas | None:
        """Return the complete atlas of the same settings in the folder, if any; `SurveyError` for another one."""
        require_no_part(self.out)
        if not (self.out / MANIFEST).is_file():
            return None
        atlas = Atlas.open(self.out)
        require_atlas_of(atlas, self.job)
        return atlas

    def conduct(self, bar: SurveyBar, parts: int = 1) -> Atlas:
        """Return the finished atlas that is there already, or the one that this run makes."""
        finished = self.finished()
        if finished is not None:
            return finished
        with one_writer(self.out):
            return self._conduct(bar, parts)

    def _conduct(self, bar: SurveyBar, parts: int) -> Atlas:
        job, plan = self.job, self.job.plan
        bar.note(
            f"{len(job.source.ids)} images, layers {', '.join(map(str, job.layers))}: {plan.sentence}, "
            f"{job.batch_size} images per batch"
        )
        self.bar, self.checkpoints = bar, Checkpoints(self.out)
        groups = [list(group) for group in plan.groups]
        progress = self.checkpoints.load(Progress(job.settings(), groups, plan.capacity, parts))
        while progress.group < len(progress.groups):
            layers = tuple(progress.groups[progress.group])
            if progress.scan == "first":
                self._first(Scan(progress.group, layers), progress)
            else:
                needed = [layer for layer in layers if layer in progress.second_pass]
                self._second(second_scan(self.out, progress.group, needed), progress)
        ids = job.source.ids
        images = SurveyedImages(ids, job.source.description, progress.skipped)
        paths = self.checkpoints.paths
        collect_extras(self.out, paths(progress.embeddings), paths(progress.thumbnails))
        cards = [self._summary(layer, progress) for layer in job.layers]
        write_manifest(
            self.out, model_metadata(job.model), images, cards, job.settings(), progress.capacity, progress.seconds
        )
        self.checkpoints.remove()
        return Atlas.open(self.out)

    def _first(self, scan: Scan, progress: Progress) -> None:
        """Survey all images, and write the layers' files."""
        for statistics in self.surveyor(self, scan, progress):
            self._require_enough(statistics.count, progress)
            result = statistics.result(self.job.top)
            write_tensors(self.out / layer_file(statistics.layer), result.tensors())
            uncertified = int(result.uncertified.sum())
            if uncertified:
                progress.second_pass[statistics.layer] = uncertified
        progress.next_scan(progress.group, "second")
        self.checkpoints.save(progress, {})

    def _second(self, scan: Scan, progress: Progress) -> None:
        """Survey all images once more for the neurons that the first pass did not certify."""
        if scan.layers:
            count = sum(progress.second_pass[layer] for layer in scan.layers)
            self.bar.note(f"{count} neurons need a second pass: the first did not certify their top images")
            for statistics in self.surveyor(self, scan, progress):
                replace_rows(self.out, statistics, self.job.top)
        progress.next_scan(progress.group + 1, "first")
        self.checkpoints.save(progress, {})

    def _summary(self, layer: int, progress: Progress) -> LayerMetadata:
        result = read_result(self.out / layer_file(layer))
        return layer_summary(layer, paths_of(self.job.model.tower, layer), result, progress.second_pass.get(layer, 0))

    def _require_enough(self, count: int, progress: Progress) -> None:
        images = len(self.job.source.ids)
        if count == 0:
            raise SurveyError(
                f"none of the {images} images could be read (first: {next(iter(progress.skipped.values()))}); "
                "expected pictures in a supported format"
            )
        if count < self.job.top:
            raise SurveyError(
                f"top is {self.job.top}, but only {count} of {images} images could be read; "
                f"give --top {count} or less, or more images"
            )


def replace_rows(out: Path, statistics: LayerStatistics, top: int) -> LayerResult:
    """Put the neurons of a second pass into their layer's file."""
    path = out / layer_file(statistics.layer)
    first = read_result(path)
    result = first.with_rows(first.uncertified.nonzero()[:, 0], statistics.result(top))
    write_tensors(path, result.tensors())
    return result


def second_scan(folder: Path, group: int, layers: Sequence[int]) -> Scan:
    """Return the second pass over some layers of an atlas whose first pass is written."""
    rows, means = {}, {}
    for layer in layers:
        first = read_result(folder / layer_file(layer))
        rows[layer] = first.uncertified.nonzero()[:, 0]
        means[layer] = first.mean_coefficients[rows[layer]]
    return Scan(group, tuple(layer for layer in rows if len(rows[layer])), rows, means)


def require_atlas_of(atlas: Atlas, job: Job) -> None:
    """Raise `SurveyError` unless an atlas has the settings of a survey, whatever the order of its images."""
    settings = {**job.settings(), "images": ids_hash(sorted(job.source.ids))}
    require_same(atlas_settings(atlas), settings, f"{atlas.folder} holds an atlas of other settings")


def atlas_settings(atlas: Atlas) -> dict[str, Any]:
    """Return what `Job.settings` says of the survey that made an atlas; the hash of its images is of the sorted ids."""
    manifest = atlas.manifest
    return {
        "model weights": manifest.model.weights_sha256,
        "preprocessing": manifest.model.preprocessing,
        "precision": manifest.model.dtype,
        "images": ids_hash(sorted(atlas.source_ids)),
        "layers": atlas.layers,
        "top": manifest.top,
        "convention": manifest.convention,
        "batch size": manifest.batch_size,
    }
