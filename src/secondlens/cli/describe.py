"""`secondlens describe`: words for the neurons of an atlas."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from secondlens.cli.options import DeviceOption, spread
from secondlens.cli.output import (
    JsonOption,
    print_facts,
    print_json,
    print_table,
    running,
)
from secondlens.cli.pool import SOURCE

if TYPE_CHECKING:
    from secondlens.descriptions import Descriptions

SizeOption = Annotated[int | None, typer.Option("-m", help="Texts a neuron; default: 128, or the whole pool.")]


@dataclass(frozen=True)
class DescribeSubject:
    """Which neurons by which texts, and under which name."""

    atlas: Annotated[Path, typer.Argument(help="An atlas's folder.")]
    pool: Annotated[str, typer.Option(help=f"A pool's name or folder; {SOURCE}")]
    nonzero: SizeOption = None
    name: Annotated[str | None, typer.Option(help="Name of the description; default: the pool's.")] = None
    model: Annotated[str | None, typer.Option(help="Where the model is now; default: where it was surveyed.")] = None


@dataclass(frozen=True)
class DescribeOptions:
    """How, as keywords of `describe`."""

    nonnegative: Annotated[bool, typer.Option(help="Only texts that a neuron adds, none that it takes away.")] = False
    normalisation: Annotated[str, typer.Option(help="unit or released.")] = "unit"
    null_draws: Annotated[int, typer.Option(help="Random directions for p-values.")] = 500
    seed: Annotated[int, typer.Option(help="Random seed of the null directions.")] = 0


@spread
def describe_command(
    *, subject: DescribeSubject, options: DescribeOptions, device: DeviceOption = "cpu", as_json: JsonOption = False
) -> None:
    """Describe every surveyed neuron by texts of a pool; an interrupted run goes on where it was."""
    from secondlens.atlas import Atlas
    from secondlens.descriptions import describe
    from secondlens.descriptions.pools import open_pool
    from secondlens.disk.files import check_folder
    from secondlens.lens import load_model

    opened = Atlas.open(subject.atlas)
    check_folder(opened.folder)
    with running() as run:
        loaded = load_model(subject.model or opened.manifest.model.reference, device=device)
        opened.require_model(loaded)
        texts = open_pool(subject.pool, loaded, progress=run.counting("encoding texts"))
        found = describe(
            opened,
            texts,
            subject.nonzero,
            name=subject.name,
            device=device,
            progress=run.progress,
            **vars(options),
        )
    report(found, as_json)


def report(found: "Descriptions", as_json: bool, more: dict[str, object] | None = None) -> None:
    """Figures by layer and number of texts. more: further facts, for JSON only."""
    rows = []
    for layer in found.card.layers:
        figures = found.figures(layer)
        for place, size in enumerate(found.sizes):
            rows.append(
                {
                    "layer": layer,
                    "texts": size,
                    "cosine": float(figures["cosines"][:, place].median()),
                    "beats_random": float((figures["p_isotropic"][:, place] < 0.05).float().mean()),
                    "beats_layer": float((figures["p_matched"][:, place] < 0.05).float().mean()),
                }
            )
    settings = found.card.settings
    if as_json:
        print_json(
            {
                "description": str(found.folder),
                "pool": settings.pool,
                "texts": settings.nonzero,
                "seconds": found.card.seconds,
                "layers": rows,
                "polysemy": {layer: float(found.figures(layer)["polysemy"].median()) for layer in found.card.layers},
                **(more or {}),
            }
        )
        return
    print_facts({"description": found.folder, "pool": f"{settings.pool}, {settings.texts} texts"})
    print_table(
        ["layer", "texts", "cosine", "beats random", "beats its layer"],
        [list(row.values()) for row in rows],
        "Cosine of direction and description (median over neurons), and the share of neurons with p < 0.05 against\n"
        "random directions and against random mixtures of the layer's directions",
    )
