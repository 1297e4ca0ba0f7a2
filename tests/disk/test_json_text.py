"""What is printed and written as JSON is JSON: strict readers refuse NaN and Infinity."""

import json
import math
from typing import Any

import numpy as np
import pytest

from secondlens.analysis.audit.matrix import PairMatrix
from secondlens.cli.output import print_json
from secondlens.disk.json_text import finite, json_text


def strict(text: str) -> Any:
    def refuse(name: str) -> None:
        raise ValueError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_undefined_is_null_at_any_depth():
    content = {"a": math.nan, "b": [1.5, (math.inf, "Grüße")], "c": {"d": [np.float64("-inf"), None, True, 3]}}
    assert strict(json_text(content)) == {"a": None, "b": [1.5, [None, "Grüße"]], "c": {"d": [None, None, True, 3]}}
    assert math.isnan(content["a"]), "the content itself is left as it was"


def test_finite_content_is_left_alone():
    content = {"a": [1, 2.5, "NaN"], "b": {"c": True, "d": None}}
    assert finite(content) == content
    assert json_text(content) == json.dumps(content)


def test_a_pair_without_a_value_prints_as_null(capsys: pytest.CaptureFixture[str]):
    # Of a class without images of its own nothing is known: `audit matrix --scoring images` has NaN there.
    values = np.array([[np.nan, 0.5], [np.nan, np.nan]])
    found = PairMatrix(["dog", "deer"], values, {(0, 1): [("grass", 0.2)], (1, 0): []})
    print_json({"pairs": found.ranked()})
    pairs = strict(capsys.readouterr().out)["pairs"]
    assert [pair["exploitability"] for pair in pairs] == [0.5, None]
