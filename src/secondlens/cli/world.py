"""`secondlens world`: scenes of the embedded world, the training of its model, and its laboratory."""

from pathlib import Path
from typing import Annotated, Any

import typer

from secondlens.cli.options import DeviceOption, parse_layers
from secondlens.cli.output import JsonOption, print_facts, print_json, print_table, print_written, running


def concepts_command(
    model: Annotated[str, typer.Argument(help="A model of the world.")],
    atlas: Annotated[Path, typer.Argument(help="Its atlas, described over the pool 'world' or 'world-single'.")],
    pool: Annotated[str | None, typer.Option(help="Which description; default: the latest.")] = None,
    scenes: Annotated[int, typer.Option(help="Unbiased scenes.")] = 500,
    objects: Annotated[int | None, typer.Option(help="Things a scene, 1 to 3; default: mixed.")] = None,
    percentile: Annotated[float, typer.Option(help="Of the norms above which a neuron is active.")] = 98.0,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Measure precision and recall of the concepts found in scenes, by every method."""
    from secondlens.atlas import Atlas
    from secondlens.descriptions import Descriptions
    from secondlens.descriptions.pools import described_pool
    from secondlens.lens import load_model
    from secondlens.studies.laboratory.scene_concepts import scene_concepts

    opened = Atlas.open(atlas)
    described = Descriptions.open(opened, pool)
    with running() as run:
        loaded = load_model(model, device=device)
        found = scene_concepts(
            loaded,
            opened,
            described,
            described_pool(loaded, described),
            scenes=scenes,
            objects=objects,
            percentile=percentile,
            progress=run.progress,
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
    device: DeviceOption = "cpu",
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
    with running() as run:
        found = laboratory(
            load_model(model, device=device),
            opened,
            described,
            scenes=scenes,
            shown_each=shown,
            layers=chosen,
            biases=Biases.load(biases),
            progress=run.progress,
        )
    facts = summary(found)
    files = [] if out is None else [str(path) for path in write_laboratory(found, out)]
    if as_json:
        print_json({**facts, "files": files})
        return
    _print(facts)
    print_written(files)


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
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Repeat the paper's studies and the laboratory over newly drawn scenes: means with 95 % intervals."""
    from secondlens.disk.files import check_folder
    from secondlens.disk.lock import one_writer
    from secondlens.lens import load_model
    from secondlens.studies.laboratory.seeds import SeedSettings, study_seeds

    settings = SeedSettings(
        scenes=scenes, labelled=labelled, labels=tuple(part.strip() for part in labels.split(",")), biases=biases
    )
    check_folder(out)
    with one_writer(out), running() as run:
        facts = study_seeds(load_model(model, device=device), out, seeds, settings, run.progress)
    if as_json:
        print_json(facts)
        return
    print_table(
        ["layer", *SHOWN.values(), "large keep", "explained", "first word right"],
        [
            [
                layer["layer"],
                *(_with_interval(layer.get(name)) for name in SHOWN),
                _with_interval(layer.get("kept by large effects")),
                _with_interval(layer.get("median explained_variance")),
                _with_interval(layer.get("words precision@1")),
            ]
            for layer in facts["layers"]
        ],
        f"%, mean over {facts['seeds']} seeds +- half of the 95 % interval",
    )
    print_table(
        ["figure", "value"],
        [[name, _with_interval(value)] for name, value in facts["whole"].items() if "layer" not in name],
        "of the layer that matters most, and of the whole model",
    )


def _with_interval(value: dict[str, Any] | None) -> str:
    if value is None:
        return ""
    return f"{100 * value['mean']:.1f} +- {50 * (value['high'] - value['low']):.1f}"


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
    seed: Annotated[int, typer.Option(help="Random seed of the series of scenes.")] = 0,
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
        with running() as run:
            write_dataset(
                out,
                scenes,
                size=size,
                masks=masks,
                labels=tables,
                workers=workers,
                progress=lambda done: run.progress("drawing", done, count),
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
    with running() as run:
        train_stages(
            out, work, stages, biases=biases, start=start, device=device, workers=workers, progress=run.progress
        )
    typer.echo(f"wrote {out}", err=True)


@app.command()
def measure(
    model: Annotated[str, typer.Argument(help="A model of the world.")] = "world:",
    scenes: Annotated[int, typer.Option(help="Scenes a figure.")] = 2000,
    groups: Annotated[int, typer.Option(help="Groups of 100 captions.")] = 20,
    biases: BiasesOption = None,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Measure zero-shot accuracies and retrieval on unseen scenes."""
    from secondlens.lens import load_model
    from secondlens.studies.laboratory.measure import measure
    from secondlens.world.biases import Biases

    with running() as run:
        found = measure(
            load_model(model, device=device),
            scenes=scenes,
            groups=groups,
            biases=Biases.load(biases),
            progress=run.progress,
        )
    if as_json:
        print_json(found)
    else:
        print_facts({name.replace("_", " "): f"{100 * value:.1f} %" for name, value in found.items()})
