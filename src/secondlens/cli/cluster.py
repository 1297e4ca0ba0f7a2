"""`secondlens cluster`: surveys and descriptions on many GPUs or machines, through Ray."""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from secondlens.cli import survey as survey_options
from secondlens.cli.describe import PoolOption, SizeOption
from secondlens.cli.describe import report as report_description
from secondlens.cli.output import JsonOption, print_table
from secondlens.cli.progress import bar, interruptible, warnings_to_stderr

if TYPE_CHECKING:
    from secondlens.cluster import NodeCost

app = typer.Typer(help="Survey and describe on many GPUs or machines, with the same result.", no_args_is_help=True)

AddressOption = Annotated[
    str | None, typer.Option(help="A running Ray cluster's, HOST:PORT or auto; default: this machine alone.")
]
WorkersOption = Annotated[
    int | None, typer.Option(help="Processes that hold the model; default: one a GPU, or one a node.")
]
ThreadsOption = Annotated[int | None, typer.Option(help="Cores of each worker; default: all, shared out evenly.")]


@app.command()
def survey(
    model: survey_options.ModelArgument,
    images: survey_options.ImagesArgument,
    out: survey_options.OutOption,
    layers: survey_options.LayersOption = None,
    top: survey_options.TopOption = 100,
    batch_size: survey_options.BatchOption = 32,
    address: AddressOption = None,
    workers: WorkersOption = None,
    threads: ThreadsOption = None,
    decoders: Annotated[int | None, typer.Option(help="Processes of each worker that decode images.")] = None,
    shard_images: Annotated[int | None, typer.Option(help="Most images in a shard.")] = None,
    memory: survey_options.MemoryOption = None,
    convention: survey_options.ConventionOption = "centred",
    device: survey_options.DeviceOption = "cpu",
    dtype: survey_options.PrecisionOption = "float32",
    thumbnails: survey_options.ThumbnailsOption = True,
    dry_run: survey_options.DryRunOption = False,
    machines: survey_options.MachinesOption = 1,
    as_json: JsonOption = False,
) -> None:
    """Survey neurons over images in shards; the atlas is that of `secondlens survey`, bit by bit."""
    from secondlens.cluster import cluster_survey
    from secondlens.surveys import parse_memory

    chosen = survey_options.parse_layers(layers)
    limit = None if memory is None else parse_memory(memory)
    if dry_run:
        survey_options.say_what_it_takes(
            model,
            images,
            chosen,
            top,
            batch_size,
            decoders or 0,
            limit,
            convention,
            device,
            dtype,
            thumbnails,
            machines,
            as_json,
        )
        return
    with interruptible(), warnings_to_stderr(), ray_notes():
        atlas, nodes = cluster_survey(
            model,
            images,
            out,
            layers=chosen,
            top=top,
            convention=convention,  # type: ignore[arg-type]
            batch_size=batch_size,
            memory=limit,
            thumbnails=thumbnails,
            device=device,
            dtype=dtype,
            address=address,
            workers=workers,
            threads=threads,
            decoders=decoders,
            shard_images=shard_images,
            progress=True,
        )
    survey_options.report(atlas, {"nodes": as_rows(nodes)}, as_json)
    if not as_json:
        print_nodes(nodes, "shards", "images")


@app.command()
def describe(
    atlas: Annotated[Path, typer.Argument(help="An atlas's folder.")],
    pool: PoolOption,
    nonzero: SizeOption = None,
    name: Annotated[str | None, typer.Option(help="Name of the description; default: the pool's.")] = None,
    model: Annotated[str | None, typer.Option(help="Where the model is now; default: where it was surveyed.")] = None,
    nonnegative: Annotated[bool, typer.Option(help="Only texts that a neuron adds, none that it takes away.")] = False,
    method: Annotated[str, typer.Option(help="omp or lasso.")] = "omp",
    normalisation: Annotated[str, typer.Option(help="unit or released.")] = "unit",
    null_draws: Annotated[int, typer.Option(help="Random directions for p-values.")] = 500,
    seed: Annotated[int, typer.Option(help="Of the random directions.")] = 0,
    address: AddressOption = None,
    workers: WorkersOption = None,
    threads: ThreadsOption = None,
    device: survey_options.DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Encode a pool's texts and describe neurons by them; the result is that of `secondlens describe`."""
    from secondlens.atlas import Atlas
    from secondlens.cluster import cluster_describe

    opened = Atlas.open(atlas)
    with interruptible(), warnings_to_stderr(), ray_notes(), bar() as advance:
        found, nodes = cluster_describe(
            opened,
            pool,
            nonzero,
            model=model,
            device=device,
            address=address,
            workers=workers,
            threads=threads,
            progress=advance,
            name=name,
            nonnegative=nonnegative,
            method=method,
            normalisation=normalisation,
            null_draws=null_draws,
            seed=seed,
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
