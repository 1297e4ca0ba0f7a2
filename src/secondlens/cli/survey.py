"""`secondlens survey`: from a model and images to an atlas."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from secondlens.cli.options import WorkersOption, spread
from secondlens.cli.output import decoders, interruptible, print_facts, print_json, print_table
from secondlens.cli.survey_options import SurveySettings, SurveySubject
from secondlens.errors import SurveyError

if TYPE_CHECKING:
    from secondlens.atlas import Atlas
    from secondlens.surveys.batch_size import BatchSize
    from secondlens.surveys.estimate import Estimate
    from secondlens.surveys.parts import PartialResult

AutoBatchOption = Annotated[
    str, typer.Option(help="Images per forward pass; auto: 32 on a CPU, on a GPU as many as make it faster.")
]


def parse_batch_size(text: str) -> "BatchSize":
    """ "auto", or a number."""
    if text == "auto":
        return "auto"
    if not text.isdigit():
        raise SurveyError(f"expected a batch size: a number or auto, got {text!r}")
    return int(text)


@spread
def survey_command(
    *,
    subject: SurveySubject,
    batch_size: AutoBatchOption = "auto",
    workers: WorkersOption = None,
    shard: Annotated[
        str | None, typer.Option(help="Survey one part of the images, e.g. 0/2, for 'secondlens atlas merge'.")
    ] = None,
    second: Annotated[
        Path | None, typer.Option(help="With --shard: second pass for the uncertified neurons of this merged atlas.")
    ] = None,
    settings: SurveySettings,
) -> None:
    """Survey neurons over images and write an atlas; an interrupted survey goes on where it was."""
    from secondlens.atlas import Atlas
    from secondlens.disk.files import check_folder
    from secondlens.lens import load_model
    from secondlens.surveys.run import survey, survey_shard

    chosen, size, limit = subject.chosen, parse_batch_size(batch_size), settings.limit
    workers = decoders(workers)
    if settings.dry_run:
        say_what_it_takes(subject, settings, size, workers)
        return
    if second is not None and shard is None:
        raise SurveyError("--second needs --shard: expected a part such as 0/2; give 0/1 for all images")
    check_folder(subject.out)
    options: dict[str, Any] = {
        "layers": chosen,
        "top": subject.top,
        "convention": settings.convention,
        "batch_size": size,
        "workers": workers,
        "memory": limit,
        "thumbnails": settings.thumbnails,
        "progress": True,
    }
    with interruptible():
        model = load_model(subject.model, device=settings.device, dtype=settings.dtype)
        if shard is not None:
            base = None if second is None else Atlas.open(second)
            report_part(survey_shard(model, subject.images, subject.out, shard, second=base, **options), settings)
            return
        atlas = survey(model, subject.images, subject.out, **options)
    report(atlas, {}, settings.as_json)


def report_part(result: "PartialResult", settings: SurveySettings) -> None:
    """Print what a part holds."""
    manifest = result.manifest
    summary = {
        "part": f"{result.part}",
        "folder": str(result.folder),
        "pass": manifest.scan,
        "layers": manifest.layers,
        "skipped": len(manifest.skipped),
        "seconds": manifest.seconds,
    }
    print_json(summary) if settings.as_json else print_facts(summary)


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
        "uncertified": sum(card.uncertified for card in manifest.layers),
        "tied": sum(card.tied for card in manifest.layers),
        "seconds": manifest.seconds,
    }
    if as_json:
        print_json({**facts, **more, "skipped_images": [skipped._asdict() for skipped in atlas.skipped]})
        return
    print_facts({name.replace("_", " "): value for name, value in facts.items()})
    if facts["uncertified"]:
        typer.echo(
            f"{facts['uncertified']} neurons are not certified; survey them once more: 'secondlens survey MODEL IMAGES"
            f" --out PART --shard INDEX/COUNT --second {atlas.folder}' for each part, then 'secondlens atlas merge"
            f" PART... --out {atlas.folder}'",
            err=True,
        )
    for skipped in atlas.skipped[:10]:
        typer.echo(f"skipped {skipped.id}: {skipped.reason}", err=True)
    if len(atlas.skipped) > 10:
        typer.echo(f"... and {len(atlas.skipped) - 10} more; all are in the atlas (--json lists them)", err=True)


def say_what_it_takes(subject: SurveySubject, settings: SurveySettings, batch_size: "BatchSize", workers: int) -> None:
    """`--dry-run`: measure a few batches and print the estimate. workers: processes that decode."""
    from secondlens.data.sources import open_source
    from secondlens.lens import load_model
    from secondlens.surveys.batch_size import find_batch_size
    from secondlens.surveys.estimate import estimate
    from secondlens.surveys.plan import make_plan

    model = load_model(subject.model, device=settings.device, dtype=settings.dtype)
    source = open_source(subject.images)
    chosen, limit, count = subject.chosen, settings.limit, len(source.ids)
    layers = list(model.tower.lens_layers) if chosen is None else chosen
    size = find_batch_size(batch_size, model, layers, count, subject.top, limit)
    found = estimate(
        model,
        source,
        make_plan(model, layers, count, subject.top, size, limit),
        subject.top,
        convention=settings.convention,  # type: ignore[arg-type]
        batch_size=size,
        workers=workers,
        thumbnails=settings.thumbnails,
    )
    print_estimate(found, layers, settings.machines, settings.as_json)


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
            "images kept per neuron": found.capacity,
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
