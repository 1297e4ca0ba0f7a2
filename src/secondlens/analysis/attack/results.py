"""Success of every method: rates with intervals over repeats, and paired tests against each baseline.

A picture succeeds where the judge finds it valid (it shows the shown class and not the predicted one) and the model
takes it for the predicted class. Rates are of the pictures ordered, as in the paper's table: what is discarded counts
against a method. Cells are one pair, method and repeat.

    interval        mean +- t s / sqrt(repeats), Student's t with repeats - 1 degrees of freedom, s over repeats
    p, cells        sign-flip test of the mean difference over cells (pair and repeat), one-sided; exact up to 16
    p, pairs        the same over pairs (repeats averaged): repeats of one pair are no independent evidence
    ratio           mean rate over the baseline's; its interval by resampling pairs, then repeats within them
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from secondlens.analysis.attack.folder import Cell
from secondlens.analysis.attack.settings import OURS

FLIPS = 1 << 16
RESAMPLES = 2000
KINDS = ("fooled", "fooled_among_all")


def join(
    images: Sequence[Mapping[str, Any]],
    predictions: Mapping[str, Mapping[str, Any]],
    judgements: Mapping[str, Mapping[str, Mapping[str, Any]]],
    judge: str,
) -> list[dict[str, Any]]:
    """A row a picture: its line, the prediction, `valid` by the chosen judge, and every judge's as `judgements`."""
    return [
        {
            **{name: line[name] for name in ("name", *Cell._fields, "prompt", "cues", "seed")},
            **{name: value for name, value in predictions[line["name"]].items() if name != "prompt"},
            "valid": judgements[judge].get(line["name"], {}).get("valid"),
            "judgements": {name: lines.get(line["name"], {}).get("valid") for name, lines in judgements.items()},
        }
        for line in images
    ]


def summarise(
    rows: Sequence[Mapping[str, Any]], cells: Sequence[Cell], pictures: int, kind: str = "fooled"
) -> dict[str, Any]:
    """Rates by pair and method, methods over all pairs, and tests. pictures: ordered a cell. kind: of `KINDS`."""
    by_cell: dict[Cell, list[Mapping[str, Any]]] = {cell: [] for cell in cells}
    for row in rows:
        by_cell[Cell.of(row)].append(row)
    rates = {cell: sum(row["valid"] is True and row[kind] for row in mine) / pictures for cell, mine in by_cell.items()}
    methods = list(dict.fromkeys(cell.method for cell in cells))
    pairs = list(dict.fromkeys((cell.source_class, cell.target_class) for cell in cells))
    repeats = sorted({cell.repeat for cell in cells})
    # [method, pair, repeat]
    cube = np.array(
        [[[rates[Cell(*pair, method, repeat)] for repeat in repeats] for pair in pairs] for method in methods]
    )
    table = []
    for place, (shown, predicted) in enumerate(pairs):
        for index, method in enumerate(methods):
            mine = [row for repeat in repeats for row in by_cell[Cell(shown, predicted, method, repeat)]]
            table.append(
                {
                    "source_class": shown,
                    "target_class": predicted,
                    "method": method,
                    **_rate(cube[index, place]),
                    **_counts(mine, kind),
                }
            )
    overall = [
        {
            "method": method,
            **_rate(cube[index].mean(axis=0)),
            **_counts([row for row in rows if row["method"] == method], kind),
        }
        for index, method in enumerate(methods)
    ]
    return {
        "kind": kind,
        "pairs": table,
        "methods": overall,
        "tests": [
            {"method": ours, "baseline": other, **_compare(cube[methods.index(ours)], cube[methods.index(other)])}
            for ours in methods
            if ours in OURS
            for other in methods
            if other not in OURS
        ],
    }


def _rate(values: np.ndarray) -> dict[str, Any]:
    """Of one value a repeat."""
    from scipy.stats import t

    count, mean = len(values), float(values.mean())
    if count < 2:
        return {"success": mean, "std": None, "low": None, "high": None, "repeats": values.tolist()}
    # The paper's +- is the standard deviation of the three, taken as a population.
    spread = float(values.std(ddof=1)) / count**0.5 * float(t.ppf(0.975, count - 1))
    return {
        "success": mean,
        "std": float(values.std()),
        "low": max(0.0, mean - spread),
        "high": min(1.0, mean + spread),
        "repeats": values.tolist(),
    }


def _counts(rows: Sequence[Mapping[str, Any]], kind: str) -> dict[str, Any]:
    """Pictures made, valid, discarded and undecided; fooled among the valid ones, and that share."""
    valid = sum(row["valid"] is True for row in rows)
    fooled = sum(row["valid"] is True and row[kind] for row in rows)
    return {
        "images": len(rows),
        "valid": valid,
        "discarded": sum(row["valid"] is False for row in rows),
        "undecided": sum(row["valid"] is None for row in rows),
        "fooled": fooled,
        "fooled_of_valid": fooled / valid if valid else None,
    }


def _compare(ours: np.ndarray, other: np.ndarray) -> dict[str, Any]:
    """Of two [pair, repeat] arrays of rates."""
    difference = ours - other
    base = float(other.mean())
    rng = np.random.default_rng(0)
    pairs = rng.integers(len(ours), size=(RESAMPLES, len(ours)))
    repeats = rng.integers(ours.shape[1], size=(RESAMPLES, len(ours), ours.shape[1]))
    first, second = (values[pairs[:, :, None], repeats].mean(axis=(1, 2)) for values in (ours, other))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(second > 0, first / second, np.where(first > 0, np.inf, 1.0))
    low, high = np.quantile(ratios, [0.025, 0.975], method="nearest")
    return {
        "difference": float(difference.mean()),
        "ratio": float(ours.mean()) / base if base else None,
        "ratio_low": _finite(low),
        "ratio_high": _finite(high),
        "p_cells": sign_flip(difference.ravel()),
        "p_pairs": sign_flip(difference.mean(axis=1)),
    }


def _finite(value: float) -> float | None:
    """None for infinity, which JSON lacks."""
    return float(value) if np.isfinite(value) else None


def sign_flip(differences: np.ndarray, seed: int = 0) -> float:
    """One-sided p of a mean difference above zero: the share of sign patterns with a sum at least as large.

    Exact for 16 differences or fewer, else from `FLIPS` random patterns and the observed one.
    """
    count = len(differences)
    observed = differences.sum() - 1e-12
    if count <= 16:
        signs = 1 - 2 * ((np.arange(1 << count)[:, None] >> np.arange(count)) & 1)
        return float((signs @ differences >= observed).mean())
    signs = np.random.default_rng(seed).choice([-1, 1], size=(FLIPS, count))
    return float((1 + (signs @ differences >= observed).sum()) / (1 + FLIPS))
