"""`secondlens attack`: semantic adversarial images, from cues to a report."""

from pathlib import Path
from typing import Annotated, Any

import typer

from secondlens.cli.audit import SimilarityOption, TemplateOption
from secondlens.cli.auditor import classes_of, open_described, split_pair, templates_of
from secondlens.cli.options import AtlasArgument, DeviceOption, ModelArgument, PoolOption, parse_layers
from secondlens.cli.output import (
    JsonOption,
    print_facts,
    print_json,
    print_table,
    running,
    warnings_to_stderr,
)

app = typer.Typer(help="Make images that a model takes for another class, and measure how often.", no_args_is_help=True)

FolderArgument = Annotated[Path, typer.Argument(help="An attack's folder.")]


@app.command()
def run(
    model: ModelArgument,
    atlas: AtlasArgument,
    out: Annotated[Path, typer.Option(help="The attack's folder; the same command goes on where it was.")],
    pair: Annotated[list[str], typer.Option(help="SHOWN:PREDICTED, e.g. dog:deer; may be repeated.")],
    llm: Annotated[str, typer.Option(help="Captions: openai:MODEL, hf:NAME-or-FOLDER, world: or scripted:FILE.")],
    images: Annotated[str, typer.Option(help="Pictures: diffusers[:NAME], openai:MODEL, world: or folder:PATH.")],
    judge: Annotated[
        list[str], typer.Option(help="exact, openai:MODEL, hf:NAME, model:REF or none; the first decides.")
    ],
    method: Annotated[
        list[str] | None,
        typer.Option(help="second-order, effect, random, indirect, similar-words, none; default: all that can be."),
    ] = None,
    preset: Annotated[str, typer.Option(help="paper, quick or smallest.")] = "paper",
    cues: Annotated[int | None, typer.Option(help="Phrases a pair.")] = None,
    descriptions: Annotated[int | None, typer.Option(help="Captions asked for.")] = None,
    chosen: Annotated[int | None, typer.Option(help="Captions used.")] = None,
    per_caption: Annotated[int | None, typer.Option(help="Pictures of each.")] = None,
    repeats: Annotated[int | None, typer.Option(help="Repeats of all of it.")] = None,
    neurons: Annotated[int | None, typer.Option(help="Neurons a pair.")] = None,
    layers: Annotated[str | None, typer.Option(help="Layers to take neurons from; default: all described.")] = None,
    classes: Annotated[
        Path | None, typer.Option(help="Classes to predict among, one a line; default: a classifier's own, the pairs'.")
    ] = None,
    indirect: Annotated[
        str | None,
        typer.Option(help="Directions of indirect effects: a file of `study indirect`, or 'compute' to make it now."),
    ] = None,
    indirect_images: Annotated[int, typer.Option(help="Images of the survey that 'compute' takes.")] = 300,
    pool: PoolOption = None,
    similarity: SimilarityOption = "auto",
    template: TemplateOption = None,
    until: Annotated[
        str, typer.Option(help="Stop after: cues, descriptions, images, judge, predictions.")
    ] = "predictions",
    steps: Annotated[int | None, typer.Option(help="Of denoising, for diffusers.")] = None,
    size: Annotated[int | None, typer.Option(help="Of pictures, in pixels.")] = None,
    temperature: Annotated[float, typer.Option(help="Of the language model.")] = 1.0,
    max_tokens: Annotated[int, typer.Option(help="Longest answer of the language model.")] = 4096,
    seed: Annotated[int | None, typer.Option(help="Random seed of everything that is drawn; default: 0.")] = None,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Run all stages and write the report; an interrupted run goes on where it was and pays for nothing twice."""
    from secondlens.analysis.attack import (
        AttackFolder,
        AttackPlan,
        make_settings,
        open_image_maker,
        open_judge,
        run_attack,
    )
    from secondlens.analysis.attack.run import STAGES
    from secondlens.analysis.attack.sources import open_sources
    from secondlens.analysis.audit import class_pair
    from secondlens.data.language import open_language_model
    from secondlens.disk.files import check_folder
    from secondlens.errors import AuditError

    settings = make_settings(
        preset, cues=cues, descriptions=descriptions, chosen=chosen, images=per_caption, repeats=repeats,
        neurons=neurons, layers=parse_layers(layers), seed=seed,
    )  # fmt: skip
    if until not in STAGES:
        raise AuditError(f"expected a stage of {', '.join(STAGES)}, got {until!r}")
    check_folder(out)
    language = open_language_model(llm, max_tokens=max_tokens, temperature=temperature)
    opened, loaded, described = open_described(model, atlas, pool, device)
    templates = templates_of(template, loaded)
    pairs = [class_pair(loaded, *split_pair(text), templates) for text in pair]
    known = classes_of(classes, loaded)
    methods = tuple(method) if method else _all_methods(indirect is not None, known is not None)
    names = known or list(dict.fromkeys(name for pair in pairs for name in (pair.source_class, pair.target_class)))
    maker = open_image_maker(images, steps=steps, size=size, device=device if device != "cpu" else None)
    judges = [open_judge(each, loaded, names, templates) for each in judge]
    folder = AttackFolder(out)
    plan = AttackPlan(pairs, methods, settings, names, templates, until)
    with running() as run:
        sources = open_sources(
            loaded, opened, described, methods, settings, similarity=similarity, templates=templates, classes=known,
            indirect=indirect, indirect_images=indirect_images, folder=folder, progress=run.progress,
        )  # fmt: skip
        rows = run_attack(folder, plan, sources, language, maker, judges, run.progress, {"atlas": str(atlas.resolve())})
        if until != STAGES[-1]:
            typer.echo(f"stopped after {until}; the same command without --until goes on", err=True)
            return
        found = _report(folder, plan, rows, loaded, opened, judges[0].name, maker.name)
    _print(found, folder, as_json)


@app.command()
def judge(
    folder: FolderArgument,
    port: Annotated[int, typer.Option(help="Default: any that is free.")] = 0,
    browser: Annotated[bool, typer.Option(help="Open the page.")] = True,
    name: Annotated[str, typer.Option(help="Who judges; each name has verdicts of its own.")] = "person",
) -> None:
    """Judge the pictures by eye, on a page of this machine: accept or reject with one key each."""
    import webbrowser

    from secondlens.analysis.attack import AttackFolder
    from secondlens.viewer.judging import PersonPage

    opened = AttackFolder(folder)
    page = PersonPage(opened, _pictures(opened), port, name)
    typer.echo(f"judge at {page.url} (Ctrl-C ends; every verdict is kept at once)", err=True)
    if browser:
        webbrowser.open(page.url)
    try:
        page.serve()
    except KeyboardInterrupt:
        pass
    finally:
        page.close()


@app.command()
def report(
    folder: FolderArgument,
    judge: Annotated[str | None, typer.Option(help="Whose verdicts decide, e.g. person; default: the run's.")] = None,
    model: Annotated[str | None, typer.Option(help="Where the model is now.")] = None,
    atlas: Annotated[Path | None, typer.Option(help="Where the atlas is now.")] = None,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Write the report again, e.g. with a person's verdicts."""
    from secondlens.analysis.attack import AttackFolder, AttackPlan, AttackSettings
    from secondlens.analysis.attack.judging import all_judgements
    from secondlens.analysis.attack.results import join
    from secondlens.analysis.audit import class_pair
    from secondlens.errors import AuditError, closest

    opened = AttackFolder(folder)
    card = opened.card()
    judgements = all_judgements(opened)
    decides = judge or card["judges"][0]
    if decides not in judgements:
        raise AuditError(f"nobody called {decides!r} judged {folder}{closest(decides, judgements)}")
    lens, loaded, _ = open_described(model or card["model"], atlas or Path(card["atlas"]), card["pool"], device)
    pairs = [class_pair(loaded, shown, predicted, card["templates"]) for shown, predicted in card["pairs"]]
    plan = AttackPlan(
        pairs, tuple(card["methods"]), AttackSettings(**card["settings"]), card["classes"], tuple(card["templates"])
    )
    cells = set(plan.cells())
    from secondlens.analysis.attack import Cell

    images = [line for line in _pictures(opened) if Cell.of(line) in cells]
    predictions = {line["name"]: line for line in opened.lines("predictions")}
    rows = join([line for line in images if line["name"] in predictions], predictions, judgements, decides)
    with warnings_to_stderr():
        found = _report(opened, plan, rows, loaded, lens, decides, card["image_model"])
    _print(found, opened, as_json)


def _report(folder: Any, plan: Any, rows: Any, model: Any, atlas: Any, judge: str, maker: str) -> dict[str, Any]:
    from secondlens.viewer.reports.attack import write_report
    from secondlens.viewer.reports.attack_gallery import make_gallery

    layers = list(plan.settings.layers or atlas.layers)
    exhibits = make_gallery(folder, rows, model, plan.pairs, layers, maker, atlas.manifest.convention)
    return write_report(folder, rows, plan.cells(), plan.settings.pictures, exhibits, judge)


def _print(found: dict[str, Any], folder: Any, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "report": str(folder.report / "report.html"),
                "judge": found["judge"],
                **{kind: found[kind] for kind in ("binary", "among_all")},
                "agreement": found["agreement"],
            }
        )
        return
    for kind, title in (("binary", "of the two classes"), ("among_all", "among all classes")):
        rows = [
            [
                row["source_class"],
                row["target_class"],
                row["method"],
                100 * row["success"],
                row["valid"],
                row["discarded"],
            ]
            for row in found[kind]["pairs"]
        ]
        print_table(["shown", "predicted", "method", "success, % of pictures", "valid", "discarded"], rows, title)
    print_facts({"report": folder.report / "report.html"})


def _pictures(folder: Any) -> list[dict[str, Any]]:
    from secondlens.errors import AuditError

    folder.card()
    lines = {line["name"]: line for line in folder.lines("images")}
    if not lines:
        raise AuditError(f"{folder.path} has no pictures yet; go on with: secondlens attack run")
    return list(lines.values())


def _all_methods(indirect: bool, classes: bool) -> tuple[str, ...]:
    from secondlens.analysis.attack.settings import DEFAULT_METHODS

    possible = {"indirect": indirect, "images": classes}
    return tuple(name for name in DEFAULT_METHODS if possible.get(name, True))
