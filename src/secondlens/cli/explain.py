"""`secondlens explain`: what made the score of an image and a text?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from secondlens.cli.concepts import read_picture
from secondlens.cli.options import DeviceOption
from secondlens.cli.output import JsonOption, interruptible, print_json, print_table
from secondlens.errors import SecondLensError

if TYPE_CHECKING:
    from secondlens.analysis.attribution import Attribution
    from secondlens.descriptions import Descriptions


def explain_command(
    model: Annotated[str, typer.Argument(help="A model reference.")],
    image: Annotated[Path, typer.Argument(help="One picture.")],
    text: Annotated[
        list[str], typer.Option(help="A text, or twice: explain how far the first scores above the second.")
    ],
    atlas: Annotated[Path | None, typer.Option(help="A described atlas: neurons are shown with their words.")] = None,
    pool: Annotated[str | None, typer.Option(help="Which description to use; default: the latest.")] = None,
    logits: Annotated[bool, typer.Option(help="Of a classifier: explain its logit, not the cosine.")] = False,
    limit: Annotated[int, typer.Option(help="Parts, neurons and patches to print.")] = 16,
    out: Annotated[Path | None, typer.Option(help="Write a picture of it here, as PNG.")] = None,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Split the score of a picture and a text, or the difference between two texts, into what made it."""
    from secondlens.analysis.attribution import explain_texts
    from secondlens.atlas import Atlas
    from secondlens.descriptions import Descriptions
    from secondlens.lens import load_model
    from secondlens.viewer.plots import check_picture
    from secondlens.viewer.reports.image import draw_attribution, waterfall

    if not 1 <= len(text) <= 2:
        raise SecondLensError(f"expected --text once or twice, got it {len(text)} times")
    if limit < 2:
        raise SecondLensError(f"expected a --limit of 2 or more, got {limit}")
    check_picture(out)
    opened = Atlas.open(atlas) if atlas is not None else None
    described = Descriptions.open(opened, pool) if opened is not None else None
    with interruptible():
        loaded = load_model(model, device=device)
        if opened is not None:
            opened.require_model(loaded)
        pixels = read_picture(str(image), loaded)
        found = explain_texts(loaded, pixels, *text, logits=logits)
    what = "logit" if logits else "cosine"
    title = f"{what} with {text[0]!r}" + (f" less that with {text[1]!r}" if len(text) == 2 else "")
    if out is not None:
        draw_attribution(found, loaded, pixels, f"{title}: {found.score:.4f}", out)
        typer.echo(f"wrote {out}", err=True)
    if as_json:
        units = {"image": str(image), "texts": text, "units": what}
        print_json(units | attribution_facts(found, described, limit))
        return
    running, rows = 0.0, []
    for part in waterfall(found, limit):
        running += part.value
        rows.append([part.label, f"{part.value:+.5f}", f"{running:+.5f}"])
    print_table(["source", "contribution", "sum so far"], [*rows, ["score", f"{found.score:+.5f}", ""]], title)
    order = found.heads.flatten().abs().argsort(descending=True)[:5].tolist()
    heads = found.heads.shape[1]
    print_table(
        ["reader", "head", "direct contribution"],
        [[place // heads, place % heads, f"{float(found.heads.flatten()[place]):+.5f}"] for place in order],
        "heads (what they write directly, whatever its source)",
    )
    print_table(
        ["layer", "neuron", "through heads", "words"],
        [
            [layer, neuron, f"{value:+.5f}", _words(described, layer, neuron)]
            for layer, neuron, value in found.top_neurons(limit)
        ],
        "neurons (second order)",
    )


def attribution_facts(found: "Attribution", described: "Descriptions | None", limit: int) -> dict[str, Any]:
    """An attribution as plain data; parts, heads, mlps and tokens in full, neurons up to a limit."""
    neurons = []
    for layer, neuron, value in found.top_neurons(limit):
        terms = zip(found.paths[layer], found.neurons[layer][neuron].tolist(), strict=True)
        strongest = sorted(terms, key=lambda item: -abs(item[1]))[:5]
        neurons.append(
            {
                "layer": layer,
                "neuron": neuron,
                "second_order": value,
                "direct": float(found.direct[layer][neuron]) if layer in found.direct else 0.0,
                "paths": [
                    {"readout": path.reader, "head": path.head, "contribution": part} for path, part in strongest
                ],
                "words": _words(described, layer, neuron),
            }
        )
    return {
        "score": found.score,
        "parts": [vars(part) for part in found.parts],
        "rounding": found.rounding,
        "writers": found.writers,
        "heads": found.heads.tolist(),
        "mlps": found.mlps.tolist(),
        "tokens": found.tokens.tolist(),
        "elsewhere": found.elsewhere,
        "neurons": neurons,
    }


def _words(described: "Descriptions | None", layer: int, neuron: int) -> str:
    if described is None or layer not in described.card.layers:
        return ""
    return described.words(layer, neuron)
