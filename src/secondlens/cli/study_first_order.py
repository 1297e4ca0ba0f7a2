"""`secondlens study first-order`: direct contributions held at their means, from the last layer down."""

from pathlib import Path
from typing import Annotated

import typer

from secondlens.cli.output import JsonOption, print_json, print_table
from secondlens.cli.progress import bar, interruptible, warnings_to_stderr


def first_order(
    model: Annotated[str, typer.Argument(help="A model reference.")],
    images: Annotated[str, typer.Option(help="Labelled images: a CSV (file; label or name), or class sub-folders.")],
    reference: Annotated[str | None, typer.Option(help="Images for the means; default: the labelled ones.")] = None,
    limit: Annotated[int, typer.Option(help="Images of either at most.")] = 5000,
    out: Annotated[Path | None, typer.Option(help="Folder for numbers, tables and a picture.")] = None,
    batch_size: Annotated[int, typer.Option(help="Images a forward pass.")] = 32,
    workers: Annotated[int | None, typer.Option(help="Processes that decode images.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Accuracy with the direct contributions of attention layers and MLPs held at their means, accumulated."""
    import os

    from secondlens.data.labelled import open_labelled
    from secondlens.data.sources import open_source
    from secondlens.lens import load_model
    from secondlens.studies.first_order import study_first_order, summary
    from secondlens.viewer.plots import check_report
    from secondlens.viewer.reports.first_order import write_report

    check_report(out)
    with interruptible(), warnings_to_stderr(), bar() as advance:
        loaded = load_model(model, device=device)
        study = study_first_order(
            loaded,
            open_labelled(images, loaded),
            None if reference is None else open_source(reference),
            limit=limit,
            batch_size=batch_size,
            workers=min(4, os.cpu_count() or 1) if workers is None else workers,
            progress=advance,
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
    for path in written:
        typer.echo(f"wrote {path}", err=True)
