"""An evaluation in numbers: methods with intervals, and paired comparisons between them.

Each figure is a function of sums over images, which is what resampling needs (`numerics.intervals`). The reference
must be chosen before looking, or on other images: the best of many on the same images is flattered.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from secondlens.analysis.segmentation.evaluate import Evaluation
from secondlens.analysis.segmentation.metrics import BINS, Scores, class_ious, mean_iou, metrics, pixel_accuracy
from secondlens.disk.json_text import finite
from secondlens.errors import SecondLensError, closest
from secondlens.numerics.intervals import Statistic, bootstrap, holm, interval, resamples, sign_flip_test


@dataclass(frozen=True)
class Figure:
    """parts: what of each image is summed. statistic: the figure from the sums."""

    title: str
    parts: Callable[[Scores], np.ndarray]
    statistic: Statistic


def _with_count(values: Float[np.ndarray, " image"]) -> Float[np.ndarray, "image 2"]:
    defined = ~np.isnan(values)
    return np.stack([np.where(defined, values, 0), defined.astype(np.float64)], axis=1)


def _mean(sums: Float[np.ndarray, "draw 2"]) -> Float[np.ndarray, " draw"]:
    with np.errstate(invalid="ignore", divide="ignore"):
        return sums[:, 0] / sums[:, 1]


FIGURES = {
    "pixel_accuracy": Figure("pixel accuracy", lambda scores: scores.counts(), pixel_accuracy),
    "miou": Figure("mIoU", lambda scores: scores.counts(), mean_iou),
    "map": Figure("mAP", lambda scores: _with_count(scores.ap), _mean),
    "map_foreground": Figure("mAP, foreground", lambda scores: _with_count(scores.ap_foreground), _mean),
    "miou_at_mean": Figure("mIoU at the mean", lambda scores: scores.counts("mean"), mean_iou),
    "miou_per_image": Figure("mIoU per image", lambda scores: _with_count(mean_iou(scores.counts())), _mean),
}
"""The figures with intervals; the first three are the paper's."""

TESTED = ("pixel_accuracy", "miou", "map", "map_foreground", "miou_at_mean")


@dataclass(frozen=True)
class Difference:
    """Reference minus another method in one figure, its 95 % interval, p-value, and Holm's over the other methods."""

    metric: str
    other: str
    difference: float
    low: float
    high: float
    p_value: float
    p_holm: float


def with_intervals(scores: Mapping[str, Scores], seed: int = 0) -> dict[str, dict[str, float]]:
    """All metrics of every method, and NAME_low and NAME_high for those in `FIGURES`."""
    weights = _weights(scores, seed)
    found = {}
    for name, some in scores.items():
        values = metrics(some)
        for key, figure in FIGURES.items():
            low, high = interval(bootstrap(figure.parts(some), figure.statistic, weights))
            values |= {f"{key}_low": low, f"{key}_high": high}
        found[name] = values
    return found


def compare(scores: Mapping[str, Scores], reference: str, seed: int = 0) -> list[Difference]:
    """The reference against every other method in the tested figures, corrected over the other methods in each.

    Raises `SecondLensError` for an unknown reference.
    """
    if reference not in scores:
        raise SecondLensError(f"unknown reference method {reference!r}{closest(reference, scores)}")
    weights = _weights(scores, seed)
    others = [name for name in scores if name != reference]
    rows = []
    for key in TESTED:
        figure = FIGURES[key]
        mine = figure.parts(scores[reference])
        resampled = bootstrap(mine, figure.statistic, weights)
        tests = []
        for other in others:
            theirs = figure.parts(scores[other])
            spread = interval(resampled - bootstrap(theirs, figure.statistic, weights))
            tests.append((*sign_flip_test(mine, theirs, figure.statistic, seed=seed), *spread))
        for other, test, adjusted in zip(others, tests, holm([test[1] for test in tests]), strict=True):
            rows.append(Difference(key, other, test[0], test[2], test[3], test[1], adjusted))
    return rows


def _weights(scores: Mapping[str, Scores], seed: int) -> Float[np.ndarray, "draw image"]:
    positions = [found.positions for found in scores.values()]
    if any(not np.array_equal(positions[0], other) for other in positions):
        raise SecondLensError("expected the same images for every method, they differ")
    return resamples(len(positions[0]), seed=seed)


CLASSES = 50
"""Rows of the table by class, at most."""


def summary(evaluation: Evaluation, reference: str | None = None) -> dict[str, Any]:
    """methods: figures with intervals. compared: differences from a reference. by_class, curves. JSON, NaN as None.

    by_class: by the given names where there are some, else by the targets.
    """
    scores = evaluation.scores
    key = "name" if any(image["name"] is not None for image in evaluation.done.images) else "target"
    classes = {}
    for name, rows in list(evaluation.rows_of(key).items())[:CLASSES]:
        figures = {method: metrics(found.take(rows)) for method, found in scores.items()}
        kept = ("pixel_accuracy", "miou", "map")
        classes[name] = {"images": len(rows)} | {
            method: {figure: values[figure] for figure in kept} for method, values in figures.items()
        }
    curves = {}
    for method, found in scores.items():
        counts = found.curve_counts().sum(axis=0)
        foreground, background = class_ious(counts).T
        curves[method] = {
            "miou": mean_iou(counts).tolist(),
            "iou_foreground": foreground.tolist(),
            "iou_background": background.tolist(),
        }
    content = {
        "settings": evaluation.settings,
        "counted": evaluation.counted,
        "skipped": evaluation.skipped,
        "methods": with_intervals(scores),
        "reference": reference,
        "compared": [] if reference is None else [vars(row) for row in compare(scores, reference)],
        "class_key": key,
        "by_class": classes,
        "thresholds": [column / BINS for column in range(BINS)],
        "curves": curves,
        "metrics": {name: figure.title for name, figure in FIGURES.items()},
    }
    return finite(content)
