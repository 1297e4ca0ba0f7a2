"""`secondlens world seeds`: the paper's studies over several seeds of scenes."""

from pathlib import Path
from typing import Annotated, Any

import typer

from secondlens.cli.output import JsonOption, print_json, print_table
from secondlens.cli.progress import bar, interruptible, warnings_to_stderr

SHOWN = {
    "baseline": "unchanged",
    "without_all": "none",
    "without_small": "only large",
    "without_large": "only small",
    "rank_one": "rank one",
}


def seeds_command(
    model: Annotated[str, typer.Argument(help="A model of the world.")],
    out: Annotated[Path, typer.Option(help="Folder: a sub-folder a seed, and seeds.json.")],
    seeds: Annotated[int, typer.Option(help="How many.")] = 5,
    scenes: Annotated[int, typer.Option(help="Scenes surveyed a seed.")] = 2000,
    labelled: Annotated[int, typer.Option(help="Scenes that accuracies are measured on.")] = 1000,
    labels: Annotated[str, typer.Option(help="Properties that make up a class.")] = "colour,texture,noun",
    biases: Annotated[str | None, typer.Option(help="The table that the model was trained with.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Repeat the paper's studies and the laboratory over newly drawn scenes: means with 95 % intervals."""
    from secondlens.disk.files import check_folder
    from secondlens.lens import load_model
    from secondlens.studies.laboratory.seeds import SeedSettings, study_seeds

    settings = SeedSettings(
        scenes=scenes, labelled=labelled, labels=tuple(part.strip() for part in labels.split(",")), biases=biases
    )
    check_folder(out)
    with interruptible(), warnings_to_stderr(), bar() as advance:
        facts = study_seeds(load_model(model, device=device), out, seeds, settings, advance)
    if as_json:
        print_json(facts)
        return
    print_table(
        ["layer", *SHOWN.values(), "large keep", "explained", "first word right"],
        [
            [
                layer["layer"],
                *(_percent(layer.get(name)) for name in SHOWN),
                _percent(layer.get("kept by large effects")),
                _percent(layer.get("median explained_variance")),
                _percent(layer.get("words precision@1")),
            ]
            for layer in facts["layers"]
        ],
        f"%, mean over {facts['seeds']} seeds +- half of the 95 % interval",
    )
    print_table(
        ["figure", "value"],
        [[name, _percent(value)] for name, value in facts["whole"].items() if "layer" not in name],
        "of the layer that matters most, and of the whole model",
    )


def _percent(value: dict[str, Any] | None) -> str:
    if value is None:
        return ""
    return f"{100 * value['mean']:.1f} +- {50 * (value['high'] - value['low']):.1f}"
