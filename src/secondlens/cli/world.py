"""`secondlens world`: scenes of the embedded world, and the training of its model."""

from pathlib import Path
from typing import Annotated

import typer

from secondlens.cli.output import JsonOption, print_facts, print_json
from secondlens.cli.progress import bar, interruptible
from secondlens.cli.world_concepts import concepts_command
from secondlens.cli.world_lab import lab_command
from secondlens.cli.world_seeds import seeds_command

app = typer.Typer(help="The embedded world: scenes, and the CLIP that was trained on them.", no_args_is_help=True)
app.command(name="lab")(lab_command)
app.command(name="concepts")(concepts_command)
app.command(name="seeds")(seeds_command)

BiasesOption = Annotated[str | None, typer.Option(help="A table of co-occurrence biases; default: the published one.")]


@app.command()
def render(
    out: Annotated[Path, typer.Argument(help="The folder to write; whole or absent.")],
    count: Annotated[int, typer.Option(help="Scenes.")] = 1000,
    kind: Annotated[str, typer.Option(help="biased, unbiased, counter or swapped.")] = "biased",
    objects: Annotated[int | None, typer.Option(help="Things a scene, 1 to 3; default: it varies.")] = None,
    seed: Annotated[int, typer.Option(help="Of the series of scenes.")] = 0,
    labels: Annotated[
        list[str] | None, typer.Option(help="A further table of labels, e.g. colour,noun; may be repeated.")
    ] = None,
    masks: Annotated[bool, typer.Option(help="Write exact masks and the table of them.")] = True,
    size: Annotated[int, typer.Option(help="Side of the pictures, in pixels.")] = 64,
    biases: BiasesOption = None,
    workers: Annotated[int, typer.Option(help="Processes that draw.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Draw scenes into a folder: pictures, labels, captions, masks. One that holds these scenes already is kept."""
    from secondlens.errors import WorldError
    from secondlens.world import scene_at, write_dataset
    from secondlens.world.biases import Biases
    from secondlens.world.dataset import SCENES, read_scenes, write_labels

    if count < 1:
        raise WorldError(f"expected at least one scene, got --count {count}")
    table = Biases.load(biases)
    scenes = [scene_at(seed, index, table, objects=objects, kind=kind) for index in range(count)]
    tables = [tuple(part.strip() for part in names.split(",")) for names in labels or ()]
    kept = (out / SCENES).is_file() and read_scenes(out) == scenes
    if kept:
        for names in tables:
            write_labels(out, scenes, names)
    else:
        with interruptible(), bar() as advance:
            write_dataset(
                out,
                scenes,
                size=size,
                masks=masks,
                labels=tables,
                workers=workers,
                progress=lambda done: advance("drawing", done, count),
            )
    facts = {"folder": str(out), "scenes": count, "kind": kind, "seed": seed, "kept": kept}
    if as_json:
        print_json(facts)
    else:
        print_facts(facts)


@app.command()
def train(
    out: Annotated[Path, typer.Option(help="The Hugging Face folder to write.")],
    work: Annotated[Path, typer.Option(help="Where scenes and checkpoints go; a run goes on from there.")],
    settings: Annotated[
        list[Path] | None,
        typer.Option(help="A JSON file with settings that differ from the defaults; several are stages, in order."),
    ] = None,
    start: Annotated[Path | None, typer.Option(help="A folder with weights to begin with.")] = None,
    biases: BiasesOption = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    workers: Annotated[int, typer.Option(help="Processes that render.")] = 2,
) -> None:
    """Train a small CLIP on scenes; an interrupted run goes on where it was."""
    from secondlens.disk.files import check_folder
    from secondlens.studies.laboratory.settings import Settings
    from secondlens.studies.laboratory.training import train_stages

    check_folder(out)
    check_folder(work)
    stages = [Settings.load(path) for path in settings] if settings else [Settings()]
    with interruptible(), bar() as advance:
        train_stages(out, work, stages, biases=biases, start=start, device=device, workers=workers, progress=advance)
    typer.echo(f"wrote {out}", err=True)


@app.command()
def measure(
    model: Annotated[str, typer.Argument(help="A model of the world.")] = "world:",
    scenes: Annotated[int, typer.Option(help="Scenes a figure.")] = 2000,
    groups: Annotated[int, typer.Option(help="Groups of 100 captions.")] = 20,
    biases: BiasesOption = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Measure zero-shot accuracies and retrieval on unseen scenes."""
    from secondlens.lens import load_model
    from secondlens.studies.laboratory.measure import measure
    from secondlens.world.biases import Biases

    with interruptible(), bar() as advance:
        found = measure(
            load_model(model, device=device),
            scenes=scenes,
            groups=groups,
            biases=Biases.load(biases),
            progress=advance,
        )
    if as_json:
        print_json(found)
    else:
        print_facts({name.replace("_", " "): f"{100 * value:.1f} %" for name, value in found.items()})
