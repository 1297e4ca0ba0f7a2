"""Pixel accuracy, mean IoU and average precision of heat maps against masks.

A heat map is brought to [0, 1] by its minimum and maximum, h = (m - min m) / (max m - min m). With "h > t" as the
prediction, and over the pixels that are not void:

    pixel accuracy = (TP + TN) / labelled pixels
    IoU of the foreground = TP / (TP + FP + FN),    of the background = TN / (TN + FN + FP)
    mean IoU = their mean

each summed over the images first, as the ImageNet-Segmentation harness does ("data set"), or an image at a time and
then averaged ("per image"). Average precision has no threshold; it is taken an image at a time and averaged:

    map             over both classes: the scores h for the foreground and 1 - h for the background, 2 x pixels in all,
                    as in that harness and in the tables of the papers that use it
    map_foreground  of h against the foreground alone, scikit-learn's average precision of the mask

An image is kept as two histograms of h, 65 numbers each, from which the counts at 64 thresholds follow exactly: every
figure of an evaluation, its intervals and its tests come from these, and no map is stored.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from secondlens.errors import SecondLensError

BINS = 64
"""Thresholds 0, 1/64, ..., 63/64: powers of two, so that h * 64 is exact and no pixel is in the wrong bin."""

RELEASED = BINS // 2
"""The column of the threshold 0.5."""

Rule = Literal["half", "mean", "best"]
"""Thresholds: 0.5 (the paper's released code); each map's own mean (the older harness); the best one for the whole set,
chosen with the masks, so an upper bound.
"""


@dataclass(frozen=True)
class Scores:
    """What is kept of images, one row an image; `merge` joins parts.

    foreground, background: pixels of each class by ceil(64 h). above_mean: of each class, those above the map's mean.
    ap, ap_foreground: average precisions; NaN where there is no such class. constant: a map without any contrast.
    """

    positions: Int[np.ndarray, " image"]
    foreground: Int[np.ndarray, "image bin"]
    background: Int[np.ndarray, "image bin"]
    above_mean: Int[np.ndarray, "image 2"]
    ap: Float[np.ndarray, " image"]
    ap_foreground: Float[np.ndarray, " image"]
    constant: Bool[np.ndarray, " image"]

    @classmethod
    def empty(cls) -> "Scores":
        """No image."""
        histogram = np.zeros((0, BINS + 1), np.int64)
        none = np.zeros(0)
        return cls(
            np.zeros(0, np.int64), histogram, histogram, np.zeros((0, 2), np.int64), none, none, np.zeros(0, bool)
        )

    @classmethod
    def merge(cls, parts: Sequence["Scores"]) -> "Scores":
        """All images of the parts, by position: the result does not depend on their order.

        Raises `SecondLensError` for an image that is in two of them.
        """
        joined = {field.name: np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)}
        order = np.argsort(joined["positions"], kind="stable")
        if len(np.unique(joined["positions"])) < len(order):
            raise SecondLensError("expected every image once, some are in several parts; remove the repeated parts")
        return cls(**{name: values[order] for name, values in joined.items()})

    def __len__(self) -> int:
        return len(self.positions)

    def take(self, rows: Shaped[np.ndarray, " row"]) -> "Scores":
        """Some images: their rows, or a mask of rows."""
        return Scores(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def counts(self, rule: Rule = "half") -> Int[np.ndarray, "image 4"]:
        """TP, FP, FN, TN of each image at a threshold."""
        if rule == "mean":
            true, false = self.above_mean.T
        else:
            column = RELEASED if rule == "half" else self.best_column()
            true, false = (side[:, column + 1 :].sum(axis=1) for side in (self.foreground, self.background))
        return np.stack([true, false, self.foreground.sum(axis=1) - true, self.background.sum(axis=1) - false], axis=1)

    def best_column(self) -> int:
        """The threshold (in 64ths) with the largest mean IoU of the data set."""
        curve = mean_iou(self.curve_counts().sum(axis=0))
        return int(np.argmax(np.nan_to_num(curve, nan=-1)))

    def curve_counts(self) -> Int[np.ndarray, "image threshold 4"]:
        """TP, FP, FN, TN at all thresholds k / 64."""
        true, false = (side[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:] for side in (self.foreground, self.background))
        positive, negative = (side.sum(axis=1, keepdims=True) for side in (self.foreground, self.background))
        return np.stack([true, false, positive - true, negative - false], axis=2)


def score_map(
    position: int, heat: Float[np.ndarray, "row column"], mask: Bool[np.ndarray, "y x"], valid: Bool[np.ndarray, "y x"]
) -> Scores:
    """One image's row. mask: the foreground. valid: False for void pixels, which count nowhere.

    A constant map says nothing: h = 0 everywhere. Raises `SecondLensError` for maps of another shape, NaN or infinity.
    """
    if heat.shape != mask.shape or heat.shape != valid.shape:
        raise SecondLensError(f"expected a map of the mask's size {mask.shape}, got {heat.shape}")
    if not np.isfinite(heat).all():
        raise SecondLensError("expected a finite heat map, got NaN or infinity")
    scaled = unit_range(heat)
    values, truth = scaled[valid], mask[valid]
    bins = np.ceil(values * BINS).astype(np.int64)
    split = [np.bincount(bins[side], minlength=BINS + 1) for side in (truth, ~truth)]
    # The mean is of the whole map, as there, void pixels or not.
    above = values > scaled.mean(dtype=np.float64)
    return Scores(
        positions=np.array([position]),
        foreground=split[0][None],
        background=split[1][None],
        above_mean=np.array([[np.count_nonzero(above & truth), np.count_nonzero(above & ~truth)]]),
        ap=np.array([average_precision(np.concatenate([values, 1 - values]), np.concatenate([truth, ~truth]))]),
        ap_foreground=np.array([average_precision(values, truth)]),
        constant=np.array([not scaled.any()]),
    )


def unit_range(heat: Float[np.ndarray, "y x"]) -> Float[np.ndarray, "y x"]:
    """(m - min) / (max - min) in float32; zero for a constant map."""
    low, high = float(heat.min()), float(heat.max())
    if high <= low:
        return np.zeros(heat.shape, np.float32)
    return ((heat - low) / (high - low)).astype(np.float32)


def average_precision(scores: Float[np.ndarray, " item"], truth: Bool[np.ndarray, " item"]) -> float:
    """sum_n (R_n - R_{n-1}) P_n over the distinct scores, descending; NaN where nothing is true."""
    positives = np.count_nonzero(truth)
    if not positives:
        return float("nan")
    order = np.argsort(scores)[::-1]
    ranked = scores[order]
    last = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
    true = np.cumsum(truth[order])[last]
    precision = true / (last + 1)
    return float(np.sum(np.diff(true, prepend=0) * precision) / positives)


def pixel_accuracy(counts: Shaped[np.ndarray, "*set 4"]) -> Float[np.ndarray, "*set"]:
    """(TP + TN) / all; NaN without pixels."""
    with np.errstate(invalid="ignore"):
        return np.asarray((counts[..., 0] + counts[..., 3]) / counts.sum(axis=-1))


def class_ious(counts: Shaped[np.ndarray, "*set 4"]) -> Float[np.ndarray, "*set 2"]:
    """IoU of the foreground and of the background; NaN for a class that is neither there nor predicted."""
    wrong = counts[..., 1] + counts[..., 2]
    with np.errstate(invalid="ignore"):
        return np.stack([counts[..., 0] / (counts[..., 0] + wrong), counts[..., 3] / (counts[..., 3] + wrong)], axis=-1)


def mean_iou(counts: Shaped[np.ndarray, "*set 4"]) -> Float[np.ndarray, "*set"]:
    """Mean of the two IoUs, of the one that is defined where the other is not."""
    both = class_ious(counts)
    defined = ~np.isnan(both)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(defined, both, 0).sum(axis=-1) / defined.sum(axis=-1))


def mean_of(values: Float[np.ndarray, " image"]) -> float:
    """The mean over the images that have the figure; NaN where none has."""
    return float(np.nanmean(values)) if (~np.isnan(values)).any() else float("nan")


def metrics(scores: Scores) -> dict[str, float]:
    """All figures of a set of images, by name; in [0, 1], NaN where undefined."""
    found: dict[str, float] = {}
    endings: dict[Rule, str] = {"half": "", "mean": "_at_mean", "best": "_best"}
    for rule, ending in endings.items():
        counts = scores.counts(rule)
        total = counts.sum(axis=0)
        found[f"pixel_accuracy{ending}"] = float(pixel_accuracy(total))
        found[f"miou{ending}"] = float(mean_iou(total))
        if rule == "half":
            found["miou_per_image"] = mean_of(mean_iou(counts))
    found["threshold_best"] = scores.best_column() / BINS
    found["map"] = mean_of(scores.ap)
    found["map_foreground"] = mean_of(scores.ap_foreground)
    found["constant_maps"] = int(np.count_nonzero(scores.constant))
    return found
