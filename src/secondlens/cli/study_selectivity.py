"""`secondlens study selectivity`: what the neurons of an atlas are like as a whole."""

from pathlib import Path
from typing import Annotated, Any

import typer

from secondlens.cli.output import JsonOption, print_json, print_table
from secondlens.cli.progress import bar, interruptible
from secondlens.cli.survey_options import parse_layers

SHOWN = {
    "above_half_of_largest": "> half of largest",
    "above_4_medians": "> 4 medians",
    "explained_variance": "explained variance",
    "participation": "participation",
    "effective_paths": "effective paths",
}


def selectivity(
    atlas: Annotated[Path, typer.Argument(help="An atlas's folder.")],
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
    seed: Annotated[int, typer.Option(help="Of neurons and permutations.")] = 0,
    batch_size: Annotated[int, typer.Option(help="Images a forward pass.")] = 32,
    workers: Annotated[int | None, typer.Option(help="Processes that decode images.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Show how selective neurons are and how nearly of rank one; with --images, against shuffled images."""
    import os

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
        with interruptible(), bar() as advance:
            tests = shuffle_tests(
                load_model(model or opened.manifest.model.reference, device=device),
                opened,
                open_source(images),
                layers=chosen,
                neurons=neurons,
                limit=limit,
                draws=draws,
                batch_size=batch_size,
                workers=min(4, os.cpu_count() or 1) if workers is None else workers,
                seed=seed,
                progress=advance,
            )
    facts = selectivity_summary(opened, chosen, tests)
    files = [] if out is None else [str(path) for path in write_selectivity(opened, out, chosen, tests)]
    if as_json:
        print_json({**facts, "files": files})
        return
    _print(facts)
    for path in files:
        typer.echo(f"wrote {path}", err=True)


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
