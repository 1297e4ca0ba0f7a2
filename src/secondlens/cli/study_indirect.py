"""`secondlens study table1`, `study indirect`: indirect effects, beside second-order ones and by themselves."""

from pathlib import Path
from typing import Annotated, Any

import typer

from secondlens.cli.output import JsonOption, print_json, print_table
from secondlens.cli.progress import bar, interruptible, warnings_to_stderr


def table1(
    model: Annotated[str, typer.Argument(help="The model of the atlas.")],
    atlas: Annotated[Path, typer.Argument(help="An atlas's folder.")],
    images: Annotated[str, typer.Option(help="Labelled images: a CSV (file; label or name), or class sub-folders.")],
    layer: Annotated[int, typer.Option(help="A layer of the atlas.")],
    neurons: Annotated[int, typer.Option(help="Neurons to measure indirect effects of, drawn at random.")] = 200,
    reference: Annotated[
        str | None, typer.Option(help="Images for means and components; default: those of the atlas.")
    ] = None,
    limit: Annotated[int, typer.Option(help="Labelled images, and reference images, at most.")] = 5000,
    out: Annotated[Path | None, typer.Option(help="Folder for numbers, directions and a picture.")] = None,
    batch_size: Annotated[int, typer.Option(help="Images a forward pass.")] = 32,
    rows: Annotated[int, typer.Option(help="Neurons times images at a time; more on a GPU.")] = 32,
    workers: Annotated[int | None, typer.Option(help="Processes that decode images.")] = None,
    seed: Annotated[int, typer.Option(help="Which neurons are drawn.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Accuracy with a layer held at its mean, and how far one direction explains a neuron: indirect, second-order."""
    import os

    from secondlens.atlas import Atlas
    from secondlens.atlas.surveyed import surveyed_images
    from secondlens.data.labelled import open_labelled
    from secondlens.data.sources import open_source
    from secondlens.lens import load_model
    from secondlens.studies.indirect import study_table1, summary
    from secondlens.viewer.plots import check_report
    from secondlens.viewer.reports.indirect import write_report

    check_report(out)
    opened = Atlas.open(atlas)
    with interruptible(), warnings_to_stderr(), bar() as advance:
        loaded = load_model(model, device=device)
        opened.require_model(loaded)
        labelled = open_labelled(images, loaded)
        study = study_table1(
            loaded,
            opened,
            labelled,
            surveyed_images(opened) if reference is None else open_source(reference),
            layer,
            neurons=neurons,
            limit=limit,
            batch_size=batch_size,
            rows=rows,
            workers=min(4, os.cpu_count() or 1) if workers is None else workers,
            seed=seed,
            progress=advance,
        )
    facts = summary(study)
    written = [] if out is None else write_report(study, out)
    if as_json:
        print_json({**facts, "files": [str(path) for path in written]})
        return
    base = facts["baseline"]
    lines = [["none", _percent(base), ""]]
    lines += [[row["effect"], _percent(row), f"{100 * row['explained_variance']['mean']:.1f}"] for row in facts["rows"]]
    print_table(
        ["effect at its mean", "accuracy % (95 %)", "explained by PC 1 %"],
        lines,
        f"layer {layer}: {facts['images']} labelled images, {facts['neurons']} neurons, "
        f"{facts['reference_images']} reference images",
    )
    for path in written:
        typer.echo(f"wrote {path}", err=True)


def indirect(
    model: Annotated[str, typer.Argument(help="The model of the atlas.")],
    atlas: Annotated[Path, typer.Argument(help="An atlas's folder.")],
    out: Annotated[Path, typer.Option(help="A .safetensors file with layer-LL [neuron, embed].")],
    layers: Annotated[str | None, typer.Option(help="e.g. 8,9,10; default: all of the atlas.")] = None,
    reference: Annotated[
        str | None, typer.Option(help="Images for means and components; default: those of the atlas.")
    ] = None,
    limit: Annotated[int, typer.Option(help="Reference images at most.")] = 300,
    batch_size: Annotated[int, typer.Option(help="Images a forward pass.")] = 32,
    rows: Annotated[int, typer.Option(help="Neurons times images at a time; more on a GPU.")] = 32,
    workers: Annotated[int, typer.Option(help="Processes that decode images.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Directions of the exact indirect effects of every neuron of some layers, for `attack run --indirect`."""
    from secondlens.analysis.indirect_directions import write_indirect_directions
    from secondlens.atlas import Atlas
    from secondlens.atlas.surveyed import surveyed_images
    from secondlens.cli.survey_options import parse_layers
    from secondlens.data.sources import open_source
    from secondlens.disk.files import check_file
    from secondlens.lens import load_model

    check_file(out)
    opened = Atlas.open(atlas)
    with interruptible(), warnings_to_stderr(), bar() as advance:
        loaded = load_model(model, device=device)
        found = write_indirect_directions(
            loaded,
            opened,
            surveyed_images(opened) if reference is None else open_source(reference),
            parse_layers(layers) or opened.layers,
            out,
            limit=limit,
            batch_size=batch_size,
            rows=rows,
            workers=workers,
            progress=advance,
        )
    if as_json:
        print_json(found)
        return
    print_table(
        ["layer", "explained by PC 1 %"],
        [[layer, f"{100 * value:.1f}"] for layer, value in found["explained"].items()],
        f"indirect effects over {found['images']} images, {found['top']} largest a neuron",
    )
    typer.echo(f"wrote {out}", err=True)


def _percent(value: dict[str, Any]) -> str:
    return f"{100 * value['accuracy']:.1f} ({100 * value['low']:.1f} to {100 * value['high']:.1f})"
