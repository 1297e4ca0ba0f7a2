"""The studies behind presets that need labelled images: each runs one of `secondlens.studies` and names its figures."""

from typing import Any

from secondlens.numerics.intervals import paired_difference
from secondlens.studies import ablation, first_order, indirect
from secondlens.studies.ablation import ablate
from secondlens.studies.first_order import study_first_order
from secondlens.studies.indirect import study_table1
from secondlens.studies.reproduction.tasks import Measured, Settings, Task, percent, register, with_interval

VARIANTS = {
    "baseline": "unchanged",
    "without_all": "all at mean",
    "without_large": "large at mean",
    "without_small": "small at mean",
    "rank_one": "first component",
}


class NoSettings(Settings):
    """A study without settings of its own."""


class Table1Settings(Settings):
    """neurons: how many to draw at random for indirect effects, or which. rows: neurons times images at a time."""

    neurons: int | tuple[int, ...] = 200
    rows: int = 32
    seed: int = 0


@register("ablation", NoSettings)
def measure_ablation(task: Task) -> Measured:
    """Accuracy by layer with its effects replaced (figures 3, 9, 10).

    Values: baseline (%); of the layer whose ablation hurts most: worst_layer, worst_depth (layer / layers of the
    model), loss (points), and what share of that loss each other replacement brings: large_fraction, small_fraction,
    rank_one_fraction. Shares are None where the loss is not significant (McNemar, p >= 0.05).
    """
    study = ablate(
        task.model,
        task.surveyed(),
        task.labelled(),
        templates=task.templates,
        limit=task.run.options.limit,
        out=task.folder,
        running=task.running,
    )
    facts = ablation.summary(study)
    files = task.write(study)
    notes = []
    if facts["surveyed_images"]:
        notes.append(f"The survey saw {facts['surveyed_images']} of the {facts['images']} evaluation images.")
    values: dict[str, float | list[str] | None] = {"baseline": percent(facts["layers"][0]["baseline"])}
    worst = max(facts["layers"], key=lambda layer: layer["baseline"] - layer["without_all"])
    loss = worst["baseline"] - worst["without_all"]
    significant = worst["differences"]["without_all"]["p_value"] < 0.05 and loss > 0
    values["worst_layer"] = float(worst["layer"]) if significant else None
    values["worst_depth"] = worst["layer"] / task.model.layers if significant else None
    values["loss"] = percent(loss)
    for name in ("large", "small"):
        values[f"{name}_fraction"] = (worst["baseline"] - worst[f"without_{name}"]) / loss if significant else None
    values["rank_one_fraction"] = (worst["baseline"] - worst["rank_one"]) / loss if significant else None
    if not significant:
        notes.append("No layer's ablation costs a significant part of the accuracy: nothing follows from shares of it.")
    rows = [
        [
            layer["layer"],
            *(f"{percent(layer[name]):.1f}" for name in VARIANTS),
            f"{percent(layer['large_fraction']):.1f}",
        ]
        for layer in facts["layers"]
    ]
    half = max(percent(high - low) / 2 for layer in facts["layers"] for low, high in layer["intervals"].values())
    title = f"Accuracy, %, over {facts['images']} images; 95 % intervals within +-{half:.1f}"
    return Measured(values, [(title, ["layer", *VARIANTS.values(), "large effects, %"], rows)], files, notes)


@register("table1", Table1Settings)
def measure_table1(task: Task) -> Measured:
    """Indirect beside second-order effects of the survey's last layer (table 1).

    Values, %: baseline, indirect_accuracy, second_order_accuracy, indirect_explained, second_order_explained; and in
    points, second-order beyond indirect: accuracy_gap (lost), explained_gap.
    """
    settings = task.settings
    atlas = task.surveyed()
    assert task.survey is not None
    study = study_table1(
        task.model,
        atlas,
        task.labelled(),
        task.survey,
        atlas.layers[-1],
        neurons=settings.neurons,
        templates=task.templates,
        limit=task.limit,
        rows=settings.rows,
        seed=settings.seed,
        running=task.running,
    )
    facts = indirect.summary(study)
    files = task.write(study)
    values: dict[str, float | list[str] | None] = {"baseline": percent(facts["baseline"]["accuracy"])}
    rows: list[list[Any]] = [["none", with_interval(facts["baseline"]), ""]]
    for row in facts["rows"]:
        name = row["effect"].replace("-", "_")
        values[f"{name}_accuracy"] = percent(row["accuracy"])
        values[f"{name}_explained"] = percent(row["explained_variance"]["mean"])
        rows.append([row["effect"], with_interval(row), f"{percent(row['explained_variance']['mean']):.1f}"])
    first, second = facts["rows"]
    paired = paired_difference(study.right["indirect"], study.right["second-order"])
    notes = [
        f"Accuracy, second-order less indirect, over the same images: {percent(paired.difference):.1f} points (95 % "
        f"{percent(paired.low):.1f} to {percent(paired.high):.1f}; McNemar p = {paired.p_value:.2g})."
    ]
    values["accuracy_gap"] = percent(first["accuracy"] - second["accuracy"])
    values["explained_gap"] = percent(second["explained_variance"]["mean"] - first["explained_variance"]["mean"])
    title = (
        f"Layer {facts['layer']}: {facts['images']} labelled images, {facts['neurons']} neurons, "
        f"{facts['reference_images']} reference images, {facts['top']} of them a neuron"
    )
    columns = ["effect at its mean", "accuracy, % (95 %)", "explained by the first component, %"]
    return Measured(values, [(title, columns, rows)], files, notes)


@register("first-order", NoSettings)
def measure_first_order(task: Task) -> Measured:
    """Direct contributions held at their means, from the last layer down (figures 11, 12).

    Values: baseline, attentions_held, mlps_held (%, all of them held); late_fraction: the fraction of the accuracy lost
    with all attention layers held that the later half of them costs; mlp_fraction: what all MLPs cost of it.
    """
    study = study_first_order(
        task.model,
        task.labelled(),
        templates=task.templates,
        limit=task.limit,
        running=task.running,
    )
    facts = first_order.summary(study)
    files = task.write(study)
    curves = {name: [step["accuracy"] for step in steps] for name, steps in facts["curves"].items()}
    base, attentions, mlps = facts["baseline"]["accuracy"], curves["attentions"], curves["MLPs"]
    lost = base - attentions[-1]
    values: dict[str, float | list[str] | None] = {
        "baseline": percent(base),
        "attentions_held": percent(attentions[-1]),
        "mlps_held": percent(mlps[-1]),
        "late_fraction": (base - attentions[len(attentions) // 2]) / lost if lost > 0 else None,
        "mlp_fraction": (base - mlps[-1]) / lost if lost > 0 else None,
    }
    steps = max(map(len, curves.values()))
    rows = [
        [held, *(f"{percent(curve[held]):.1f}" if held < len(curve) else "" for curve in curves.values())]
        for held in range(steps)
    ]
    title = f"Accuracy, %, over {facts['images']} images, with so many layers held, from the last down"
    return Measured(values, [(title, ["layers held", *curves], rows)], files)
