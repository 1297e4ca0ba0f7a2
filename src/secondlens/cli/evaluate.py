"""`secondlens evaluate`: is it right?"""

from pathlib import Path
from typing import Annotated

import typer

from secondlens.cli.evaluate_segmentation import segmentation
from secondlens.cli.output import JsonOption, print_json, print_table
from secondlens.cli.pool import SOURCE
from secondlens.cli.progress import bar, interruptible, warnings_to_stderr

app = typer.Typer(help="Test what is said of neurons on images.", no_args_is_help=True)
app.command()(segmentation)


TITLES = {"baseline": "unchanged", "without_all": "at their mean", "rank_one": "true directions"}


@app.callback()
def nouns() -> None:
    """Keep sub-commands."""


@app.command()
def descriptions(
    model: Annotated[str, typer.Argument(help="The model of the atlas.")],
    atlas: Annotated[Path, typer.Argument(help="An atlas's folder.")],
    images: Annotated[str, typer.Option(help="Labelled images: a CSV (file; label or name), or class sub-folders.")],
    pool: Annotated[list[str], typer.Option(help=f"Pools to compare; may be given several times. {SOURCE}")],
    out: Annotated[Path, typer.Option(help="Folder for summary.json and curve.png.")],
    nonzero: Annotated[int | None, typer.Option("-m", help="Texts a neuron; default: 128, or the pool.")] = None,
    limit: Annotated[int, typer.Option(help="Images at most.")] = 5000,
    batch_size: Annotated[int, typer.Option(help="Images a forward pass.")] = 32,
    workers: Annotated[int | None, typer.Option(help="Processes that decode images.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Measure how far descriptions can be trusted: accuracy against the number of texts, prediction, stability."""
    import os

    from secondlens.atlas import Atlas
    from secondlens.data.labelled import open_labelled
    from secondlens.descriptions import describe
    from secondlens.descriptions.pools import open_pool
    from secondlens.lens import load_model
    from secondlens.studies.descriptions import study_descriptions, summary
    from secondlens.viewer.plots import check_report
    from secondlens.viewer.reports.descriptions import write_report

    check_report(out)
    opened = Atlas.open(atlas)
    with interruptible(), warnings_to_stderr(), bar() as advance:
        loaded = load_model(model, device=device)
        opened.require_model(loaded)
        labelled = open_labelled(images, loaded)
        described = []
        for name in pool:
            texts = open_pool(name, loaded, progress=lambda done, total: advance("encoding texts", done, total))
            size = min(128, len(texts.texts)) if nonzero is None else nonzero
            described.append((describe(opened, texts, size, device=device, progress=advance), texts))
        study = study_descriptions(
            loaded,
            opened,
            labelled,
            described,
            limit=limit,
            batch_size=batch_size,
            workers=min(4, os.cpu_count() or 1) if workers is None else workers,
            progress=advance,
        )
    written = write_report(study, out)
    facts = summary(study)
    if as_json:
        print_json({**facts, "files": [str(path) for path in written]})
        return
    rows = []
    for layer in facts["layers"]:
        index = layer["layer"]
        rows += [[index, title, "", _percent(layer[name]), ""] for name, title in TITLES.items()]
        rows += [
            [index, row["pool"], row["texts"], _percent(row["paper"]), _percent(row["released"])]
            for row in layer["reconstructed"]
        ]
    print_table(
        ["layer", "effects from", "texts", "accuracy %", "released way"],
        rows,
        f"accuracy on {facts['images']} images with the layer's effects replaced (95 % interval)",
    )
    for layer in facts["layers"]:
        for name, figures in layer["neurons"].items():
            print_table(
                ["median over neurons", "value"],
                [[key.replace("_", " "), value] for key, value in figures.items()],
                f"layer {layer['layer']}, {name}",
            )
    for path in written:
        typer.echo(f"wrote {path}", err=True)


def _percent(value: dict[str, float]) -> str:
    return f"{100 * value['accuracy']:.1f} ({100 * value['low']:.1f} to {100 * value['high']:.1f})"
