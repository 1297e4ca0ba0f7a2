"""`secondlens study`: the paper's experiments, one command each."""

from pathlib import Path
from typing import Annotated, Any

import typer

from secondlens.cli.options import (
    AtlasArgument,
    BatchSizeOption,
    DeviceOption,
    LabelledOption,
    ModelArgument,
    WorkersOption,
    parse_layers,
)
from secondlens.cli.output import JsonOption, accuracy_text, print_json, print_table, print_written, running

app = typer.Typer(help="The paper's experiments on labelled images.", no_args_is_help=True)

ReferenceOption = Annotated[
    str | None, typer.Option(help="Images for means and components; default: those of the atlas.")
]
RowsOption = Annotated[int, typer.Option(help="Neurons times images at a time; more on a GPU.")]


@app.command(name="first-order")
def first_order(
    model: Annotated[str, typer.Argument(help="A model reference.")],
    images: LabelledOption,
    reference: Annotated[str | None, typer.Option(help="Images for the means; default: the labelled ones.")] = None,
    limit: Annotated[int, typer.Option(help="Images of either at most.")] = 5000,
    out: Annotated[Path | None, typer.Option(help="Folder for numbers, tables and a picture.")] = None,
    batch_size: BatchSizeOption = 32,
    workers: WorkersOption = None,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Accuracy with the direct contributions of attention layers and MLPs held at their means, accumulated."""
    from secondlens.data.labelled import open_labelled
    from secondlens.data.sources import open_source
    from secondlens.lens import load_model
    from secondlens.studies.first_order import study_first_order, summary
    from secondlens.viewer.plots import check_report
    from secondlens.viewer.reports.first_order import write_report

    check_report(out)
    with running(batch_size, workers, device) as run:
        loaded = load_model(model, device=run.device)
        study = study_first_order(
            loaded,
            open_labelled(images, loaded),
            None if reference is None else open_source(reference),
            limit=limit,
            running=run,
        )
    facts = summary(study)
    written = [] if out is None else write_report(study, out)
    if as_json:
        print_json({**facts, "files": [str(path) for path in written]})
        return
    names = list(facts["curves"])
    steps = max(len(curve) for curve in facts["curves"].values())
    rows = [
        [held]
        + [f"{100 * facts['curves'][name][held]['accuracy']:.1f}" if held < len(facts["curves"][name]) else ""
           for name in names]
        for held in range(steps)
    ]  # fmt: skip
    print_table(
        ["layers held", *names], rows, f"accuracy % on {facts['images']} images, held at their means from the last down"
    )
    print_written(written)


SHOWN = {
    "above_half_of_largest": "> half of largest",
    "above_4_medians": "> 4 medians",
    "explained_variance": "explained variance",
    "participation": "participation",
    "effective_paths": "effective paths",
}


@app.command(name="selectivity")
def selectivity(
    atlas: AtlasArgument,
    layers: Annotated[str | None, typer.Option(help="e.g. 8,9,10 or 4-10; default: the atlas's.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for selectivity.json, neurons.parquet, pairs.parquet, selectivity.png.")
    ] = None,
    images: Annotated[
        str | None, typer.Option(help="Images for a test against shuffled images: a folder, list, shards or datasets:.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Where the model is now; default: where it was surveyed.")] = None,
    neurons: Annotated[int, typer.Option(help="Neurons a layer that are tested, at random.")] = 256,
    limit: Annotated[int, typer.Option(help="Images at most for the test.")] = 1000,
    draws: Annotated[int, typer.Option(help="Permutations of the images.")] = 99,
    seed: Annotated[int, typer.Option(help="Random seed of neurons and permutations.")] = 0,
    batch_size: BatchSizeOption = 32,
    workers: WorkersOption = None,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Show how selective neurons are and how nearly of rank one; with --images, against shuffled images."""
    from secondlens.atlas import Atlas
    from secondlens.data.sources import open_source
    from secondlens.lens import load_model
    from secondlens.studies.selectivity import selectivity_summary
    from secondlens.studies.shuffles import ShuffleTest, shuffle_tests
    from secondlens.viewer.plots import check_report
    from secondlens.viewer.reports.selectivity import write_selectivity

    chosen = parse_layers(layers)
    check_report(out)
    opened = Atlas.open(atlas)
    tests: list[ShuffleTest] = []
    if images is not None:
        with running(batch_size, workers, device) as run:
            tests = shuffle_tests(
                load_model(model or opened.manifest.model.reference, device=run.device),
                opened,
                open_source(images),
                layers=chosen,
                neurons=neurons,
                limit=limit,
                draws=draws,
                seed=seed,
                running=run,
            )
    facts = selectivity_summary(opened, chosen, tests)
    files = [] if out is None else [str(path) for path in write_selectivity(opened, out, chosen, tests)]
    if as_json:
        print_json({**facts, "files": files})
        return
    _print(facts)
    print_written(files)


def _print(facts: dict[str, Any]) -> None:
    rows = [
        [
            layer["layer"],
            *("{q50:.3f} ({q05:.3f} to {q95:.3f})".format(**layer["neurons"][name]) for name in SHOWN),
        ]
        for layer in facts["layers"]
    ]
    print_table(["layer", *SHOWN.values()], rows, "median over neurons (range of nine tenths of them)")
    tested = [layer for layer in facts["layers"] if "shuffled" in layer]
    if not tested:
        return
    names = ("above_half_of_largest", "explained_variance", "participation")
    cells = [
        [
            layer["layer"],
            *("{observed:.3f} / {null:.3f} / {significant:.0%}".format(**layer["shuffled"][name]) for name in names),
        ]
        for layer in tested
    ]
    print_table(
        ["layer", *(SHOWN[name] for name in names)],
        cells,
        f"over {tested[0]['shuffled']['neurons']} neurons a layer: median observed / with images shuffled path by "
        "path / share of neurons with p < 0.05",
    )


@app.command(name="table1")
def table1(
    model: ModelArgument,
    atlas: AtlasArgument,
    images: LabelledOption,
    layer: Annotated[int, typer.Option(help="A layer of the atlas.")],
    neurons: Annotated[int, typer.Option(help="Neurons to measure indirect effects of, drawn at random.")] = 200,
    reference: ReferenceOption = None,
    limit: Annotated[int, typer.Option(help="Labelled images, and reference images, at most.")] = 5000,
    out: Annotated[Path | None, typer.Option(help="Folder for numbers, directions and a picture.")] = None,
    batch_size: BatchSizeOption = 32,
    rows: RowsOption = 32,
    workers: WorkersOption = None,
    seed: Annotated[int, typer.Option(help="Random seed of the neurons drawn.")] = 0,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Accuracy with a layer held at its mean, and how far one direction explains a neuron: indirect, second-order."""
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
    with running(batch_size, workers, device) as run:
        loaded = load_model(model, device=run.device)
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
            rows=rows,
            seed=seed,
            running=run,
        )
    facts = summary(study)
    written = [] if out is None else write_report(study, out)
    if as_json:
        print_json({**facts, "files": [str(path) for path in written]})
        return
    base = facts["baseline"]
    lines = [["none", accuracy_text(base), ""]]
    lines += [
        [row["effect"], accuracy_text(row), f"{100 * row['explained_variance']['mean']:.1f}"] for row in facts["rows"]
    ]
    print_table(
        ["effect at its mean", "accuracy % (95 %)", "explained by PC 1 %"],
        lines,
        f"layer {layer}: {facts['images']} labelled images, {facts['neurons']} neurons, "
        f"{facts['reference_images']} reference images",
    )
    print_written(written)


@app.command(name="indirect")
def indirect(
    model: ModelArgument,
    atlas: AtlasArgument,
    out: Annotated[Path, typer.Option(help="A .safetensors file with layer-LL [neuron, embed].")],
    layers: Annotated[str | None, typer.Option(help="e.g. 8,9,10; default: all of the atlas.")] = None,
    reference: ReferenceOption = None,
    limit: Annotated[int, typer.Option(help="Reference images at most.")] = 300,
    batch_size: BatchSizeOption = 32,
    rows: RowsOption = 32,
    workers: WorkersOption = None,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Directions of the exact indirect effects of every neuron of some layers, for `attack run --indirect`."""
    from secondlens.analysis.indirect_directions import write_indirect_directions
    from secondlens.atlas import Atlas
    from secondlens.atlas.surveyed import surveyed_images
    from secondlens.data.sources import open_source
    from secondlens.disk.files import check_file
    from secondlens.lens import load_model

    check_file(out)
    opened = Atlas.open(atlas)
    with running(batch_size, workers, device) as run:
        loaded = load_model(model, device=run.device)
        found = write_indirect_directions(
            loaded,
            opened,
            surveyed_images(opened) if reference is None else open_source(reference),
            parse_layers(layers) or opened.layers,
            out,
            limit=limit,
            rows=rows,
            running=run,
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
