"""What is missing before presets can run: data sets that a person must fetch, libraries, pools."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from secondlens.errors import ReproductionError
from secondlens.lens.classifier import OPENAI
from secondlens.studies.reproduction.presets import DATASETS
from secondlens.studies.reproduction.settings import Resolved

EXTRAS = {"open_clip": "openclip", "wordfreq": "words", "matplotlib": "plots"}


def require_all(runs: Sequence[Resolved]) -> None:
    """Raise one `ReproductionError` that lists all that is missing, and which presets want it."""
    wanted: dict[str, list[str]] = {}
    for run in runs:
        for problem in missing(run):
            wanted.setdefault(problem, []).append(run.preset.name)
    if not wanted:
        return
    listed = [
        f"({number}) {problem} [{', '.join(names)}]" for number, (problem, names) in enumerate(wanted.items(), start=1)
    ]
    raise ReproductionError(
        f"{len(wanted)} thing{'s are' if len(wanted) > 1 else ' is'} missing: {'; '.join(listed)}. "
        "Any preset also runs on other data: --data survey=IMAGES --data evaluation=LABELLED --model REFERENCE"
    )


def missing(run: Resolved) -> list[str]:
    """What one preset needs and does not have, each with what to put where."""
    problems = []
    for role, path in (("survey", run.survey), ("evaluation", run.evaluation)):
        card = getattr(run.preset, role)
        if card is None:
            continue
        known = DATASETS[card.dataset]
        if path is None:
            root = f" (or --data {known.root}=FOLDER for all of it)" if known.root else ""
            problems.append(f"{known.title}: --data {card.dataset}=PATH{root}, PATH being {known.layouts}")
        elif not path.startswith("datasets:") and "*" not in path and "{" not in path and not Path(path).exists():
            problems.append(f"{path}, given as the {role} images, does not exist: check the path")
    classes = run.classes
    if classes is not None and classes != OPENAI and not Path(classes).exists():
        problems.append(f"{classes}, given as --data classes, does not exist: check the path")
    libraries = {"matplotlib": "the pictures"}
    if run.model.startswith("openclip:") or OPENAI in (run.template_reference, classes):
        libraries["open_clip"] = "openclip: models, OpenAI's templates and class names"
    # A classifier given in the place of a CLIP has its labels for a pool.
    if run.options.model is None and any(pool.startswith("words-") for pool in run.settings.get("pools", ())):
        libraries["wordfreq"] = "the pools of common words"
    for library, purpose in libraries.items():
        if find_spec(library) is None:
            problems.append(f"the library {library} for {purpose}: pip install 'secondlens[{EXTRAS[library]}]'")
    return problems
