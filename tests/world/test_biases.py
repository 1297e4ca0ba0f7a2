"""The table of biases: its contents, its cues, and its complaints."""

import json
from pathlib import Path

import pytest

from secondlens.errors import WorldError
from secondlens.world import Biases
from secondlens.world.biases import KINDS
from secondlens.world.vocabulary import NOUNS

TABLE = Biases.load()


def test_the_table_plants_enough_strong_cues() -> None:
    strong = {
        kind: [noun for noun in NOUNS if any(p >= 0.6 for p in TABLE.named(noun, kind).values())] for kind in KINDS
    }
    assert len(strong["background"]) >= 12
    assert len({*strong["companion"], *strong["colour"], *strong["texture"]}) >= 8
    assert [noun for noun in NOUNS if not TABLE.planted(noun)] == ["elephant"]


@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_are_named_ones_and_an_even_rest(kind: str) -> None:
    for noun in NOUNS:
        chances = TABLE.probabilities(noun, kind)
        assert sum(chances.values()) == pytest.approx(1)
        named = TABLE.named(noun, kind)
        assert {value: chances[value] for value in named} == dict(named)
        assert len({round(p, 12) for value, p in chances.items() if value not in named}) == 1
    assert "dog" not in TABLE.probabilities("dog", "companion")


def test_planted_cues_are_those_of_the_predicted_noun_alone() -> None:
    words = [(cue.kind, cue.word) for cue in TABLE.planted_cues("car", "boat")]
    assert words == [("companion", "lighthouse"), ("background", "sea")]
    # Fish and boat share the sea, so it cannot tell them apart.
    assert ("background", "sea") not in [(cue.kind, cue.word) for cue in TABLE.planted_cues("fish", "boat")]
    assert [cue.word for cue in TABLE.planted_cues("rabbit", "carrot")] == []
    cue = TABLE.planted("boat", "background")[0]
    assert (cue.probability, cue.lift) == (0.948, pytest.approx(0.948 * 8))
    with pytest.raises(WorldError, match="unknown noun"):
        TABLE.planted_cues("car", "yacht")


def test_a_weak_bias_is_no_cue() -> None:
    weak = Biases("weak", {"boat": {"background": {"sea": 0.2, "room": 0.0}}})
    assert weak.planted("boat") == []
    assert weak.probabilities("boat", "background")["room"] == 0


def test_a_table_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    path.write_text(TABLE.to_json(), encoding="utf-8")
    assert Biases.load(path) == TABLE
    assert Biases.none().planted("boat") == []


@pytest.mark.parametrize(
    ("nouns", "message"),
    [
        ({"boot": {}}, "unknown noun 'boot' .did you mean 'boat'"),
        ({"boat": {"place": {}}}, "unknown kind 'place'"),
        ({"boat": {"background": {"ocean": 0.5}}}, "unknown value 'ocean'"),
        ({"boat": {"companion": {"boat": 0.5}}}, "unknown value 'boat'"),
        ({"boat": {"background": {"sea": 1.5}}}, "must lie in"),
        ({"boat": {"background": {"sea": "often"}}}, "must lie in"),
        ({"boat": {"background": {"sea": 0.7, "snow": 0.7}}}, "sum to 1.4"),
        ({"boat": {"texture": dict.fromkeys(("plain", "striped", "dotted", "checked"), 0.2)}}, "must sum to 1"),
        ({"boat": {"background": ["sea"]}}, "must be an object"),
        ({"boat": ["sea"]}, "must be an object"),
    ],
)
def test_a_wrong_table_is_refused(nouns: object, message: str) -> None:
    with pytest.raises(WorldError, match=message):
        Biases.from_json(json.dumps({"nouns": nouns}))


@pytest.mark.parametrize(
    ("text", "message"), [("{", "not JSON"), ("[]", '"nouns"'), ('{"nouns": {}, "x": 1}', "unknown fields")]
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "table.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(WorldError, match=message):
        Biases.load(path)
    with pytest.raises(WorldError, match="cannot read"):
        Biases.load(tmp_path / "absent.json")
