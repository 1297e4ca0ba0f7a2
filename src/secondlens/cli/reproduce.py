"""`secondlens reproduce`: the paper's tables and figures, on its data or on yours."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from secondlens.cli.options import BatchSizeOption, DeviceOption, WorkersOption, parse_layers
from secondlens.cli.output import JsonOption, decoders, print_json, print_table, running

if TYPE_CHECKING:
    from secondlens.studies.reproduction import Outcome, Preset


def reproduce_command(
    presets: Annotated[
        list[str] | None, typer.Argument(help="Names (--list shows them) or .yaml files; default: all.")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(help="NAME=PATH, several times: imagenet, imagenet-r ...; or survey, evaluation, classes."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="A model reference in the place of the preset's.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for surveys, results and REPORT.md.")] = Path("reproduction-out"),
    layers: Annotated[str | None, typer.Option(help="In the place of the preset's, e.g. 4-10.")] = None,
    top: Annotated[int | None, typer.Option(help="Images a neuron; default: the preset's, or a tenth of few.")] = None,
    convention: Annotated[str | None, typer.Option(help="centred or released; default: the preset's.")] = None,
    templates: Annotated[
        str | None, typer.Option(help="For zero-shot: a file with one a line, or openai-imagenet.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE of the study's settings, e.g. neurons=50.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Images of either set at most, drawn at random.")] = None,
    batch_size: BatchSizeOption = 32,
    workers: WorkersOption = None,
    device: DeviceOption = "cpu",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16, float16 or float64.")] = "float32",
    list_presets: Annotated[bool, typer.Option("--list", help="Show the presets and stop.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run the paper's experiments and put ours beside the paper's; finished ones are not run again."""
    from secondlens.disk.files import check_folder
    from secondlens.studies.reproduction import Options, load_preset, preset_names, reproduce
    from secondlens.studies.reproduction.run import plain
    from secondlens.viewer.reports.files import write_files
    from secondlens.viewer.reports.reproduction import write_report

    chosen = [load_preset(name) for name in presets or preset_names()]
    if list_presets:
        _list(chosen, as_json)
        return
    options = Options(
        data=_pairs(data, "--data", "NAME=PATH"),
        model=model,
        layers=parse_layers(layers),
        top=top,
        convention=convention,
        templates=templates,
        limit=limit,
        settings=_settings(settings),
        batch_size=batch_size,
        workers=decoders(workers),
        device=device,
        dtype=dtype,
    )
    check_folder(out)
    with running() as run:
        outcomes = reproduce(chosen, out, options, run.progress, write_files=write_files, write_report=write_report)
    report = out / "REPORT.md"
    if as_json:
        print_json({"presets": plain(outcomes), "report": str(report)})
        return
    _print(outcomes)
    typer.echo(f"wrote {report}", err=True)


def _pairs(given: Sequence[str] | None, option: str, form: str) -> dict[str, str]:
    from secondlens.errors import ReproductionError

    pairs = {}
    for pair in given or ():
        name, equals, value = pair.partition("=")
        if not (name and equals and value):
            raise ReproductionError(f"expected {option} {form}, got {pair!r}")
        pairs[name.strip()] = value
    return pairs


def _settings(given: Sequence[str] | None) -> dict[str, Any]:
    """Values as YAML: 50, [1, 2], words-10k."""
    import yaml

    from secondlens.errors import ReproductionError

    found = {}
    for name, value in _pairs(given, "--set", "KEY=VALUE").items():
        try:
            found[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ReproductionError(
                f"expected a value such as 50 or [1, 2] in --set {name}=..., got {value!r}"
            ) from error
    return found


def _list(presets: "Sequence[Preset]", as_json: bool) -> None:
    if as_json:
        print_json({"presets": [preset.model_dump(mode="json") for preset in presets]})
        return
    rows = []
    for preset in presets:
        sets = [card.dataset for card in (preset.survey, preset.evaluation) if card is not None]
        rows.append([preset.name, preset.title, preset.study, preset.model, ", ".join(sets)])
    print_table(["preset", "what", "study", "model", "data"], rows)


def _print(outcomes: "Sequence[Outcome]") -> None:
    for outcome in outcomes:
        for title, columns, rows in outcome.tables:
            print_table(columns, rows, f"{outcome.name}: {title}")
        if outcome.comparisons:
            print_table(
                ["quantity", "paper", "ours", "state"],
                [[row[name] for name in ("text", "paper", "ours", "state")] for row in outcome.comparisons],
                f"{outcome.name} beside {outcome.paper} of the paper",
            )
        for change in outcome.changed:
            typer.echo(f"{outcome.name}, not as in the paper: {change}", err=True)
