"""The studies behind presets that need descriptions: accuracy against the number of texts, and words of neurons."""

from typing import Any

from pydantic import Field

from secondlens.descriptions import Descriptions, describe
from secondlens.descriptions.pool import Pool
from secondlens.descriptions.pools import open_pool
from secondlens.errors import ReproductionError
from secondlens.lens.model import LensModel
from secondlens.studies.descriptions import REFERENCES, study_descriptions, summary
from secondlens.studies.reproduction.presets import POOLS
from secondlens.studies.reproduction.tasks import Measured, Settings, Task, percent, register, with_interval


class PoolSettings(Settings):
    """pools: lists, files, or names of `presets.POOLS`. nonzero: texts a neuron. null_draws: for p-values."""

    pools: tuple[str, ...] = Field(min_length=1)
    nonzero: int = Field(default=128, ge=1)
    null_draws: int = Field(default=500, ge=0)


class WordSettings(PoolSettings):
    """neurons: of the survey's last layer. shown: words a neuron, the largest coefficients first."""

    neurons: tuple[int, ...] = Field(min_length=1)
    shown: int = Field(default=10, ge=1)


@register("descriptions", PoolSettings)
def measure_descriptions(task: Task) -> Measured:
    """Accuracy with a layer's directions made of m texts (figure 4).

    Values: baseline (%); of the layer whose ablation hurts most and its best pool: loss (points), rise (points, from
    the fewest texts to the most), recovered (the share of what the true directions recover that the most texts do; None
    where that is nothing).
    """
    atlas = task.surveyed()
    notes: list[str] = []
    described = [(_described(task, pool), pool) for pool in _pools(task, notes)]
    study = study_descriptions(
        task.model,
        atlas,
        task.labelled(),
        described,
        templates=task.templates,
        limit=task.limit,
        running=task.running,
    )
    facts = summary(study)
    files = task.write(study)
    layers = facts["layers"]
    worst = max(layers, key=lambda layer: layer["baseline"]["accuracy"] - layer["without_all"]["accuracy"])
    none, true = worst["without_all"]["accuracy"], worst["rank_one"]["accuracy"]
    curves: dict[str, list[float]] = {}
    for row in worst["reconstructed"]:
        curves.setdefault(row["pool"], []).append(row["paper"]["accuracy"])
    best = max(curves.values(), key=lambda curve: curve[-1])
    values: dict[str, float | list[str] | None] = {
        "baseline": percent(worst["baseline"]["accuracy"]),
        "loss": percent(worst["baseline"]["accuracy"] - none),
        "rise": percent(best[-1] - best[0]),
        "recovered": (best[-1] - none) / (true - none) if true > none else None,
    }
    rows: list[list[Any]] = []
    for layer in layers:
        rows += [[layer["layer"], name, "", with_interval(layer[name])] for name in REFERENCES]
        rows += [
            [layer["layer"], row["pool"], row["texts"], with_interval(row["paper"])] for row in layer["reconstructed"]
        ]
    title = f"Accuracy, % (95 %), over {facts['images']} images, with the layer's effects from so many texts"
    return Measured(values, [(title, ["layer", "effects from", "texts", "accuracy"], rows)], files, notes)


@register("words", WordSettings)
def measure_words(task: Task) -> Measured:
    """The words of some neurons (tables 2 and 5). Values: "neuron N", the words with the largest coefficients."""
    notes: list[str] = []
    atlas = task.surveyed()
    pool = _pools(task, notes)[0]
    described = _described(task, pool)
    layer, count = atlas.layers[-1], task.model.neurons
    neurons: tuple[int, ...] = task.settings.neurons
    if max(neurons) >= count:
        if "neurons" in task.run.options.settings:
            raise ReproductionError(f"{task.run.model} has neurons 0 to {count - 1} a layer, got {max(neurons)}")
        strongest = atlas.layer(layer).variance.topk(min(len(neurons), count)).indices.tolist()
        notes.append(f"The preset's neurons are beyond the {count} of this model: its strongest ones instead.")
        neurons = tuple(strongest)
    values: dict[str, float | list[str] | None] = {}
    rows: list[list[Any]] = []
    for neuron in neurons:
        table = described.table(layer, neuron).to_pylist()
        table.sort(key=lambda row: -abs(row["coefficient"]))
        words = [f"{'+' if row['coefficient'] > 0 else '-'}{row['text']}" for row in table[: task.settings.shown]]
        values[f"neuron {neuron}"] = list(words)
        rows.append([neuron, ", ".join(words)])
    known = set(pool.texts)
    asked = [word.lstrip("+-") for expected in task.run.preset.expected for word in expected.words or ()]
    absent = [] if task.run.changed else [word for word in asked if word not in known]
    if absent:
        notes.append(f"The pool {pool.name} lacks {len(absent)} of the paper's words: {', '.join(absent)}.")
    title = f"Layer {layer}: words with the largest of {task.settings.nonzero} coefficients over {pool.name}"
    return Measured(values, [(title, ["neuron", "words"], rows)], [], notes)


def _pools(task: Task, notes: list[str]) -> list[Pool]:
    """The pools that can be had for a model, and notes on the others."""
    model: LensModel = task.model
    found: list[Pool] = []
    for name in task.settings.pools:
        reference, given = name, task.run.options.data.get(name)
        if name in POOLS:
            if given is None:
                notes.append(f"Without the pool {name}: {POOLS[name]}. Give it as --data {name}=FILE.")
                continue
            reference = given
        elif model.classifier is not None and name != "labels":
            notes.append(f"{task.run.model} is a classifier: its labels instead of {name}.")
            reference = "labels"
        if reference in [pool.name for pool in found]:
            continue
        found.append(
            open_pool(
                reference,
                model,
                name=name if name in POOLS else None,
                progress=task.running.counting("encoding texts"),
            )
        )
    if not found:
        raise ReproductionError(
            f"none of the pools of {task.run.preset.name} is there: {', '.join(task.settings.pools)}"
        )
    return found


def _described(task: Task, pool: Pool) -> Descriptions:
    nonzero = min(task.settings.nonzero, len(pool.texts))
    return describe(
        task.surveyed(),
        pool,
        nonzero,
        null_draws=task.settings.null_draws,
        device=task.run.options.device,
        progress=task.tell,
    )
