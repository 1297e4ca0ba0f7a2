"""Presets: that all of the package's are sound, what a wrong one says, and how ours is put beside the paper's."""

from pathlib import Path

import pytest

from secondlens.errors import ReproductionError
from secondlens.studies.reproduction import load_preset, preset_names
from secondlens.studies.reproduction import run as _registers  # noqa: F401
from secondlens.studies.reproduction.compare import compare
from secondlens.studies.reproduction.presets import DATASETS, POOLS, ROLES, ROOTS, Expectation, parse_preset
from secondlens.studies.reproduction.tasks import study_of

MINIMAL = "name: mine\ntitle: t\npaper: figure 3\nstudy: ablation\nmodel: hf:x\n"
KEYS = {
    "ablation": {
        "baseline",
        "worst_layer",
        "worst_depth",
        "loss",
        "large_fraction",
        "small_fraction",
        "rank_one_fraction",
    },
    "table1": {
        "baseline",
        "indirect_accuracy",
        "second_order_accuracy",
        "indirect_explained",
        "second_order_explained",
        "accuracy_gap",
        "explained_gap",
    },
    "first-order": {"baseline", "attentions_held", "mlps_held", "late_fraction", "mlp_fraction"},
    "descriptions": {"baseline", "loss", "rise", "recovered"},
    "words": {f"neuron {number}" for number in (4, 391, 2137, 2914)},
}


def test_there_is_one_preset_a_table_and_figure() -> None:
    figures = [f"figure-{number}" for number in (3, 4, 9, 10, 11, 12)]
    assert preset_names() == [*figures, "table-1", "table-2"]


@pytest.mark.parametrize("name", preset_names())
def test_presets_are_sound(name: str) -> None:
    preset = load_preset(name)
    assert preset.name == name
    study_of(preset.study).check(preset.settings, name)
    for card in (preset.survey, preset.evaluation):
        assert card is None or card.dataset in DATASETS
    # Each key is one that the study gives; that it gives them is tested where the studies run.
    assert {expected.key for expected in preset.expected} <= KEYS[preset.study]
    assert (preset.survey is None) == (preset.study == "first-order")
    if preset.survey is not None:
        assert (preset.survey.every, preset.survey.images, preset.top) == (250, 5124, 100)


def test_the_printed_digits_are_the_papers() -> None:
    digits = {expected.key: expected.value for expected in load_preset("table-1").expected if expected.printed}
    assert digits == {
        "baseline": 63.3,
        "indirect_accuracy": 52.3,
        "second_order_accuracy": 29.6,
        "indirect_explained": 11.0,
        "second_order_explained": 48.2,
    }
    words = {expected.key: expected.words for expected in load_preset("table-2").expected}
    assert words["neuron 391"] == ("+woodworking", "-swelling", "+cedar", "+heirloom")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [", "is no YAML"),
        ("just words", "expected names and values"),
        ("name: mine", "title: Field required"),
        (f"{MINIMAL}colour: red", "colour: Extra inputs"),
        (f"{MINIMAL}survey: {{dataset: imagenet-train, every: 0}}", "survey.every: .* greater than or equal to 1"),
        (f"{MINIMAL}expected: [{{key: a, text: b, value: 3}}]", "a value needs a tolerance"),
        (f"{MINIMAL}expected: [{{key: a, text: b}}]", "either a value with a tolerance, or a bound"),
        (f"{MINIMAL}convention: other", "convention"),
    ],
)
def test_presets_that_do_not_fit(text: str, message: str) -> None:
    with pytest.raises(ReproductionError, match=message):
        parse_preset(text, "mine.yaml")


def test_unknown_presets_and_studies_name_the_closest() -> None:
    with pytest.raises(ReproductionError, match="did you mean 'figure-3'"):
        load_preset("figure3")
    with pytest.raises(ReproductionError, match=r"cannot read the preset none.yaml"):
        load_preset("none.yaml")
    with pytest.raises(ReproductionError, match="did you mean 'ablation'"):
        study_of("ablations")
    with pytest.raises(ReproductionError, match=r"settings of mine do not fit: neurons"):
        study_of("table1").check({"neurons": "many"}, "mine")


def test_digits_claims_and_words_are_judged() -> None:
    expected = (
        Expectation(key="a", text="digits", value=63.3, tolerance=0.5),
        Expectation(key="b", text="bound", low=0.5),
        Expectation(key="c", text="range", low=0.6, high=0.9),
        Expectation(key="d", text="words", words=("+snowy", "-closings"), low=2),
        Expectation(key="e", text="absent", high=1.0),
    )

    def states(values: dict, own: bool = True) -> list[str]:
        return [row.state for row in compare(expected, values, own)]

    good = {"a": 63.8, "b": 0.5, "c": 0.9, "d": ["+snowy", "+x", "-closings"], "e": None}
    assert states(good) == ["inside"] * 4 + ["not measured"]
    # Another sign is another word.
    bad = {"a": 62.7, "b": 0.49, "c": 0.91, "d": ["+snowy", "+closings"], "e": 1.01}
    assert states(bad) == ["outside"] * 5
    # On another model the paper's digits and words cannot be judged, its claims can.
    assert states(bad, own=False) == ["other setting", "outside", "outside", "other setting", "outside"]
    assert states({}) == ["not measured"] * 5
    shown = compare(expected, good, True)
    assert (shown[0].paper, shown[0].ours) == ("63.3 +- 0.5", "63.8")
    assert shown[3].ours == "+snowy +x -closings (2 of 2)"


def test_the_documented_preset_is_one() -> None:
    text = (Path(__file__).parents[2] / "docs" / "reproduce.md").read_text(encoding="utf-8")
    preset = parse_preset(text.split("```yaml\n")[1].split("```")[0], "the documentation's")
    assert {expected.key for expected in preset.expected} <= KEYS[preset.study]
    assert all(f"`{name}`" in text for name in (*preset_names(), *ROLES, *ROOTS, *POOLS))
