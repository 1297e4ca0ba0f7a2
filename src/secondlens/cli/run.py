"""`secondlens run`: from a model and images to an atlas with words."""

from typing import TYPE_CHECKING, Annotated

import typer

from secondlens.cli.describe import SizeOption, report
from secondlens.cli.options import DeviceOption, LayersOption, WorkersOption, parse_layers
from secondlens.cli.output import JsonOption, bar, decoders, interruptible, print_table, warnings_to_stderr
from secondlens.cli.pool import SOURCE
from secondlens.cli.survey import AutoBatchOption, parse_batch_size
from secondlens.cli.survey_options import OutOption

if TYPE_CHECKING:
    from secondlens.atlas import Atlas
    from secondlens.descriptions import Descriptions

NEURONS = 8
"""Neurons a layer whose words are printed: those whose effects vary most over the images."""


def run_command(
    model: Annotated[str, typer.Argument(help="A model reference.")],
    images: Annotated[str, typer.Argument(help="A folder, a .csv or .txt list, .tar shards, or datasets:FOLDER.")],
    out: OutOption,
    pool: Annotated[
        str | None, typer.Option(help=f"Default: labels for a classifier, else words-30k. One of {SOURCE}")
    ] = None,
    layers: LayersOption = None,
    nonzero: SizeOption = None,
    top: Annotated[int | None, typer.Option(help="Images kept a neuron; default: 100, or a tenth of few.")] = None,
    batch_size: AutoBatchOption = "auto",
    workers: WorkersOption = None,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Survey, describe, and print words for the neurons that matter most."""
    from secondlens.data.sources import open_source
    from secondlens.descriptions import describe
    from secondlens.descriptions.pools import open_pool
    from secondlens.disk.files import check_folder
    from secondlens.lens import load_model
    from secondlens.surveys.run import survey

    chosen, size = parse_layers(layers), parse_batch_size(batch_size)
    check_folder(out)
    with interruptible():
        loaded = load_model(model, device=device)
        source = open_source(images)
        # The pool first: it is where a run can fail before its long part.
        with warnings_to_stderr(), bar() as advance:
            texts = open_pool(
                pool or ("labels" if loaded.classifier is not None else "words-30k"),
                loaded,
                progress=lambda done, total: advance("encoding texts", done, total),
            )
        atlas = survey(
            loaded,
            source,
            out,
            layers=chosen,
            top=min(100, max(1, len(source.ids) // 10)) if top is None else top,
            batch_size=size,
            workers=decoders(workers),
            progress=True,
        )
        with bar() as advance:
            found = describe(atlas, texts, nonzero, device=device, progress=advance)
    report(found, as_json)
    if not as_json:
        _print_words(atlas, found)


def _print_words(atlas: "Atlas", found: "Descriptions") -> None:
    for index in atlas.layers:
        layer = atlas.layer(index)
        strongest = layer.variance.topk(min(NEURONS, len(layer.variance))).indices.tolist()
        rows = [[neuron, found.words(index, neuron), layer.top_images[neuron][0]] for neuron in strongest]
        print_table(["neuron", "words, by sense", "image with the largest effect"], rows, f"layer {index}")
