"""`reproduce`: presets to results.

1. Everything that is missing, for all presets at once, before anything runs.
2. For each preset: the model (loaded once), the images, the survey (`OUT/atlases/KEY`, shared by presets with the same
   model, images, layers and settings; an interrupted one goes on), the study, `OUT/PRESET/result.json`, written last.
3. `OUT/REPORT.md` after each preset.

A preset whose result is there is not run again; a result of other settings is refused.
"""

import hashlib
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from secondlens.atlas.manifest import ids_hash
from secondlens.atlas.store import Atlas
from secondlens.data.labelled import LabelledImages, open_evaluation, open_survey
from secondlens.data.loader import processing_order
from secondlens.data.sources import ImageSource, subset
from secondlens.disk.files import make_folder, write_text
from secondlens.disk.json_text import finite, json_text
from secondlens.disk.lock import one_writer
from secondlens.errors import ReproductionError, SurveyError, closest
from secondlens.lens.load import load_model
from secondlens.lens.model import LensModel
from secondlens.progress import Progress, silent
from secondlens.studies.reproduction import measures, texts  # noqa: F401  (they register their studies)
from secondlens.studies.reproduction.compare import compare
from secondlens.studies.reproduction.missing import require_all
from secondlens.studies.reproduction.presets import Preset
from secondlens.studies.reproduction.settings import Options, Resolved, resolve
from secondlens.studies.reproduction.tasks import Task, study_of
from secondlens.surveys.checkpoint import require_same
from secondlens.surveys.run import survey

RESULT, ATLASES = "result.json", "atlases"


@dataclass(frozen=True)
class Outcome:
    """A preset's result, as in result.json. key: everything that changes its numbers. reused: it was there already."""

    name: str
    title: str
    paper: str
    key: dict[str, Any]
    setting: dict[str, Any]
    changed: list[str]
    values: dict[str, Any]
    comparisons: list[dict[str, Any]]
    tables: list[tuple[str, list[str], list[list[Any]]]]
    files: list[str]
    notes: list[str]
    reused: bool = field(default=False, compare=False)


def reproduce(
    presets: Sequence[Preset],
    out: str | Path,
    options: Options | None = None,
    progress: Progress | None = None,
    *,
    write_files: Callable[[Any, Path], list[Path]],
    write_report: Callable[[Sequence["Outcome"], Path], object],
) -> list[Outcome]:
    """Run presets, or open their results where they are in `out` already, and write the report there.

    write_files: writes the files of what a study found. write_report: is called after each preset, with all outcomes so
    far. Both are in `viewer.reports`.

    Raises `ReproductionError` for all that is missing, for settings that do not fit, and for a result of other
    settings in `out`.
    """
    options = options or Options()
    folder = Path(out)
    names = [preset.name for preset in presets]
    if not names or len(set(names)) < len(names):
        raise ReproductionError(f"expected one or more presets, each once, got {', '.join(names) or 'none'}")
    known = {preset.name: study_of(preset.study).settings.model_fields for preset in presets}
    everything = {name for fields in known.values() for name in fields}
    for name in options.settings:
        if name not in everything:
            raise ReproductionError(f"none of these presets has the setting {name!r}{closest(name, everything)}")
    runs = [resolve(preset, options, known[preset.name]) for preset in presets]
    for run in runs:
        study_of(run.preset.study).check(run.settings, run.preset.name)
    require_all(runs)
    tell = progress or silent
    models: dict[str, LensModel] = {}
    outcomes: list[Outcome] = []
    with one_writer(folder):
        for run in runs:
            if run.model not in models:
                # One at a time: two large models may not fit.
                models.clear()
                models[run.model] = load_model(run.model, device=options.device, dtype=options.dtype)
            outcomes.append(_run(run, models[run.model], folder, tell, write_files))
            write_report(outcomes, folder)
    return outcomes


def _run(
    run: Resolved, model: LensModel, out: Path, tell: Progress, write_files: Callable[[Any, Path], list[Path]]
) -> Outcome:
    preset, options = run.preset, run.options
    study = study_of(preset.study)
    settings = study.check(run.settings, preset.name)
    surveyed = _survey_images(run)
    evaluation = _evaluation_images(run, model)
    templates = run.templates(model)
    notes = list(preset.notes)
    notes += _counts(run, surveyed, evaluation)
    key: dict[str, Any] = {
        "study": preset.study,
        "settings": settings.model_dump(mode="json"),
        "model weights": model.weights_hash,
        "precision": str(model.dtype),
        "batch size": options.batch_size,
        "limit": options.limit,
    }
    if surveyed is not None:
        key["survey images"] = ids_hash(surveyed.ids)
        key["layers"] = run.layers(list(model.tower.lens_layers))
        key["top"] = run.top(len(surveyed.ids))
        key["convention"] = run.convention
    if evaluation is not None:
        key["evaluation images"] = ids_hash(evaluation.source.ids)
        key["classes"] = ids_hash([*evaluation.classes, *map(str, evaluation.labels.tolist())])
        key["templates"] = list(templates)
    folder = out / preset.name
    make_folder(folder)
    stored = read_result(folder / RESULT)
    if stored is not None:
        try:
            require_same(stored["key"], key, f"{folder} holds a result of other settings")
        except SurveyError as error:
            raise ReproductionError(str(error)) from error
        found = {name: stored[name] for name in ("values", "tables", "files", "study notes")}
    else:
        atlas = None if surveyed is None else _atlas(run, model, surveyed, key, out)
        task = Task(run, model, settings, folder, tell, write_files, atlas, surveyed, evaluation, templates)
        measured = study.measure(task)
        # As it is read again from the file.
        found = finite(
            {
                "values": measured.values,
                "tables": measured.tables,
                "files": measured.files,
                "study notes": measured.notes,
            }
        )
        write_text(folder / RESULT, json_text({"key": key, **found}, 2))
    tables = [(title, columns, rows) for title, columns, rows in found["tables"]]
    own = not run.changed
    return Outcome(
        name=preset.name,
        title=preset.title,
        paper=preset.paper,
        key=key,
        setting=_setting(run, model, surveyed, evaluation, key),
        changed=list(run.changed),
        values=found["values"],
        comparisons=[row.plain() for row in compare(preset.expected, found["values"], own)],
        tables=tables,
        files=found["files"],
        notes=notes + found["study notes"],
        reused=stored is not None,
    )


def read_result(path: Path) -> dict[str, Any] | None:
    """A result that was written before; raises `ReproductionError` for one that is damaged."""
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not {"key", "values", "tables", "files", "study notes"} <= set(content):
            raise ValueError("it lacks a part")
    except (OSError, ValueError, TypeError) as error:
        raise ReproductionError(f"cannot read {path}: {error}; remove it and run again") from error
    return content


def _survey_images(run: Resolved) -> ImageSource | None:
    if run.survey is None or run.preset.survey is None:
        return None
    source = open_survey(run.survey, run.preset.survey.every if run.own_survey else None)
    limit = run.options.limit
    if limit is None or limit >= len(source.ids):
        return source
    return subset(source, sorted(processing_order(len(source.ids))[:limit]), f"{limit} at random")


def _evaluation_images(run: Resolved, model: LensModel) -> LabelledImages | None:
    if run.evaluation is None or run.preset.evaluation is None:
        return None
    step = run.preset.evaluation.every if run.own_evaluation else None
    return open_evaluation(run.evaluation, model, run.classes, step)


def _counts(run: Resolved, surveyed: ImageSource | None, evaluation: LabelledImages | None) -> list[str]:
    """A note where a data set of the paper's has another number of images than it should; a warning, too."""
    notes = []
    pairs = (
        ("survey", run.preset.survey, run.own_survey and run.options.limit is None, surveyed and surveyed.ids),
        ("evaluation", run.preset.evaluation, run.own_evaluation, evaluation and evaluation.source.ids),
    )
    for role, card, own, ids in pairs:
        if card is not None and own and ids and card.images and len(ids) != card.images:
            notes.append(f"The {role} set has {len(ids)} images, the paper's {card.images}: some are missing or added.")
            warnings.warn(f"{run.preset.name}: {notes[-1]}", stacklevel=2)
    return notes


def _atlas(run: Resolved, model: LensModel, source: ImageSource, key: dict[str, Any], out: Path) -> Atlas:
    options = run.options
    names = ("model weights", "precision", "batch size", "survey images", "layers", "top", "convention")
    content = json.dumps([key[name] for name in names])
    layers = key["layers"]
    title = f"layer-{layers[0]}" if len(layers) == 1 else f"layers-{layers[0]}-{layers[-1]}"
    return survey(
        model,
        source,
        out / ATLASES / f"{title}-{hashlib.sha256(content.encode()).hexdigest()[:10]}",
        layers=layers,
        top=key["top"],
        convention=key["convention"],
        batch_size=options.batch_size,
        workers=options.workers,
        progress=True,
    )


def _setting(
    run: Resolved,
    model: LensModel,
    surveyed: ImageSource | None,
    evaluation: LabelledImages | None,
    key: dict[str, Any],
) -> dict[str, Any]:
    """For people."""
    shown: dict[str, Any] = {"model": run.model, "size": f"{model.layers} layers of {model.neurons} neurons"}
    if surveyed is not None:
        shown["survey"] = f"{len(surveyed.ids)} images of {run.survey}"
        shown["layers"] = ", ".join(map(str, key["layers"]))
        shown["top"] = f"{key['top']} images a neuron ({100 * key['top'] / len(surveyed.ids):.1f} %)"
        shown["convention"] = key["convention"]
    if evaluation is not None:
        count = min(len(evaluation.source.ids), run.options.limit or len(evaluation.source.ids))
        shown["evaluation"] = f"{count} images of {run.evaluation}"
        if model.classifier is not None:
            shown["classifier"] = f"its own head, {len(evaluation.classes)} classes"
        else:
            templates = run.template_reference or ", ".join(f'"{template}"' for template in run.templates(model))
            shown["classifier"] = f"zero-shot, {len(evaluation.classes)} classes, templates: {templates}"
    settings = key["settings"]
    if settings:
        shown["settings"] = ", ".join(f"{name} {value}" for name, value in settings.items())
    return shown


def plain(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Outcomes for --json."""
    return [asdict(outcome) for outcome in outcomes]
