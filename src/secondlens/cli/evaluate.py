"""`secondlens evaluate`: descriptions on labelled images, heat maps against masks."""

from pathlib import Path
from typing import Annotated

import typer

from secondlens.cli.options import (
    AtlasArgument,
    BatchSizeOption,
    DeviceOption,
    LabelledOption,
    ModelArgument,
    WorkersOption,
    parse_layers,
)
from secondlens.cli.output import JsonOption, accuracy_text, print_json, print_table, print_written, running
from secondlens.cli.pool import SOURCE

SHOWN = ("pixel_accuracy", "miou", "map", "miou_at_mean")


def segmentation(
    model: ModelArgument,
    atlas: AtlasArgument,
    pairs: Annotated[Path | None, typer.Option(help="A CSV with the columns image, mask and perhaps name.")] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Instead of pairs: imagenet-segmentation, voc or coco, under --root.")
    ] = None,
    root: Annotated[Path | None, typer.Option(help="The data set's folder or file.")] = None,
    split: Annotated[str | None, typer.Option(help="Of voc (default val) or coco (default val2017).")] = None,
    target: Annotated[
        str | None,
        typer.Option(
            help="predicted: the class that the model predicts, the released rule; name: the given one. Default: name "
            "where the model encodes any text and all images have a name, else predicted."
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(help="A pool of class names to predict from, for a model without labels; default: the names."),
    ] = None,
    methods: Annotated[str | None, typer.Option(help="Names with commas; default: all that apply.")] = None,
    layers: Annotated[str | None, typer.Option(help="Neurons of these, e.g. 8,9,10; default: the atlas's.")] = None,
    rule: Annotated[
        str | None,
        typer.Option(help="How neurons are chosen: paper, signed, share or all; default: each method's own."),
    ] = None,
    neurons: Annotated[int, typer.Option(help="How many, for the rules paper and signed.")] = 200,
    share: Annotated[float, typer.Option(help="Of the score, for the rule share.")] = 0.5,
    mixing: Annotated[str, typer.Option(help="How traced methods go back: norms, attention or block.")] = "norms",
    reference: Annotated[str | None, typer.Option(help="The method that the others are compared with.")] = None,
    resolution: Annotated[
        str, typer.Option(help="model: score on the model's square, as the harnesses do; image: at the image's size.")
    ] = "model",
    views: Annotated[int, typer.Option(help="1; 2: and mirrored; 8: and moved by half a patch; for all methods.")] = 1,
    void: Annotated[int | None, typer.Option(help="A value of the masks of --pairs that counts nowhere.")] = None,
    first: Annotated[int, typer.Option(help="The first image, from 0.")] = 0,
    limit: Annotated[int | None, typer.Option(help="Images at most.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the report; a killed run goes on there. Default: no report.")
    ] = None,
    grid: Annotated[int, typer.Option(help="Images in the report's grid.")] = 8,
    batch_size: BatchSizeOption = 16,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Score every heat map method against masks: pixel accuracy, mIoU and mAP, with intervals and paired tests."""
    from secondlens.analysis.heatmaps import Options, make_methods
    from secondlens.analysis.segmentation.evaluate import Plan, evaluate_segmentation
    from secondlens.analysis.segmentation.summary import summary
    from secondlens.analysis.segmentation.targets import make_targets
    from secondlens.atlas import Atlas
    from secondlens.data.masks import open_masked
    from secondlens.descriptions.pools import open_pool
    from secondlens.lens import load_model
    from secondlens.viewer.plots import check_report
    from secondlens.viewer.reports.segmentation import make_panels, write_report

    some = parse_layers(layers)
    options = Options(None if some is None else tuple(some), rule, neurons, share, mixing)
    check_report(out)
    opened = Atlas.open(atlas)
    images = open_masked(pairs, dataset, root, split, by_class=target == "name", void=void)
    files = []
    with running() as run:
        loaded = load_model(model, device=device)
        opened.require_model(loaded)
        chosen = None if methods is None else [name.strip() for name in methods.split(",")]
        made = make_methods(loaded, chosen, opened, options)
        pool = None if classes is None else open_pool(classes, loaded)
        wanted = make_targets(loaded, images, target, pool)
        plan = Plan(resolution, views, batch_size, first, limit)
        evaluation = evaluate_segmentation(loaded, images, made, wanted, plan, out, opened, run.progress)
        found = summary(evaluation, reference)
        if out is not None:
            panels = make_panels(loaded, images, made, wanted, evaluation, plan, grid) if grid else []
            files = write_report(found, panels, out)
    if as_json:
        print_json({**found, "files": [str(path) for path in files]})
        return
    rows = [
        [name, *(_cell(values, key) for key in SHOWN)]
        for name, values in sorted(found["methods"].items(), key=lambda item: -(item[1]["miou"] or 0))
    ]
    counted = found["counted"]
    print_table(
        ["method", *(found["metrics"][key] for key in SHOWN)],
        rows,
        f"{counted['images']} images, target {found['settings']['target']}; per cent (95 % interval)",
    )
    for what in ("skipped", "without_foreground", "constant_maps"):
        if counted[what]:
            typer.echo(f"{what.replace('_', ' ')}: {counted[what]}", err=True)
    print_written(files)


def _cell(values: dict[str, float | None], key: str) -> str:
    value, low, high = values[key], values[f"{key}_low"], values[f"{key}_high"]
    if value is None or low is None or high is None:
        return "-"
    return f"{100 * value:.1f} ({100 * low:.1f} to {100 * high:.1f})"


app = typer.Typer(help="Test what is said of neurons on images.", no_args_is_help=True)
app.command()(segmentation)


TITLES = {"baseline": "unchanged", "without_all": "at their mean", "rank_one": "true directions"}


@app.callback()
def nouns() -> None:
    """Keep sub-commands."""


@app.command()
def descriptions(
    model: ModelArgument,
    atlas: AtlasArgument,
    images: LabelledOption,
    pool: Annotated[list[str], typer.Option(help=f"Pools to compare; may be given several times. {SOURCE}")],
    out: Annotated[Path, typer.Option(help="Folder for summary.json and curve.png.")],
    nonzero: Annotated[int | None, typer.Option("-m", help="Texts a neuron; default: 128, or the pool.")] = None,
    limit: Annotated[int, typer.Option(help="Images at most.")] = 5000,
    batch_size: BatchSizeOption = 32,
    workers: WorkersOption = None,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Measure how far descriptions can be trusted: accuracy against the number of texts, prediction, stability."""
    from secondlens.atlas import Atlas
    from secondlens.data.labelled import open_labelled
    from secondlens.descriptions import describe
    from secondlens.descriptions.pools import open_pool
    from secondlens.lens import load_model
    from secondlens.studies.descriptions import study_descriptions, summary
    from secondlens.viewer.plots import check_report
    from secondlens.viewer.reports.descriptions import write_report

    check_report(out)
    opened = Atlas.open(atlas)
    with running(batch_size, workers, device) as run:
        loaded = load_model(model, device=run.device)
        opened.require_model(loaded)
        labelled = open_labelled(images, loaded)
        described = []
        for name in pool:
            texts = open_pool(name, loaded, progress=run.counting("encoding texts"))
            described.append((describe(opened, texts, nonzero, device=run.device, progress=run.progress), texts))
        study = study_descriptions(
            loaded,
            opened,
            labelled,
            described,
            limit=limit,
            running=run,
        )
    written = write_report(study, out)
    facts = summary(study)
    if as_json:
        print_json({**facts, "files": [str(path) for path in written]})
        return
    rows = []
    for layer in facts["layers"]:
        index = layer["layer"]
        rows += [[index, title, "", accuracy_text(layer[name]), ""] for name, title in TITLES.items()]
        rows += [
            [index, row["pool"], row["texts"], accuracy_text(row["paper"]), accuracy_text(row["released"])]
            for row in layer["reconstructed"]
        ]
    print_table(
        ["layer", "effects from", "texts", "accuracy %", "released way"],
        rows,
        f"accuracy on {facts['images']} images with the layer's effects replaced (95 % interval)",
    )
    for layer in facts["layers"]:
        for name, figures in layer["neurons"].items():
            print_table(
                ["median over neurons", "value"],
                [[key.replace("_", " "), value] for key, value in figures.items()],
                f"layer {layer['layer']}, {name}",
            )
    print_written(written)
