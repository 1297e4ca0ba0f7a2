"""`secondlens world concepts`: are the concepts that are found in scenes really there?"""

from pathlib import Path
from typing import Annotated

import typer

from secondlens.cli.output import JsonOption, print_json, print_table
from secondlens.cli.progress import bar, interruptible, warnings_to_stderr


def concepts_command(
    model: Annotated[str, typer.Argument(help="A model of the world.")],
    atlas: Annotated[Path, typer.Argument(help="Its atlas, described over the pool 'world' or 'world-single'.")],
    pool: Annotated[str | None, typer.Option(help="Which description; default: the latest.")] = None,
    scenes: Annotated[int, typer.Option(help="Unbiased scenes.")] = 500,
    objects: Annotated[int | None, typer.Option(help="Things a scene, 1 to 3; default: mixed.")] = None,
    percentile: Annotated[float, typer.Option(help="Of the norms above which a neuron is active.")] = 98.0,
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Measure precision and recall of the concepts found in scenes, by every method."""
    from secondlens.atlas import Atlas
    from secondlens.descriptions import Descriptions
    from secondlens.descriptions.pools import open_pool
    from secondlens.lens import load_model
    from secondlens.studies.laboratory.scene_concepts import scene_concepts

    opened = Atlas.open(atlas)
    described = Descriptions.open(opened, pool)
    with interruptible(), warnings_to_stderr(), bar() as advance:
        loaded = load_model(model, device=device)
        found = scene_concepts(
            loaded,
            opened,
            described,
            open_pool(described.card.settings.pool, loaded),
            scenes=scenes,
            objects=objects,
            percentile=percentile,
            progress=advance,
        )
    if as_json:
        print_json({"scenes": scenes, "pool": described.card.settings.pool, "methods": found})
        return
    rows = [
        [name, row["k"], *(_percent(row[figure], row[f"{figure}_within"]) for figure in ("precision", "recall"))]
        for name, figures in found.items()
        for row in figures
    ]
    print_table(["method", "first texts", "precision %", "recall %"], rows, f"over {scenes} unbiased scenes")


def _percent(value: float, within: float) -> str:
    return f"{100 * value:.1f} (+-{100 * within:.1f})"
