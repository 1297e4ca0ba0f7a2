"""`cluster_survey`: a survey whose images are cut into parts, each surveyed by whichever worker is free.

A worker sends the files of its partial result; they are kept, and merged when all parts of a pass are there. What
follows (results, a second pass for neurons that the first did not certify, the manifest) is the code of the plain
survey. Parts are whole batches of the one permutation of the images, and merging is exact: so the atlas of certified
neurons is that of one machine, where the machines round alike. A run that was interrupted goes on with the parts that
are missing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from secondlens.atlas.manifest import EMBEDDINGS, THUMBNAILS
from secondlens.atlas.store import Atlas
from secondlens.data.loader import batches
from secondlens.disk.files import make_folder, write_bytes
from secondlens.errors import ClusterError
from secondlens.lens.layer import LayerStatistics
from secondlens.lens.load import load_model
from secondlens.lens.paths import Convention
from secondlens.surveys.batch_size import BATCH_SIZE
from secondlens.surveys.checkpoint import Progress
from secondlens.surveys.cluster.costs import Costs, NodeCost
from secondlens.surveys.cluster.crew import Crew, Piece, connected, share_out
from secondlens.surveys.cluster.report import check_reports
from secondlens.surveys.cluster.worker import Setup, SurveyWorker, Task
from secondlens.surveys.job import Job, Part, Scan
from secondlens.surveys.parts import PART, PartialResult, PartManifest, complete, merged_statistics, require_same_images
from secondlens.surveys.progress import SurveyBar
from secondlens.surveys.run import Run, Surveyor, in_process, make_job
from secondlens.surveys.stream import deferred

PER_WORKER = 4
"""Parts per worker in a pass: the last ones end nearly together, and little is lost with a worker."""
LONGEST = 8192
"""Most images in a part, so that in a large survey little is lost with a worker."""


def cluster_survey(
    model: str,
    images: Any,
    out: str | Path,
    *,
    layers: Sequence[int] | None = None,
    top: int = 100,
    convention: Convention = "centred",
    batch_size: int = BATCH_SIZE,
    memory: int | None = None,
    thumbnails: bool = True,
    device: str = "cpu",
    dtype: str = "float32",
    address: str | None = None,
    workers: int | None = None,
    threads: int | None = None,
    decoders: int | None = None,
    shard_images: int | None = None,
    progress: bool = False,
) -> tuple[Atlas, list[NodeCost]]:
    """`survey` on a Ray cluster; the atlas, and what each node did for it (nothing where the atlas was there already).

    model, images: as in `survey`, reachable by every node under the same names. address: of a running cluster; by
    default one is started on this machine alone. workers: actors, by default one a GPU (`device` cuda) or one a node.
    threads, decoders: of each. memory: limit in bytes of each worker. shard_images: most images in a part.

    Raises what `survey` raises, `MissingExtra` without Ray, and `ClusterError` naming the node that has other versions,
    another model, too little memory, or cannot read images that can be read here. Finished parts are kept.
    """
    local = device if device != "cuda" or torch.cuda.is_available() else "cpu"
    loaded = load_model(model, device=local, dtype=dtype)
    job = make_job(loaded, images, Path(out), layers, top, convention, batch_size, 0, memory, thumbnails)
    if shard_images is not None and shard_images < 1:
        raise ClusterError(f"expected parts of at least one image, got {shard_images}")
    finished = Run(job, Path(out), in_process).finished()
    if finished is not None:
        return finished, []
    with connected(address) as ray:
        share = share_out(ray, workers, threads, decoders, device == "cuda")
        setup = Setup(model, device, dtype, batch_size, share.threads, share.decoders, str(Path.cwd()))
        with Crew(ray, SurveyWorker, (setup,), share) as crew:
            reports = crew.start()
            check_reports(reports, loaded.weights_hash, job.plan.bytes)
            costs = Costs(report.node for report in reports)
            # As a reference: sent once a node, and still there for a worker that is restarted.
            surveyor = by_crew(crew, costs, ray.put(job.source))
            parts = part_count(job, share.workers, shard_images)
            with SurveyBar(progress) as bar:
                return Run(job, Path(out), surveyor).conduct(bar, parts), costs.nodes()


def part_count(job: Job, workers: int, most: int | None) -> int:
    """Return into how many parts of whole batches the images are cut. most: images in a part."""
    wanted = max(PER_WORKER * workers, -(-len(job.source.ids) // max(most or LONGEST, job.batch_size)))
    return min(job.batch_count, -(-len(job.source.ids) // most) if most else wanted)


def by_crew(crew: Crew, costs: Costs, source: Any) -> Surveyor:
    """Return a surveyor that hands parts to a crew. source: Ray's reference, sent once per node."""

    def survey(run: Run, scan: Scan, progress: Progress) -> Iterator[LayerStatistics]:
        job = run.job
        if progress.parts == 1 and (progress.state or progress.batch):
            raise ClusterError(
                f"{run.out} holds a survey in one part, begun by 'secondlens survey'; continue it with that command, "
                "or choose another folder"
            )
        if not (run.checkpoints.folder / "progress.json").is_file():
            # Without it the settings and the number of the finished parts would be unknown.
            run.checkpoints.save(progress, {})
        parts = [Part(index, progress.parts) for index in range(progress.parts)]
        folder = run.checkpoints.folder / "parts"
        names = {part: f"{scan.kind}-{scan.group:03d}-{part.index:06d}" for part in parts}
        for path in folder.glob("*/*.state.safetensors"):
            # Of an earlier pass, which has its results.
            if path.parent.name not in names.values():
                path.unlink()
        missing = [part for part in parts if not (folder / names[part] / PART).is_file()]
        images = len(job.source.ids)
        before = images - sum(len(job.images_of(part)) for part in missing)
        run.bar.restart(f"pass {scan.group + 1} of {len(progress.groups)}", images, before)
        plan = replace(job.plan, capacity=progress.capacity)
        task = Task(plan, job.top, job.convention, job.thumbnails, scan)
        with deferred() as interrupt:
            for piece in crew.map("survey", missing, (task, source)):
                if piece is not None:
                    store_part(job, piece, folder / names[missing[piece.number]])
                    costs.add(piece.node, piece.items, piece.seconds)
                run.bar.show(before + sum(crew.done().values()), rates(costs))
                interrupt.stop()
        partials = complete([PartialResult.open(folder / name) for name in names.values()])
        if scan.keeps_images:
            progress.skipped = {k: v for partial in partials for k, v in partial.manifest.skipped.items()}
            files = [f"parts/{partial.folder.name}/" for partial in partials]
            progress.embeddings = [f + EMBEDDINGS for f, p in zip(files, partials, strict=True) if p.extra(EMBEDDINGS)]
            progress.thumbnails = [f + THUMBNAILS for f, p in zip(files, partials, strict=True) if p.extra(THUMBNAILS)]
        else:
            require_same_images(partials, progress.skipped, job.source.ids)
        for layer in scan.layers:
            # One layer at a time.
            (empty,) = job.statistics(replace(scan, layers=(layer,)))
            yield merged_statistics(empty, partials)

    return survey


def store_part(job: Job, piece: Piece, folder: Path) -> None:
    """Write the files of a partial result that a worker sent, its manifest last.

    Raises `ClusterError` where the worker could not read an image that can be read here: the node is what is wrong.
    """
    manifest = PartManifest.model_validate_json(piece.content[PART].tobytes())
    for position, reason in manifest.skipped.items():
        for batch in batches(job.source, job.model.preprocessing.transform, order=[position], batch_size=1):
            if not batch.skipped:
                raise ClusterError(
                    f"node {piece.node} cannot read {job.source.ids[position]!r} ({reason}), which can be read here: "
                    "make the images readable there under the same path and run the same command again; finished "
                    "parts are kept"
                )
    make_folder(folder)
    for name in sorted(piece.content, key=lambda name: name == PART):
        write_bytes(folder / name, piece.content[name].tobytes())


def rates(costs: Costs) -> str:
    """Return images per second by node, for the progress bar."""
    shown = [f"{cost.node.partition(' ')[0]} {cost.rate:.1f}" for cost in costs.nodes() if cost.pieces]
    return f"images/s: {', '.join(shown)}" if shown else ""
