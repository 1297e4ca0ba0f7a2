"""Rates, intervals and tests of methods, by hand."""

import itertools
import math

import numpy as np
import pytest

from secondlens.analysis.attack.folder import Cell
from secondlens.analysis.attack.results import sign_flip, summarise
from secondlens.viewer.reports.attack import cues_marked


def rows_of(counts: dict[Cell, int], pictures: int, discarded: int = 0) -> list[dict[str, object]]:
    return [
        {**cell.facts(), "valid": place >= discarded, "fooled": place < fooled, "fooled_among_all": False}
        for cell, fooled in counts.items()
        for place in range(pictures)
    ]


def test_rates_and_counts() -> None:
    cells = [Cell("a", "b", method, repeat) for method in ("second-order", "random") for repeat in (1, 2, 3)]
    counts = dict(zip(cells, (4, 6, 8, 2, 2, 2), strict=True))
    found = summarise(rows_of(counts, 10, discarded=1), cells, 10)
    ours, other = found["methods"]
    # The discarded picture is one of those that fooled: it does not count.
    assert ours["repeats"] == [0.3, 0.5, 0.7]
    assert ours["success"] == pytest.approx(0.5)
    assert ours["std"] == pytest.approx(np.std([0.3, 0.5, 0.7]))
    # t with 2 degrees of freedom: 4.3027.
    assert ours["high"] - ours["success"] == pytest.approx(4.302653 * 0.2 / math.sqrt(3), rel=1e-5)
    assert (ours["images"], ours["valid"], ours["discarded"], ours["fooled"]) == (30, 27, 3, 15)
    assert ours["fooled_of_valid"] == pytest.approx(15 / 27)
    (test,) = found["tests"]
    assert (test["method"], test["baseline"]) == ("second-order", "random")
    assert test["ratio"] == pytest.approx(5.0)
    assert test["p_cells"] == pytest.approx(1 / 8)
    assert test["p_pairs"] == pytest.approx(1 / 2)
    assert test["ratio_low"] >= 3.0 - 1e-9
    assert (other["low"], other["high"]) == pytest.approx((0.1, 0.1))
    assert summarise(rows_of(counts, 10), cells, 10, "fooled_among_all")["methods"][0]["success"] == 0


def test_pictures_that_were_not_made_count_as_failures() -> None:
    cells = [Cell("a", "b", "second-order", 1)]
    found = summarise(rows_of({cells[0]: 5}, 5), cells, 10)["methods"][0]
    assert found["success"] == 0.5
    assert found["std"] is None


def test_sign_flips_are_all_patterns() -> None:
    differences = np.array([0.3, -0.1, 0.2, 0.05])
    sums = [np.dot(signs, differences) for signs in itertools.product((1, -1), repeat=4)]
    assert sign_flip(differences) == np.mean([value >= differences.sum() - 1e-9 for value in sums])
    many = np.full(20, 0.1)
    assert sign_flip(many) < 1e-4
    assert sign_flip(np.zeros(5)) == 1


def test_cues_are_bold() -> None:
    found = cues_marked("a <red> dog on Snow, reds", ["red", "snow, ice"])
    assert "".join(text for text, _ in found) == "a <red> dog on Snow, reds"
    assert [text for text, style in found if style == "strong"] == ["red", "Snow", "reds"]
    assert cues_marked("a dog", []) == (("a dog", ""),)
