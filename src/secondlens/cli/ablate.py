"""`secondlens ablate`: what a layer's second-order effects do for accuracy."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from secondlens.cli.output import JsonOption, print_facts, print_json, print_table, print_written, running
from secondlens.cli.pool import SOURCE
from secondlens.progress import Running

if TYPE_CHECKING:
    from secondlens.atlas import Atlas
    from secondlens.descriptions import Descriptions
    from secondlens.descriptions.pool import Pool

COLUMNS = {
    "baseline": "unchanged",
    "without_all": "all at mean",
    "without_large": "large at mean",
    "without_small": "small at mean",
    "rank_one": "rank 1",
    "rank_two": "rank 2",
    "rank_four": "rank 4",
}


def ablate_command(
    model: ModelArgument,
    atlas: AtlasArgument,
    images: LabelledOption,
    layers: Annotated[str | None, typer.Option(help="e.g. 8,9,10 or 4-10; default: the atlas's.")] = None,
    pool: Annotated[
        list[str] | None, typer.Option(help=f"Also reconstruct from texts; may be given several times. {SOURCE}")
    ] = None,
    nonzero: Annotated[
        list[int] | None, typer.Option("-m", help="Texts a neuron; may be given several times. Default: 128.")
    ] = None,
    classes: Annotated[
        Path | None, typer.Option(help="Class names, one a line, in the order of the labels; default: those of images.")
    ] = None,
    templates: Annotated[
        str | None, typer.Option(help="For zero-shot: a file with one a line ({} for the name), or openai-imagenet.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for ablations.json, ablations.parquet and ablations.png.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Images at most, drawn at random.")] = None,
    batch_size: BatchSizeOption = 32,
    workers: WorkersOption = None,
    memory: Annotated[str | None, typer.Option(help="For the layers of one pass, e.g. 4GB.")] = None,
    device: DeviceOption = "cpu",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16, float16 or float64.")] = "float32",
    as_json: JsonOption = False,
) -> None:
    """Measure accuracy with each layer's effects replaced by their mean, components or texts."""
    import warnings

    from secondlens.atlas import Atlas
    from secondlens.data.labelled import classes_without_images, open_labelled
    from secondlens.data.texts import read_texts
    from secondlens.descriptions.pools import open_pool
    from secondlens.lens import load_model
    from secondlens.lens.classifier import read_templates
    from secondlens.studies.ablation import ablate, summary
    from secondlens.surveys.plan import parse_memory
    from secondlens.viewer.plots import check_report
    from secondlens.viewer.reports.ablation import write_study

    chosen = parse_layers(layers)
    room = None if memory is None else parse_memory(memory)
    filled = None if templates is None else read_templates(templates)
    check_report(out)
    opened = Atlas.open(atlas)
    with running(batch_size, workers, device) as run:
        loaded = load_model(model, device=run.device, dtype=dtype)
        opened.require_model(loaded)
        if templates is not None and loaded.classifier is not None:
            warnings.warn(f"{model} has a classifier of its own; --templates are not used", stacklevel=1)
        labelled = open_labelled(images, loaded, None if classes is None else read_texts(classes))
        empty = classes_without_images(labelled) if loaded.classifier is None else []
        if empty:
            warnings.warn(
                f"{len(empty)} of {len(labelled.classes)} classes have no image (first: {empty[0]!r})", stacklevel=1
            )
        described = []
        for name in pool or []:
            texts = open_pool(name, loaded, progress=run.counting("encoding texts"))
            described.append((_described(opened, texts, nonzero, run), texts))
        study = ablate(
            loaded,
            opened,
            labelled,
            layers=chosen,
            described=described,
            sizes=nonzero or None,
            templates=filled,
            limit=limit,
            memory=room,
            out=out,
            running=run,
        )
        seen = int(study.surveyed.sum())
        if seen:
            warnings.warn(
                f"the survey saw {seen} of the {len(study.positions)} evaluation images: means, thresholds and "
                "components were made of them; use images of their own for an honest figure",
                stacklevel=1,
            )
    facts = summary(study)
    files = [] if out is None else [str(path) for path in write_study(study, out)]
    if as_json:
        print_json({**facts, "files": files})
        return
    _print(facts)
    print_written(files)


def _described(atlas: "Atlas", pool: "Pool", sizes: list[int] | None, run: Running) -> "Descriptions":
    """The atlas's descriptions over a pool where they are long enough: the first m texts are those of length m."""
    from secondlens.descriptions import Descriptions, describe
    from secondlens.descriptions.store import slug

    longest = max(sizes) if sizes else min(128, len(pool.texts))
    if slug(pool.name) in Descriptions.names(atlas):
        found = Descriptions.open(atlas, pool.name)
        settings = found.card.settings
        if settings.pool_key == pool.card.key and settings.nonzero >= longest:
            return found
    return describe(atlas, pool, longest, device=run.device, progress=run.progress)


def _print(facts: dict[str, Any]) -> None:
    print_facts({name: facts[name] for name in ("images", "classes", "classifier")})
    names = list(dict.fromkeys(name for layer in facts["layers"] for name in layer["intervals"]))
    rows = []
    for layer in facts["layers"]:
        values: list[object] = [layer["layer"]]
        for name in names:
            p_value = layer["differences"].get(name, {}).get("p_value", 1.0)
            values.append(f"{100 * layer[name]:.1f}{'*' if p_value < 0.05 else ''}" if name in layer else "")
        rows.append(values)
    half = [100 * (high - low) / 2 for layer in facts["layers"] for low, high in layer["intervals"].values()]
    print_table(
        ["layer", *(COLUMNS.get(name, name) for name in names)],
        rows,
        f"accuracy %, 95 % intervals within +-{max(half):.1f}; * differs from unchanged (McNemar, p < 0.05)",
    )
