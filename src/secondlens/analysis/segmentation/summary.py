"""An evaluation as one JSON object: what the command prints and the report is made of."""

from typing import Any

from secondlens.analysis.segmentation.comparison import FIGURES, compare, with_intervals
from secondlens.analysis.segmentation.evaluate import Evaluation
from secondlens.analysis.segmentation.metrics import BINS, class_ious, mean_iou, metrics
from secondlens.disk.json_text import finite

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
