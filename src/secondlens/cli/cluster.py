"""`secondlens cluster`: surveys and descriptions on many GPUs or machines, through Ray."""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from secondlens.cli.describe import DescribeOptions, DescribeSubject
from secondlens.cli.describe import report as report_description
from secondlens.cli.options import BatchSizeOption, DeviceOption, spread
from secondlens.cli.output import JsonOption, bar, interruptible, print_table, warnings_to_stderr
from secondlens.cli.survey import report as report_survey
from secondlens.cli.survey import say_what_it_takes
from secondlens.cli.survey_options import SurveySettings, SurveySubject

if TYPE_CHECKING:
    from secondlens.surveys.cluster.costs import NodeCost

app = typer.Typer(help="Survey and describe on many GPUs or machines, with the same result.", no_args_is_help=True)


@dataclass(frozen=True)
class CrewOptions:
    """Who does the work."""

    address: Annotated[
        str | None, typer.Option(help="A running Ray cluster's, HOST:PORT or auto; default: this machine alone.")
    ] = None
    workers: Annotated[
        int | None, typer.Option(help="Processes that hold the model; default: one per GPU, or one per node.")
    ] = None
    threads: Annotated[int | None, typer.Option(help="Cores of each worker; default: all, divided evenly.")] = None


@app.command()
@spread
def survey(
    *,
    subject: SurveySubject,
    batch_size: BatchSizeOption = 32,
    crew: CrewOptions,
    decoders: Annotated[int | None, typer.Option(help="Processes of each worker that decode images.")] = None,
    shard_images: Annotated[
        int | None, typer.Option(help="Images per part; default: 4 parts per worker, at most 8192.")
    ] = None,
    settings: SurveySettings,
) -> None:
    """Survey neurons over images in parts; certified neurons get the same bits as from `secondlens survey`."""
    from secondlens.disk.files import check_folder
    from secondlens.surveys.cluster.survey import cluster_survey

    chosen, limit = subject.chosen, settings.limit
    if settings.dry_run:
        say_what_it_takes(subject, settings, batch_size, decoders or 0)
        return
    check_folder(subject.out)
    with interruptible(), warnings_to_stderr(), ray_notes():
        atlas, nodes = cluster_survey(
            subject.model,
            subject.images,
            subject.out,
            layers=chosen,
            top=subject.top,
            convention=settings.convention,  # type: ignore[arg-type]
            batch_size=batch_size,
            memory=limit,
            thumbnails=settings.thumbnails,
            device=settings.device,
            dtype=settings.dtype,
            decoders=decoders,
            shard_images=shard_images,
            progress=True,
            **vars(crew),
        )
    report_survey(atlas, {"nodes": as_rows(nodes)}, settings.as_json)
    if not settings.as_json:
        print_nodes(nodes, "parts", "images")


@app.command()
@spread
def describe(
    *,
    subject: DescribeSubject,
    options: DescribeOptions,
    crew: CrewOptions,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Encode a pool's texts and describe neurons by them; the result is that of `secondlens describe`."""
    from secondlens.atlas import Atlas
    from secondlens.descriptions.cluster import cluster_describe
    from secondlens.disk.files import check_folder

    opened = Atlas.open(subject.atlas)
    check_folder(opened.folder)
    with interruptible(), warnings_to_stderr(), ray_notes(), bar() as advance:
        found, nodes = cluster_describe(
            opened,
            subject.pool,
            subject.nonzero,
            model=subject.model,
            device=device,
            progress=advance,
            name=subject.name,
            **vars(crew),
            **vars(options),
        )
    report_description(found, as_json, {"nodes": as_rows(nodes)})
    if not as_json:
        print_nodes(nodes, "parts", "texts and directions")


class _Notes(io.TextIOBase):
    """Takes what Ray prints about lost processes, and says it in one line."""

    def write(self, text: str) -> int:
        if "died or was killed" in text:
            print("secondlens: a worker was lost; another one takes over what it had", file=sys.stderr)
        return len(text)


@contextmanager
def ray_notes() -> Iterator[None]:
    """Keep Ray's own messages away from stdout, which is for data."""
    with redirect_stdout(_Notes()):
        yield


def as_rows(nodes: "list[NodeCost]") -> list[dict[str, object]]:
    """For JSON: what each node did, with its rate."""
    return [{**vars(node), "seconds": round(node.seconds, 2), "rate": round(node.rate, 2)} for node in nodes]


def print_nodes(nodes: "list[NodeCost]", pieces: str, items: str) -> None:
    """A line a node."""
    rows = [[cost.node, cost.workers, cost.pieces, cost.items, cost.seconds, cost.rate] for cost in nodes]
    if rows:
        print_table(["node", "workers", pieces, items, "worker seconds", "a second"], rows)
