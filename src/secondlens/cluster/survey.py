"""`cluster_survey`: a survey whose passes are cut into shards, each surveyed by whichever worker is free.

1. The *head*: the first batches, until there are as many images as candidates. Workers return all coefficients of their
   part; put together in order, they fix the reference point as one machine would.
2. The rest, in shards of whole batches around that reference. A finished shard is written to disk as it comes, and
   merged as soon as all before it are.
3. What follows a pass (results, the second look's images, the manifest) is the code of the plain survey.

Batches are those of one machine, sums do not depend on their grouping, ties go by number: so the atlas has the same
bits for any number of workers and any shards, where the machines round alike. A run that was interrupted goes on, here
or as a plain survey.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from secondlens.atlas.store import Atlas
from secondlens.cluster.costs import Costs, NodeCost
from secondlens.cluster.crew import Crew, Piece, share_out
from secondlens.cluster.library import connected
from secondlens.cluster.report import check_reports
from secondlens.cluster.shards import ShardFiles, gaps, skipped_in, state_in, thumbnails_in
from secondlens.cluster.worker import Setup, Shard, SurveyWorker, to_arrays, to_tensors
from secondlens.effects.layer import LayerStatistics
from secondlens.effects.paths import Convention, check_convention
from secondlens.errors import ClusterError
from secondlens.images.loader import Skipped, batches
from secondlens.images.sources import open_source
from secondlens.models.load import load_model
from secondlens.surveys.batch_size import BATCH_SIZE
from secondlens.surveys.checkpoint import Checkpoints, Progress
from secondlens.surveys.interrupt import Interrupt, deferred
from secondlens.surveys.plan import make_plan
from secondlens.surveys.progress import SurveyBar
from secondlens.surveys.run import THUMBNAIL_SIZE, Clock, Run, load_states, named_states, state_of

PER_WORKER = 4
"""Shards a worker gets in a pass: the last ones end nearly together, and little is lost with a worker."""
LONGEST = 8192
"""Most images in a shard, so that in a large survey little is lost with a worker."""


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
    threads, decoders: of each. memory: limit in bytes of each worker. shard_images: most images in a shard.

    Raises what `survey` raises, `MissingExtra` without Ray, and `ClusterError` naming the node that has other versions,
    another model, too little memory, or cannot read images that can be read here. Finished shards are kept.
    """
    check_convention(convention)
    local = device if device != "cuda" or torch.cuda.is_available() else "cpu"
    loaded = load_model(model, device=local, dtype=dtype)
    source = open_source(images)
    chosen = list(loaded.tower.lens_layers) if layers is None else list(layers)
    plan = make_plan(loaded, chosen, len(source.ids), top, batch_size, memory)
    if shard_images is not None and shard_images < 1:
        raise ClusterError(f"expected shards of at least one image, got {shard_images}")
    settings = (loaded, source, Path(out), plan, top, convention, batch_size, 0, thumbnails)
    finished = Run(*settings).finished()
    if finished is not None:
        return finished, []
    with connected(address) as ray:
        share = share_out(ray, workers, threads, decoders, device == "cuda")
        setup = Setup(model, device, dtype, batch_size, share.threads, share.decoders, str(Path.cwd()))
        with Crew(ray, SurveyWorker, (setup,), share) as crew:
            reports = crew.start()
            check_reports(reports, loaded.weights_hash, plan.bytes)
            costs = Costs(report.node for report in reports)
            # As a reference: sent once a node, and still there for a worker that is restarted.
            run = ClusterRun(*settings, crew=crew, costs=costs, sent=ray.put(source), shard_images=shard_images)
            return run.conduct(progress), costs.nodes()


@dataclass
class ClusterRun(Run):
    """A survey whose scans are done by a crew."""

    crew: Crew
    costs: Costs
    sent: Any
    shard_images: int | None

    def _scan(
        self,
        statistics: list[LayerStatistics],
        title: str,
        order: list[int],
        checkpoints: Checkpoints,
        progress: Progress,
        bar: SurveyBar,
        clock: Clock,
    ) -> None:
        load_states(statistics, checkpoints.state(progress))
        files = ShardFiles(checkpoints.folder / "shards", progress.group, progress.scan)
        scan = _Scan(self, statistics, order, files, checkpoints, progress, bar, clock)
        if not (checkpoints.folder / "progress.json").is_file():
            # Without it nobody knows of which settings the shards are.
            files.clear()
            scan.save()
        files.remove(progress.batch)
        bar.restart(title, len(order), 0)
        batches_in_all = -(-len(order) // self.batch_size)
        with deferred() as interrupt:
            scan.merge()
            while statistics[0].filling and progress.batch < batches_in_all:
                missing = -(-(progress.candidates - statistics[0].count) // self.batch_size)
                stop = min(batches_in_all, progress.batch + missing)
                scan.dispatch(stop, -(-missing // self.crew.share.workers), interrupt)
            even = -(-(batches_in_all - progress.batch) // (PER_WORKER * self.crew.share.workers))
            most = (self.shard_images or LONGEST) // self.batch_size
            scan.dispatch(batches_in_all, max(1, min(even, most)), interrupt)


@dataclass
class _Scan:
    """One pass under way."""

    run: ClusterRun
    statistics: list[LayerStatistics]
    order: list[int]
    files: ShardFiles
    checkpoints: Checkpoints
    progress: Progress
    bar: SurveyBar
    clock: Clock

    def dispatch(self, stop: int, size: int, interrupt: Interrupt) -> None:
        """Survey the batches up to `stop` in shards of at most `size` of them."""
        filling = self.statistics[0].filling
        spans = gaps(self.progress.batch, stop, self.files.spans(), size)
        if not spans:
            return
        # While coefficients are only gathered, the reference is fixed where they are put together, not before.
        longest = max(map(len, spans)) * self.run.batch_size
        candidates = longest + 1 if filling else self.statistics[0].blocks[0].places
        states = {} if filling else named_states({found.layer: found.shard_state() for found in self.statistics})
        shards = [self._shard(span, candidates) for span in spans]
        before = len(self.order) - sum(len(shard.positions) for shard in shards)
        for piece in self.run.crew.map("survey", shards, (to_arrays(states), self.run.sent)):
            if piece is not None:
                self._keep(spans[piece.number], piece)
                self.merge()
            done = self.run.crew.done()
            self.bar.show(before + sum(done.values()), self._rates())
            if interrupt.asked:
                self.save()
            interrupt.stop()
        self.merge()

    def merge(self) -> None:
        """Merge the finished shards that follow what is merged already, in order."""
        for span in self.files.spans():
            if span.start != self.progress.batch:
                continue
            found = self.files.read(span)
            self.run._note_skipped(skipped_in(found), self.progress)
            state = state_in(found)
            for layer in self.statistics:
                layer.merge_state(state_of(layer.layer, state))
            if self.progress.first and len(found["positions"]):
                self.checkpoints.add_embeddings(found["positions"], found["embeddings"])
                ids = [self.run.source.ids[position] for position in found["positions"].tolist()]
                jpegs = thumbnails_in(found)
                self.checkpoints.add_thumbnails(ids if jpegs else [], jpegs)
            self.progress.batch = span.stop
            if self.checkpoints.due():
                self.save()

    def save(self) -> None:
        """A checkpoint of what is merged; its shards are no longer needed."""
        self.progress.seconds = self.clock()
        states = named_states({found.layer: found.state_dict() for found in self.statistics})
        self.checkpoints.save(self.progress, states)
        self.files.remove(self.progress.batch)

    def _shard(self, span: range, candidates: int) -> Shard:
        size = self.run.batch_size
        return Shard(
            positions=tuple(self.order[span.start * size : span.stop * size]),
            layers=tuple(found.layer for found in self.statistics),
            candidates=candidates,
            convention=self.run.convention,
            rows=self._rows(),
            thumbnail_size=THUMBNAIL_SIZE if self.progress.first and self.run.thumbnails else None,
            embeddings=self.progress.first,
        )

    def _rows(self) -> dict[int, Any] | None:
        if self.progress.scan == "survey":
            return None
        return {found.layer: torch.cat(found.rows).cpu().numpy() for found in self.statistics}

    def _keep(self, span: range, piece: Piece) -> None:
        tensors = to_tensors(piece.content)
        self._require_unreadable_here(skipped_in(tensors), piece.node)
        self.files.write(span, tensors)
        self.run.costs.add(piece.node, piece.items, piece.seconds)

    def _require_unreadable_here(self, skipped: list[Skipped], node: str) -> None:
        """Pictures that a node could not read must be bad themselves: the node must not be what is bad."""
        transform = self.run.model.preprocessing.transform
        for gap in skipped:
            for batch in batches(self.run.source, transform, order=[gap.position], batch_size=1):
                if not batch.skipped:
                    raise ClusterError(
                        f"node {node} cannot read {self.run.source.ids[gap.position]!r} ({gap.reason}), which can be "
                        "read here: make the images readable there under the same path and run the same command again; "
                        "finished shards are kept"
                    )

    def _rates(self) -> str:
        rates = [f"{cost.node.partition(' ')[0]} {cost.rate:.1f}" for cost in self.run.costs.nodes() if cost.pieces]
        return f"images/s: {', '.join(rates)}" if rates else ""
