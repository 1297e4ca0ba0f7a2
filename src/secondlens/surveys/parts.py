"""Partial results: the statistics of a part of the images, as a folder that can be merged with the others.

A folder has `part.json`, written last; `layer-09.state.safetensors` for each layer; `images.parquet` with the ids of
the whole survey; and *extras*: tables about the part's images (`embeddings`, `thumbnails`), which a merge joins.
"""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors.torch import load_file

import secondlens
from secondlens.atlas.manifest import EMBEDDINGS, IMAGES, MANIFEST, THUMBNAILS, ModelMetadata
from secondlens.disk.files import sha256, write_table, write_tensors, write_text
from secondlens.errors import SurveyError
from secondlens.lens.layer import LayerStatistics
from secondlens.surveys.checkpoint import Checkpoints, Progress, require_same
from secondlens.surveys.finish import collect_extras, model_metadata
from secondlens.surveys.job import Job, Part, Scan, ScanKind
from secondlens.surveys.stream import Advance, changed_image, stream

PART = "part.json"
EXTRAS = (EMBEDDINGS, THUMBNAILS)


class PartManifest(BaseModel):
    """`part.json`. base: of a second pass, the SHA-256 of the layer files whose neurons it is about."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    secondlens: str
    settings: dict[str, Any]
    model: ModelMetadata
    source: dict[str, Any]
    part: tuple[int, int]
    scan: ScanKind
    layers: list[int]
    capacity: int
    base: dict[str, str]
    skipped: dict[int, str]
    seconds: float
    files: dict[str, str]


@dataclass(frozen=True)
class PartialResult:
    """A finished part in a folder."""

    folder: Path
    manifest: PartManifest

    @classmethod
    def open(cls, folder: Path) -> "PartialResult":
        """Read and check a part; raises `SurveyError` where it is missing, unfinished or damaged."""
        path = folder / PART
        if not path.is_file():
            raise SurveyError(
                f"no finished part in {folder}: expected a folder that 'secondlens survey --shard' has written to the "
                "end; run that command again, it goes on where it was"
            )
        try:
            manifest = PartManifest.model_validate_json(path.read_text(encoding="utf-8"))
        except (ValidationError, ValueError) as error:
            raise SurveyError(f"{path} is damaged ({str(error).splitlines()[0]}); survey this part again") from error
        for name, expected in manifest.files.items():
            if Path(name).name != name or not (folder / name).is_file() or sha256(folder / name) != expected:
                raise SurveyError(f"{folder / name} is missing or has changed since it was written; survey it again")
        return cls(folder, manifest)

    @property
    def part(self) -> Part:
        """Which part it is."""
        return Part(*self.manifest.part)

    def extra(self, name: str) -> list[Path]:
        """Return the file of an extra, if the part has it."""
        return [self.folder / name] if name in self.manifest.files else []

    def ids(self) -> list[str]:
        """Return the ids of all images of the survey."""
        return pq.read_table(self.folder / IMAGES)["id"].to_pylist()


def survey_part(
    job: Job,
    part: Part,
    scan: Scan,
    groups: Sequence[Sequence[int]],
    folder: Path,
    bar: Advance,
    base: dict[str, str] | None = None,
    statistics: list[LayerStatistics] | None = None,
    checkpoints: Checkpoints | None = None,
) -> PartialResult:
    """Survey a part of the images, one pass per group of layers, and write a partial result.

    An interrupted one goes on, with the groups that it began with: they depend on the memory that was free.

    scan: all layers. base: see `PartManifest`. statistics: of the only group, empty, in the place of new ones.

    Raises what `stream` raises, and `SurveyError` for a folder with an atlas, another part or other settings.
    """
    settings = {**job.settings(), "part": str(part), "pass": scan.kind, "base": base or {}}
    if (folder / MANIFEST).is_file():
        raise SurveyError(f"{folder} holds an atlas: expected a folder of its own for a part; choose another folder")
    if (folder / PART).is_file():
        finished = PartialResult.open(folder)
        require_same(finished.manifest.settings, settings, f"{folder} holds a part of another survey")
        return finished
    checkpoints = checkpoints or Checkpoints(folder)
    fresh = Progress(settings, [list(group) for group in groups], job.plan.capacity, part.count, scan=scan.kind)
    progress = checkpoints.load(fresh)
    while progress.group < len(progress.groups):
        current_scan = scan.of_group(progress.group, progress.groups[progress.group])
        current = statistics or job.statistics(current_scan)
        stream(job, current_scan, part, current, checkpoints, progress, bar)
        for each in current:
            write_tensors(folder / state_file(each.layer), each.state_dict())
        # Before the next ones take memory.
        current = []
        progress.next_scan(progress.group + 1, scan.kind)
        checkpoints.save(progress, {})
    _write_manifest(job, part, scan, folder, settings, base or {}, checkpoints, progress)
    return PartialResult.open(folder)


def _write_manifest(
    job: Job,
    part: Part,
    scan: Scan,
    folder: Path,
    settings: dict[str, Any],
    base: dict[str, str],
    checkpoints: Checkpoints,
    progress: Progress,
) -> None:
    write_table(folder / IMAGES, pa.table({"id": pa.array(job.source.ids, pa.string())}))
    collect_extras(folder, checkpoints.paths(progress.embeddings), checkpoints.paths(progress.thumbnails))
    layers = [layer for group in progress.groups for layer in group]
    names = [*map(state_file, layers), *(name for name in (IMAGES, *EXTRAS) if (folder / name).is_file())]
    manifest = PartManifest(
        secondlens=secondlens.__version__,
        settings=settings,
        model=model_metadata(job.model),
        source=job.source.description,
        part=(part.index, part.count),
        scan=scan.kind,
        layers=layers,
        capacity=job.plan.capacity,
        base=base,
        skipped=progress.skipped,
        seconds=round(progress.seconds, 1),
        files={name: sha256(folder / name) for name in names},
    )
    write_text(folder / PART, manifest.model_dump_json(indent=2))
    checkpoints.remove()


def require_no_part(folder: Path) -> None:
    """Raise `SurveyError` where an atlas would be written over a finished part."""
    if (folder / PART).is_file():
        raise SurveyError(
            f"{folder} holds a part of a survey: expected a folder of its own for the atlas; choose another folder"
        )


def state_file(layer: int) -> str:
    """Return the name of a layer's statistics in a part's folder."""
    return f"layer-{layer:02d}.state.safetensors"


def merged_statistics(empty: LayerStatistics, parts: Sequence[PartialResult]) -> LayerStatistics:
    """Return `empty` with the statistics of all parts of its layer, one part in memory at a time."""
    for partial in parts:
        empty.merge_state(load_file(partial.folder / state_file(empty.layer)))
    return empty


def complete(parts: Sequence[PartialResult]) -> list[PartialResult]:
    """Return the parts in order; raises `SurveyError` unless they are all parts of one survey, each once."""
    ordered = sorted(parts, key=lambda partial: partial.part.index)
    first = ordered[0].manifest
    for partial in ordered[1:]:
        here, there = ({**p.settings, "part": f"of {p.part[1]}"} for p in (first, partial.manifest))
        require_same(here, there, f"{partial.folder} is a part of another survey than {ordered[0].folder}")
        if partial.manifest.capacity != first.capacity:
            raise SurveyError(f"{partial.folder} keeps {partial.manifest.capacity} images, expected {first.capacity}")
    count, indices = first.part[1], [partial.part.index for partial in ordered]
    missing = sorted(set(range(count)) - set(indices))
    if missing:
        raise SurveyError(
            f"cannot merge {len(ordered)} of {count} parts: missing {', '.join(f'{i}/{count}' for i in missing)}; "
            "survey them with --shard"
        )
    if len(indices) > count:
        twice = sorted({index for index in indices if indices.count(index) > 1})
        raise SurveyError(f"part {twice[0]}/{count} is given more than once; give each part once")
    return ordered


def require_same_images(parts: Sequence[PartialResult], skipped: Container[int], ids: Sequence[str]) -> None:
    """Raise `SurveyError` where parts of a later pass could not read an image that the first pass read."""
    for partial in parts:
        for position, reason in partial.manifest.skipped.items():
            if position not in skipped:
                raise changed_image(ids[position], reason)
