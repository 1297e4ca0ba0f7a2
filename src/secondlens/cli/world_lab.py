"""`secondlens world lab`: what only scenes with known content can tell."""

from pathlib import Path
from typing import Annotated, Any

import typer

from secondlens.cli.output import JsonOption, print_json, print_table
from secondlens.cli.progress import bar, interruptible, warnings_to_stderr
from secondlens.cli.survey_options import parse_layers


def lab_command(
    model: Annotated[str, typer.Argument(help="A model of the world.")],
    atlas: Annotated[Path, typer.Argument(help="Its atlas, described (best over the pool 'world').")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for laboratory.json, concepts.parquet, cues.parquet, laboratory.png.")
    ] = None,
    scenes: Annotated[int, typer.Option(help="Unbiased scenes that the truth is measured on.")] = 2000,
    shown: Annotated[int, typer.Option(help="Audits a predicted class, 0 for none.")] = 2,
    pool: Annotated[str | None, typer.Option(help="Which description to compare; default: the latest.")] = None,
    layers: Annotated[str | None, typer.Option(help="e.g. 2,3,4; default: the atlas's.")] = None,
    biases: Annotated[str | None, typer.Option(help="The table that the model was trained with.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Compare neurons' words, and the cues that audits find, with the truth that drawn scenes know."""
    from secondlens.atlas import Atlas
    from secondlens.descriptions import Descriptions
    from secondlens.lens import load_model
    from secondlens.studies.laboratory.run import laboratory, summary
    from secondlens.viewer.plots import check_report
    from secondlens.viewer.reports.laboratory import write_laboratory
    from secondlens.world.biases import Biases

    chosen = parse_layers(layers)
    check_report(out)
    opened = Atlas.open(atlas)
    described = Descriptions.open(opened, pool)
    with interruptible(), warnings_to_stderr(), bar() as advance:
        found = laboratory(
            load_model(model, device=device),
            opened,
            described,
            scenes=scenes,
            shown_each=shown,
            layers=chosen,
            biases=Biases.load(biases),
            progress=advance,
        )
    facts = summary(found)
    files = [] if out is None else [str(path) for path in write_laboratory(found, out)]
    if as_json:
        print_json({**facts, "files": files})
        return
    _print(facts)
    for path in files:
        typer.echo(f"wrote {path}", err=True)


def _print(facts: dict[str, Any]) -> None:
    rows = []
    for layer in facts["layers"]:
        cells: list[object] = [layer["layer"], f"{100 * layer['selective_fraction']:.0f} %", layer["best_auc"]["q50"]]
        for name in ("words", "cosine"):
            found = layer[name].get("precision@1")
            cells.append(f"{100 * found['observed']:.1f} / {100 * found['chance']:.1f}" if found else "")
            rho = layer[name].get("rank_correlation")
            cells.append(f"{rho['observed']:.3f}" if rho else "")
        rows.append(cells)
    print_table(
        ["layer", "selective", "best auc", "words: first right %", "rho", "direction: first right %", "rho"],
        rows,
        f"true selectivity for {facts['concepts']} concepts over {facts['scenes']} scenes, and whether words and "
        "direction name the concept that is told best / chance",
    )
    rows = [
        [scoring, kind, figures["cues"], *(_recall(figures, size) for size in (1, 3, 5, 10))]
        for scoring, groups in facts["cues"].items()
        for kind, figures in groups.items()
    ]
    if rows:
        columns = ["scoring", "kind", "cues", *(f"first {size}" for size in (1, 3, 5, 10))]
        print_table(columns, rows, "planted cues found by the audit, % / where they were not planted")


def _recall(figures: dict[str, Any], size: int) -> str:
    return f"{100 * figures[f'recall@{size}']:.0f} / {100 * figures[f'chance@{size}']:.0f}"
