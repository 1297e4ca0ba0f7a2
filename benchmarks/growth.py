"""How time, memory and disk of a survey grow: measured on random weights, exponents fitted beside the counted ones.

Every size runs in a process of its own, on one thread; times are CPU seconds. The exponent is the slope on logarithmic
axes; the counted one is the slope of `growth_counts`'s formulas over the same sizes, so that what is still small there
weighs in both. The statistics alone (coefficients given, no model) go on to a million images.

    python -m benchmarks.growth             about ten minutes on two cores; draws docs/images/growth.png
    python -m benchmarks.growth --quick     small, to see that it runs
"""

import argparse
import multiprocessing
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.growth_cases import SparseCase, SurveyCase, measured, statistics_alone
from benchmarks.growth_counts import (
    slope,
    sparse_memory,
    sparse_multiplications,
    survey_disk,
    survey_memory,
    survey_multiplications,
)
from benchmarks.growth_picture import draw
from benchmarks.report import FOLDER, record

PICTURE = FOLDER.parent / "docs" / "images" / "growth.png"
Case = SurveyCase | SparseCase


@dataclass(frozen=True)
class Series:
    """What grows, over which sizes, of which case. order: what theory says of time, memory and disk in the limit."""

    title: str
    field: str
    sizes: tuple[int, ...]
    base: Case
    order: dict[str, str]


SERIES = (
    Series("images", "images", (1000, 2000, 4000, 8000, 16000), SurveyCase(),
           {"time": "N", "memory": "1", "disk": "N"}),
    Series("images, thumbnails kept", "images", (1000, 2000, 4000, 8000), SurveyCase(thumbnails=True),
           {"time": "N", "memory": "N", "disk": "N"}),
    Series("layers surveyed", "layers", (1, 2, 4, 8), SurveyCase(images=600, depth=17, width=64, heads=8, top=40),
           {"time": "L", "memory": "L", "disk": "L"}),
    Series("width, neurons", "width", (64, 128, 256, 512), SurveyCase(images=300, depth=4, layers=3, heads=8, top=40),
           {"time": "w^2 N + w^3", "memory": "w + w^2", "disk": "w^2"}),
    Series("top images kept", "top", (25, 50, 100, 200), SurveyCase(images=1600, layers=3, width=256, heads=8),
           {"time": "1 (N > C)", "memory": "top", "disk": "top"}),
    Series("texts of a pool", "texts", (2000, 4000, 8000, 16000, 32000), SparseCase(signals=256),
           {"time": "P", "memory": "P"}),
    Series("texts a neuron, m", "nonzero", (8, 16, 32, 64, 128), SparseCase(),
           {"time": "m P + m^2/2", "memory": "m"}),
)  # fmt: skip
POINTS = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)


def in_its_own(work: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a fresh process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def counted(case: Case) -> dict[str, float]:
    if isinstance(case, SparseCase):
        return {"time": sparse_multiplications(case), "memory": sparse_memory(case)}
    return {
        "time": sum(survey_multiplications(case).values()),
        "memory": survey_memory(case),
        "disk": survey_disk(case),
    }


def grow(series: Series, repeats: int) -> dict[str, Any]:
    """All sizes of a series: measured (the least CPU seconds of some repeats), counted, and both exponents."""
    cases = [replace(series.base, **{series.field: size}) for size in series.sizes]
    found: dict[str, list[float]] = {"time": [], "memory": [], "disk": []}
    for size, case in zip(series.sizes, cases, strict=True):
        runs = [in_its_own(measured, case) for _ in range(repeats)]
        print(f"{series.title} {size}: {runs}", file=sys.stderr, flush=True)
        found["time"].append(min(run["cpu_seconds"] for run in runs))
        found["memory"].append(min(run["memory"] for run in runs))
        if "disk" in runs[0]:
            found["disk"].append(runs[0]["disk"])
    theory = [counted(case) for case in cases]
    fits = {}
    for name in series.order:
        exponent, error = slope(list(series.sizes), found[name])
        fits[name] = {
            "measured": [round(value, 4) for value in found[name]],
            "exponent": round(exponent, 3),
            "standard_error": round(error, 3),
            "counted_exponent": round(slope(list(series.sizes), [some[name] for some in theory])[0], 3),
            "order": series.order[name],
        }
    return {"title": series.title, "sizes": list(series.sizes), "case": asdict(series.base), "fits": fits}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--picture", type=Path, help="where to draw; default: docs/images, with --quick nowhere")
    arguments = parser.parse_args()
    series, points = SERIES, POINTS
    if arguments.quick:
        series = tuple(
            replace(some, sizes=some.sizes[:2], base=replace(some.base, images=200, **_shorter(some)))
            if isinstance(some.base, SurveyCase) and some.field != "images"
            else replace(some, sizes=tuple(size // 5 for size in some.sizes[:2]))
            for some in SERIES
            if some.field != "nonzero"
        )
        points = POINTS[:3]
    figures = {
        "series": [grow(some, arguments.repeats) for some in series],
        "statistics": in_its_own(statistics_alone, points),
    }
    record("growth", figures, places=("--picture",))
    picture = arguments.picture or (None if arguments.quick else PICTURE)
    if picture is not None:
        draw(figures, picture)


def _shorter(series: Series) -> dict[str, int]:
    return {"top": 10} if series.field != "top" else {}


if __name__ == "__main__":
    main()
