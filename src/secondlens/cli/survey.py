"""`secondlens survey`: from a model and images to an atlas."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from secondlens.cli.output import JsonOption, print_facts, print_json, print_table
from secondlens.cli.progress import interruptible
from secondlens.errors import SurveyError

if TYPE_CHECKING:
    from secondlens.atlas import Atlas
    from secondlens.surveys.batch_size import BatchSize
    from secondlens.surveys.estimate import Estimate

ModelArgument = Annotated[str, typer.Argument(help="A model reference, e.g. hf:openai/clip-vit-base-patch32.")]
ImagesArgument = Annotated[
    str, typer.Argument(help="A folder, a .csv or .txt list, .tar shards, .parquet files, datasets:FOLDER or a URL.")
]
OutOption = Annotated[Path, typer.Option(help="The atlas's folder.")]
LayersOption = Annotated[str | None, typer.Option(help="e.g. 8,9,10 or 4-10; default: all.")]
TopOption = Annotated[int, typer.Option(help="Images kept a neuron.")]
BatchOption = Annotated[int, typer.Option(help="Images a forward pass.")]
AutoBatchOption = Annotated[
    str, typer.Option(help="Images a forward pass; auto: 32 on a CPU, on a GPU as many as make it faster.")
]
MemoryOption = Annotated[
    str | None, typer.Option(help="Limit, e.g. 6GB; default: three quarters of what is available.")
]
ConventionOption = Annotated[str, typer.Option(help="centred or released.")]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda or mps.")]
PrecisionOption = Annotated[str, typer.Option(help="float32, bfloat16, float16 or float64.")]
ThumbnailsOption = Annotated[bool, typer.Option(help="Keep small copies of the images in the atlas.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what it would take, and do nothing.")]
MachinesOption = Annotated[int, typer.Option(help="With --dry-run: how many machines like this one.")]


def parse_layers(text: str | None) -> list[int] | None:
    """ "8,9,10", "4-10" or both; None for all layers."""
    if text is None or text == "all":
        return None
    layers: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise SurveyError(f"expected layers such as 8,9,10 or 4-10 or all, got {text!r}")
        layers += range(int(first), int(last or first) + 1)
    return layers


def parse_batch_size(text: str) -> "BatchSize":
    """ "auto", or a number."""
    if text == "auto":
        return "auto"
    if not text.isdigit():
        raise SurveyError(f"expected a batch size: a number or auto, got {text!r}")
    return int(text)


def survey_command(
    model: ModelArgument,
    images: ImagesArgument,
    out: OutOption,
    layers: LayersOption = None,
    top: TopOption = 100,
    batch_size: AutoBatchOption = "auto",
    workers: Annotated[
        int | None, typer.Option(help="Processes that decode images; default: one a core, at most 4.")
    ] = None,
    memory: MemoryOption = None,
    convention: ConventionOption = "centred",
    device: DeviceOption = "cpu",
    dtype: PrecisionOption = "float32",
    thumbnails: ThumbnailsOption = True,
    dry_run: DryRunOption = False,
    machines: MachinesOption = 1,
    as_json: JsonOption = False,
) -> None:
    """Survey neurons over images and write an atlas; an interrupted survey goes on where it was."""
    import os

    from secondlens.models import load_model
    from secondlens.surveys import parse_memory, survey

    chosen, size = parse_layers(layers), parse_batch_size(batch_size)
    limit = None if memory is None else parse_memory(memory)
    if workers is None:
        workers = min(4, os.cpu_count() or 1)
    if dry_run:
        say_what_it_takes(
            model,
            images,
            chosen,
            top,
            size,
            workers,
            limit,
            convention,
            device,
            dtype,
            thumbnails,
            machines,
            as_json,
        )
        return
    with interruptible():
        atlas = survey(
            load_model(model, device=device, dtype=dtype),
            images,
            out,
            layers=chosen,
            top=top,
            convention=convention,  # type: ignore[arg-type]
            batch_size=size,
            workers=workers,
            memory=limit,
            thumbnails=thumbnails,
            progress=True,
        )
    report(atlas, {}, as_json)


def report(atlas: "Atlas", more: dict[str, object], as_json: bool) -> None:
    """What was surveyed and what was skipped. more: further facts, for JSON only."""
    manifest = atlas.manifest
    facts = {
        "atlas": str(atlas.folder),
        "layers": atlas.layers,
        "neurons": manifest.model.neurons * len(atlas.layers),
        "images": manifest.images.count,
        "skipped": manifest.images.skipped,
        "second_pass": sum(card.second_pass for card in manifest.layers),
        "seconds": manifest.seconds,
    }
    if as_json:
        print_json({**facts, **more, "skipped_images": [skipped._asdict() for skipped in atlas.skipped]})
        return
    print_facts({name.replace("_", " "): value for name, value in facts.items()})
    for skipped in atlas.skipped[:10]:
        typer.echo(f"skipped {skipped.id}: {skipped.reason}", err=True)
    if len(atlas.skipped) > 10:
        typer.echo(f"... and {len(atlas.skipped) - 10} more; all are in the atlas (--json lists them)", err=True)


def say_what_it_takes(
    model: str,
    images: str,
    layers: list[int] | None,
    top: int,
    batch_size: "BatchSize",
    workers: int,
    memory: int | None,
    convention: str,
    device: str,
    dtype: str,
    thumbnails: bool,
    machines: int,
    as_json: bool,
) -> None:
    """`--dry-run`: measure a few batches and print the estimate."""
    from secondlens.images.sources import open_source
    from secondlens.models import load_model
    from secondlens.surveys import make_plan
    from secondlens.surveys.batch_size import find_batch_size
    from secondlens.surveys.estimate import estimate

    loaded, source = load_model(model, device=device, dtype=dtype), open_source(images)
    chosen = list(loaded.tower.lens_layers) if layers is None else layers
    size = find_batch_size(batch_size, loaded, chosen, len(source.ids), top, memory)
    plan = make_plan(loaded, chosen, len(source.ids), top, size, memory)
    found = estimate(
        loaded,
        source,
        plan,
        top,
        convention=convention,  # type: ignore[arg-type]
        batch_size=size,
        workers=workers,
        thumbnails=thumbnails,
    )
    print_estimate(found, chosen, machines, as_json)


def print_estimate(found: "Estimate", layers: list[int], machines: int, as_json: bool) -> None:
    """Facts, and a line for one machine and for as many as were asked for."""
    lines = [found.on(count) for count in sorted({1, machines})]
    if as_json:
        print_json({**vars(found), "layers": layers, "machines": [vars(line) for line in lines]})
        return
    print_facts(
        {
            "images": found.images,
            "layers": ", ".join(map(str, layers)),
            "passes over the images": found.passes,
            "candidates a neuron": found.candidates,
            "measured here": f"{found.rate:.1f} images/s",
            "finished atlas": gib(found.atlas),
        }
    )
    print_table(
        ["machines", "images each", "time", "memory each", "disk"],
        [[line.machines, line.images, duration(line.seconds), gib(line.memory), gib(line.disk)] for line in lines],
    )


def gib(amount: int) -> str:
    """Bytes for people."""
    return f"{amount / 2**30:.1f} GiB" if amount >= 2**27 else f"{amount / 2**20:.1f} MiB"


def duration(seconds: float) -> str:
    """Seconds for people."""
    minutes, hours = seconds / 60, seconds / 3600
    return f"{seconds:.0f} s" if seconds < 120 else f"{minutes:.0f} min" if minutes < 120 else f"{hours:.1f} h"
