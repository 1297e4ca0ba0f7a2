"""`secondlens survey`: from a model and images to an atlas."""

from pathlib import Path
from typing import Annotated

import typer

from secondlens.cli.output import JsonOption, print_facts, print_json
from secondlens.cli.progress import interruptible
from secondlens.errors import SurveyError


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


def survey_command(
    model: Annotated[str, typer.Argument(help="A model reference, e.g. hf:openai/clip-vit-base-patch32.")],
    images: Annotated[str, typer.Argument(help="A folder, a .csv or .txt list, .tar shards, or datasets:FOLDER.")],
    out: Annotated[Path, typer.Option(help="The atlas's folder.")],
    layers: Annotated[str | None, typer.Option(help="e.g. 8,9,10 or 4-10; default: all.")] = None,
    top: Annotated[int, typer.Option(help="Images kept a neuron.")] = 100,
    batch_size: Annotated[int, typer.Option(help="Images a forward pass.")] = 32,
    workers: Annotated[
        int | None, typer.Option(help="Processes that decode images; default: one a core, at most 4.")
    ] = None,
    memory: Annotated[
        str | None, typer.Option(help="Limit, e.g. 6GB; default: three quarters of what is available.")
    ] = None,
    convention: Annotated[str, typer.Option(help="centred or released.")] = "centred",
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16, float16 or float64.")] = "float32",
    thumbnails: Annotated[bool, typer.Option(help="Keep small copies of the images in the atlas.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Survey neurons over images and write an atlas; an interrupted survey goes on where it was."""
    import os

    from secondlens.models import load_model
    from secondlens.surveys import parse_memory, survey

    chosen = parse_layers(layers)
    limit = None if memory is None else parse_memory(memory)
    if workers is None:
        workers = min(4, os.cpu_count() or 1)
    with interruptible():
        atlas = survey(
            load_model(model, device=device, dtype=dtype),
            images,
            out,
            layers=chosen,
            top=top,
            convention=convention,  # type: ignore[arg-type]
            batch_size=batch_size,
            workers=workers,
            memory=limit,
            thumbnails=thumbnails,
            progress=True,
        )
    manifest = atlas.manifest
    facts = {
        "atlas": str(out),
        "layers": atlas.layers,
        "neurons": manifest.model.neurons * len(atlas.layers),
        "images": manifest.images.count,
        "skipped": manifest.images.skipped,
        "second_pass": sum(card.second_pass for card in manifest.layers),
        "seconds": manifest.seconds,
    }
    if as_json:
        print_json({**facts, "skipped_images": [skipped._asdict() for skipped in atlas.skipped]})
        return
    print_facts({name.replace("_", " "): value for name, value in facts.items()})
    for skipped in atlas.skipped[:10]:
        typer.echo(f"skipped {skipped.id}: {skipped.reason}", err=True)
    if len(atlas.skipped) > 10:
        typer.echo(f"... and {len(atlas.skipped) - 10} more; all are in the atlas (--json lists them)", err=True)
