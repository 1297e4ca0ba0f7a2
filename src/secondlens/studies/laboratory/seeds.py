"""The paper's studies and the laboratory's figures over several seeds of scenes, with confidence intervals.

Per seed: scenes to survey (biased) and labelled scenes (unbiased, one object) are drawn anew; then survey, words,
ablations, the two kinds of effects of table 1, first-order effects, selectivity, agreement and planted cues. The model
stays. So the intervals say how far a figure depends on which scenes were drawn: mean +- t * s / sqrt(seeds), 95 %.

A seed's folder keeps its scenes, its atlas and its figures: finished seeds are not measured again.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student

import secondlens
from secondlens.atlas.store import Atlas
from secondlens.atlas.surveyed import surveyed_images
from secondlens.data.labelled import LabelledImages, open_labelled
from secondlens.descriptions import describe
from secondlens.descriptions.pools import open_pool
from secondlens.disk.files import make_folder, write_text
from secondlens.disk.json_text import json_text
from secondlens.errors import WorldError
from secondlens.lens.model import LensModel
from secondlens.progress import Progress, Running
from secondlens.studies import ablation, first_order, indirect
from secondlens.studies.ablation import ablate
from secondlens.studies.first_order import study_first_order
from secondlens.studies.indirect import study_table1
from secondlens.studies.laboratory.run import laboratory
from secondlens.studies.laboratory.run import summary as laboratory_summary
from secondlens.studies.selectivity import distribution, neuron_figures
from secondlens.surveys.checkpoint import require_same
from secondlens.surveys.run import survey
from secondlens.world.biases import Biases
from secondlens.world.dataset import SCENES, write_dataset
from secondlens.world.sampler import scene_at

FIGURES, SUMMARY = "metrics.json", "seeds.json"
FIRST_SEED = 85_000
"""Of the series of scenes; a seed takes the next three."""


@dataclass(frozen=True)
class SeedSettings:
    """scenes: surveyed. labelled: scenes of the accuracies. labels: properties of a class. top: share of the surveyed
    scenes kept a neuron. texts: a description's. neurons: of table 1's sample. truth: scenes of the laboratory.
    """

    scenes: int = 2000
    labelled: int = 1000
    labels: tuple[str, ...] = ("colour", "texture", "noun")
    top: float = 0.02
    texts: int = 8
    neurons: int = 48
    truth: int = 1000
    biases: str | None = None


def study_seeds(
    model: LensModel,
    out: Path,
    seeds: int = 5,
    settings: SeedSettings | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure every seed, and write and return the summary: by layer and figure, mean, low, high and the values.

    Raises `WorldError` for fewer than two seeds, `SurveyError` where the folder holds seeds of other settings.
    """
    settings = settings or SeedSettings()
    if seeds < 2:
        raise WorldError(f"expected two seeds or more for an interval, got {seeds}")
    found = []
    for seed in range(seeds):
        if progress is not None:
            progress("seeds", seed, seeds)
        found.append(_seed(model, out / f"seed-{seed:02d}", seed, settings, progress))
    if progress is not None:
        progress("seeds", seeds, seeds)
    layers = {row["layer"] for one in found for row in one["layers"]}
    facts = {
        "seeds": seeds,
        "settings": asdict(settings),
        "layers": [{"layer": layer, **intervals([_of_layer(one, layer) for one in found])} for layer in sorted(layers)],
        "whole": intervals([one["whole"] for one in found]),
    }
    write_text(out / SUMMARY, json_text(facts, 2))
    return facts


def intervals(rows: Sequence[dict[str, float]]) -> dict[str, dict[str, Any]]:
    """By figure: mean over seeds, 95 % interval by Student's t, and the values; figures that a seed lacks are left
    out.
    """
    found = {}
    for name in rows[0]:
        values = np.array([row.get(name, np.nan) for row in rows], dtype=float)
        if np.isnan(values).any():
            continue
        half = float(student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
        mean = float(values.mean())
        found[name] = {"mean": mean, "low": mean - half, "high": mean + half, "values": values.tolist()}
    return found


def _of_layer(figures: dict[str, Any], layer: int) -> dict[str, float]:
    return next({**row, "layer": np.nan} for row in figures["layers"] if row["layer"] == layer)


def _seed(
    model: LensModel, folder: Path, seed: int, settings: SeedSettings, progress: Progress | None
) -> dict[str, Any]:
    identity = json.loads(
        json.dumps({"weights": model.weights_hash, "secondlens": secondlens.__version__, **asdict(settings)})
    )
    if (folder / FIGURES).is_file():
        kept = json.loads((folder / FIGURES).read_text(encoding="utf-8"))
        require_same(kept["settings"], identity, f"{folder} holds a seed of other settings")
        return dict(kept["metrics"])
    make_folder(folder)
    biases = Biases.load(settings.biases)
    first = FIRST_SEED + 3 * seed
    scenes, labelled = folder / "scenes", folder / "labelled"
    if not (scenes / SCENES).is_file():
        drawn = (scene_at(first, index, biases) for index in range(settings.scenes))
        write_dataset(scenes, drawn, masks=False)
    if not (labelled / SCENES).is_file():
        drawn = (scene_at(first + 1, index, biases, objects=1, kind="unbiased") for index in range(settings.labelled))
        write_dataset(labelled, drawn, masks=False, labels=[settings.labels])
    atlas = survey(
        model, scenes / "images", folder / "atlas", top=max(2, round(settings.top * settings.scenes)), batch_size=64
    )
    name = "-".join(settings.labels)
    classes = (labelled / f"classes-{name}.txt").read_text(encoding="utf-8").splitlines()
    images = open_labelled(labelled / f"labels-{name}.csv", model, classes)
    figures = _measure(model, atlas, images, first + 2, settings, biases, progress)
    write_text(folder / FIGURES, json_text({"settings": identity, "metrics": figures}, 2))
    return figures


def _measure(
    model: LensModel,
    atlas: Atlas,
    images: LabelledImages,
    seed: int,
    settings: SeedSettings,
    biases: Biases,
    progress: Progress | None,
) -> dict[str, Any]:
    pool = open_pool("world-single", model)
    described = describe(atlas, pool, settings.texts, null_draws=100)
    study = ablation.summary(
        ablate(model, atlas, images, described=[(described, pool)], sizes=(settings.texts,), running=Running(64))
    )
    lab = laboratory_summary(
        laboratory(
            model, atlas, described, scenes=settings.truth, shown_each=1, biases=biases, seed=seed, progress=progress
        )
    )
    rows = []
    for accuracies, truth in zip(study["layers"], lab["layers"], strict=True):
        index = accuracies["layer"]
        row = {"layer": index, **_accuracies(accuracies)}
        for figure, values in neuron_figures(atlas.layer(index)).items():
            row[f"median {figure}"] = distribution(values)["q50"]
        figures = described.figures(index)
        row["description cosine"] = float(figures["cosines"][:, -1].median())
        row["described better than random"] = float((figures["p_isotropic"][:, -1] < 0.05).float().mean())
        row["median best auc"] = truth["best_auc"]["q50"]
        for reading in ("words", "cosine"):
            for figure, value in truth[reading].items():
                row[f"{reading} {figure}"] = value["observed"]
                row[f"{reading} {figure}, chance"] = value["chance"]
        rows.append(row)
    worst = min(rows, key=lambda row: row["without_all"])["layer"]
    return {"layers": rows, "whole": _whole(model, atlas, images, worst, settings, lab)}


def _accuracies(layer: dict[str, Any]) -> dict[str, float]:
    row = {name: layer[name] for name in layer["intervals"]}
    lost = row["baseline"] - row["without_all"]
    row |= {"lost": lost, "lost with rank one": row["baseline"] - row["rank_one"]}
    # A share of nothing says nothing.
    row["kept by large effects"] = (row["without_small"] - row["without_all"]) / lost if lost > 0.01 else float("nan")
    row["fraction of large effects"] = layer["large_fraction"]
    return row


def _whole(
    model: LensModel, atlas: Atlas, images: LabelledImages, layer: int, settings: SeedSettings, lab: dict[str, Any]
) -> dict[str, float]:
    table = indirect.summary(
        study_table1(model, atlas, images, surveyed_images(atlas), layer, neurons=settings.neurons, limit=500)
    )
    first = first_order.summary(study_first_order(model, images, limit=500))
    whole = {"layer that matters most": float(layer), "table 1 baseline": table["baseline"]["accuracy"]}
    for row in table["rows"]:
        whole[f"table 1 {row['effect']}"] = row["accuracy"]
        whole[f"table 1 {row['effect']}, explained"] = row["explained_variance"]["mean"]
    for name, steps in first["curves"].items():
        whole[f"first order, all {name} held"] = steps[-1]["accuracy"]
    for scoring, groups in lab["cues"].items():
        for size in (1, 5):
            whole[f"planted cues, {scoring}, first {size}"] = groups["all"][f"recall@{size}"]
            whole[f"planted cues, {scoring}, first {size}, chance"] = groups["all"][f"chance@{size}"]
    return whole
