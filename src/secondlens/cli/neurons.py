"""`secondlens neurons`: look at neurons of an atlas."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from secondlens.cli.arguments import neuron_address
from secondlens.cli.options import AtlasArgument
from secondlens.cli.output import JsonOption, print_facts, print_json, print_table
from secondlens.errors import AtlasError

if TYPE_CHECKING:
    from secondlens.atlas import AtlasLayer

app = typer.Typer(help="Look at the neurons of an atlas.", no_args_is_help=True)


@app.command(name="list")
def list_neurons(
    atlas: AtlasArgument,
    layer: Annotated[int | None, typer.Option(help="One layer; default: all.")] = None,
    sort: Annotated[str, typer.Option(help="Metric to sort by; an unknown name lists them.")] = "top_norm",
    ascending: Annotated[bool, typer.Option(help="Smallest first.")] = False,
    limit: Annotated[int, typer.Option(help="How many to print.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List neurons with their figures."""
    from secondlens.atlas import Atlas
    from secondlens.atlas.metrics import metrics_in
    from secondlens.errors import closest

    headings = {"layer": "layer", "neuron": "neuron"}
    headings |= {metric.name: metric.heading or metric.name.replace("_", " ") for metric in metrics_in("listed")}
    if sort not in (sorts := list(headings)[2:]):
        raise AtlasError(f"cannot sort by {sort!r}{closest(sort, sorts)}")
    opened = Atlas.open(atlas)
    rows = [row for index in (opened.layers if layer is None else [layer]) for row in _figures(opened.layer(index))]
    rows.sort(key=lambda row: row[sort], reverse=not ascending)
    rows = rows[:limit]
    if as_json:
        print_json({"neurons": rows})
    elif rows:
        print_table(list(headings.values()), [[row[name] for name in headings] for row in rows])


@app.command()
def show(
    atlas: AtlasArgument,
    layer: Annotated[str, typer.Argument(help="LAYER/NEURON, such as 9/2914; or the layer alone.", metavar="UNIT")],
    neuron: Annotated[int | None, typer.Argument(help="The neuron, where UNIT is the layer alone.")] = None,
    top: Annotated[int, typer.Option(help="How many of its top images to print.")] = 10,
    pool: Annotated[str | None, typer.Option(help="Which description to show; default: the latest.")] = None,
    sheet: Annotated[Path | None, typer.Option(help="Write a contact sheet of the top images to this PNG.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show one neuron: figures, words by sense, strongest paths, top images."""
    from secondlens.atlas import Atlas
    from secondlens.descriptions import Descriptions
    from secondlens.disk.files import check_file
    from secondlens.viewer.card import contact_sheet, neuron_card

    if sheet is not None:
        check_file(sheet, ".png")
    index, row = neuron_address(layer, neuron)
    opened = Atlas.open(atlas)
    card = neuron_card(opened, index, row)
    if pool is not None or Descriptions.names(opened):
        card |= Descriptions.open(opened, pool).neuron(index, row)
    if sheet is not None:
        contact_sheet(opened, card["top_images"][:top], sheet)
        typer.echo(f"wrote {sheet}", err=True)
    if as_json:
        print_json(card)
        return
    lists = ("top_images", "paths", "spectrum", "texts", "senses", "top_senses", "quality", "held_out")
    print_facts({name.replace("_", " "): value for name, value in card.items() if name not in lists})
    if card.get("senses"):
        _print_words(card)
    strongest = sorted(card["paths"], key=lambda path: -abs(path["fraction"]))[:5]
    print_table(
        ["reader", "head", "share of effect"],
        [[path["readout"], path["head"], path["fraction"]] for path in strongest],
        "strongest paths (the attention that reads the neuron)",
    )
    print_table(
        ["image", "norm", "projection"],
        [[image["id"], image["norm"], image["projection"]] for image in card["top_images"][:top]],
        "images with the largest effect",
    )


@app.command()
def search(
    model: Annotated[str, typer.Argument(help="The model of the atlas; its text tower encodes the text.")],
    atlas: AtlasArgument,
    text: Annotated[str, typer.Argument(help="Any text; of a classifier, one of its labels.")],
    layer: Annotated[int | None, typer.Option(help="One layer; default: all.")] = None,
    limit: Annotated[int, typer.Option(help="How many to print.")] = 20,
    absolute: Annotated[bool, typer.Option(help="By size, so that neurons that write against the text count.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Find the neurons whose directions score highest for a text, over all layers."""
    from secondlens.atlas import Atlas
    from secondlens.descriptions import Descriptions, search_neurons
    from secondlens.lens import load_model

    opened = Atlas.open(atlas)
    found = search_neurons(opened, load_model(model), text, layer=layer, limit=limit, absolute=absolute)
    if as_json:
        print_json({"text": text, "neurons": found})
        return
    described = Descriptions.open(opened) if Descriptions.names(opened) else None
    rows = [
        [*row.values(), "not described" if described is None else described.words(row["layer"], row["neuron"])]
        for row in found
    ]
    print_table(["layer", "neuron", "score", "words"], rows, f"directions along {text!r}")


def _print_words(card: dict[str, Any]) -> None:
    print_table(
        ["share", "top images", "words (- : written against)"],
        [[sense["fraction"], sense["images"], ", ".join(sense["texts"][:8])] for sense in card["senses"]],
        f"senses, over {card['pool']}",
    )
    print_table(
        ["texts", "cosine", "p, random", "p, its layer"],
        [[row["texts"], row["cosine"], row["p_isotropic"], row["p_matched"]] for row in card["quality"]],
        "how good the description is",
    )
    if card["held_out"] is not None:
        print_table(
            ["on held-out images", ""],
            [[name.replace("_", " "), value] for name, value in card["held_out"].items()],
            "whether the words predict the images (0.5 and 0 are chance for auc and rank correlation)",
        )


def _figures(layer: "AtlasLayer") -> list[dict[str, Any]]:
    from secondlens.atlas.metrics import metrics_in

    columns = {metric.name: metric.values(layer).tolist() for metric in metrics_in("listed")}
    return [
        {"layer": layer.index, "neuron": neuron, **dict(zip(columns, row, strict=True))}
        for neuron, row in enumerate(zip(*columns.values(), strict=True))
    ]
