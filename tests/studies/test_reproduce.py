"""The command end to end: on a tiny classifier, the embedded world and photographs; what is missing; resuming."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import secondlens as sl
from builders import save_worded
from secondlens.cli.app import app
from secondlens.errors import ReproductionError
from secondlens.lens.classifier import TEMPLATES, WORLD_TEMPLATES
from secondlens.studies import ablation
from secondlens.studies.reproduction import Options, load_preset, preset_names, reproduce
from secondlens.viewer.reports.files import write_files
from secondlens.viewer.reports.reproduction import write_report
from secondlens.world import NOUNS, scene_at, write_dataset

LABELS = ["cat", "dog", "crane", "fire truck"]

REPORTS: dict[str, Any] = {"write_files": write_files, "write_report": write_report}


@pytest.fixture(autouse=True)
def _cache(cache: Path) -> None:
    """Pools go to an empty folder."""


@pytest.fixture
def vit(model_folders: dict[str, Path]) -> str:
    return f"hf:{next(folder for name, folder in model_folders.items() if name.startswith('vit-l5'))}"


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["reproduce", *map(str, arguments)], catch_exceptions=False)


def write_csv(path: Path, rows: list[tuple[object, int]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("file", "label"), *rows])
    return path


@pytest.fixture
def given(pictures: Path, tmp_path: Path, vit: str) -> list[object]:
    """Options that put a tiny classifier and 40 pictures in the place of any preset's."""
    files = sorted(pictures.iterdir())
    survey = write_csv(tmp_path / "survey.csv", [(file, n % 4) for n, file in enumerate(files[:24])])
    labels = write_csv(tmp_path / "labels.csv", [(file, n % 4) for n, file in enumerate(files[24:])])
    data = ["--data", f"survey={survey}", "--data", f"evaluation={labels}"]
    return ["--model", vit, *data, "--workers", 0, "--out", tmp_path / "out"]


def test_the_list_needs_no_data() -> None:
    shown = call("--list", "--json")
    assert [preset["name"] for preset in json.loads(shown.stdout)["presets"]] == preset_names()
    assert "figure-12" in call("--list").stdout


def test_all_that_is_missing_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secondlens.studies.reproduction.missing.find_spec", lambda name: None)
    with pytest.raises(ReproductionError) as caught:
        call(
            "figure-3", "figure-10", "table-2", "--data", f"imagenet-r={tmp_path / 'nowhere'}", "--out", tmp_path / "o"
        )
    message = str(caught.value)
    for part in (
        "--data imagenet-train=PATH (or --data imagenet=FOLDER",
        "ILSVRC2012_img_train.tar as downloaded [figure-3, figure-10, table-2]",
        "ILSVRC2012_devkit_t12.tar.gz beside it [figure-3]",
        f"{tmp_path / 'nowhere'}, given as the evaluation images, does not exist: check the path [figure-10]",
        "pip install 'secondlens[openclip]'",
        "pip install 'secondlens[words]' [table-2]",
        "pip install 'secondlens[plots]'",
    ):
        assert part in message
    assert re.search(r"^6 things are missing", message)
    assert not (tmp_path / "o").exists()
    with pytest.raises(ReproductionError, match="did you mean 'imagenet-val'"):
        call("figure-3", "--data", "imagenet_val=x")
    with pytest.raises(ReproductionError, match="NAME=PATH, got 'x'"):
        call("figure-3", "--data", "x")


def test_a_root_stands_for_both_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secondlens.studies.reproduction.missing.find_spec", lambda name: name)
    from secondlens.studies.reproduction.missing import missing
    from secondlens.studies.reproduction.settings import resolve

    for name in preset_names():
        run = resolve(load_preset(name), Options(data={"imagenet": str(tmp_path), "imagenet-r": str(tmp_path)}), ())
        assert (missing(run), run.changed) == ([], ())


def test_every_preset_runs_on_other_data(given: list[object], tmp_path: Path) -> None:
    out = tmp_path / "out"
    settings = ["--set", "neurons=[0, 3]", "--set", "null_draws=3", "--set", "nonzero=4", "--layers", "1,2"]
    shown = call(*given, *settings, "--json")
    found = json.loads(shown.stdout)
    assert [preset["name"] for preset in found["presets"]] == preset_names()
    for preset in found["presets"]:
        keys = {expected.key for expected in load_preset(preset["name"]).expected if not expected.words}
        assert keys <= set(preset["values"])
        for name in preset["files"]:
            assert (out / preset["name"] / name).is_file()
        # Digits are never judged where model and images are others.
        assert {row["state"] for row in preset["comparisons"] if "+-" in row["paper"]} <= {"other setting"}
        assert any(change.startswith("model ") for change in preset["changed"])
    # Four presets with all of these layers have one survey; nothing is surveyed for figures 11 and 12.
    assert len(list((out / "atlases").iterdir())) == 1
    report = (out / "REPORT.md").read_text()
    pictures = re.findall(r"!\[.*\]\((.*)\)", report)
    assert len(pictures) == 7
    for picture in pictures:
        assert Image.open(out / picture).size[0] > 400
    assert "its labels instead of words-30k" in report
    ours = json.loads((out / "figure-3" / "ablations.json").read_text())["layers"]
    values = found["presets"][0]["values"]
    assert values["baseline"] == pytest.approx(100 * ours[0]["baseline"])
    assert values["loss"] == pytest.approx(max(100 * (layer["baseline"] - layer["without_all"]) for layer in ours))


def test_finished_studies_are_not_run_again(
    given: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["figure-3", "table-1", *given, "--layers", "2", "--set", "neurons=2"]
    killed = "secondlens.studies.reproduction.measures.study_table1"

    def kill(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(killed, kill)
        assert call(*arguments).exit_code == 130
    assert not (tmp_path / "out" / "table-1" / "result.json").exists()
    assert "## figure-3" in (tmp_path / "out" / "REPORT.md").read_text()
    with monkeypatch.context() as patch:
        # Neither the first study nor the survey runs a second time.
        patch.setattr("secondlens.studies.reproduction.measures.ablate", kill)
        patch.setattr("secondlens.surveys.run.in_process", kill)
        first = json.loads(call(*arguments, "--json").stdout)["presets"]
    assert [preset["reused"] for preset in first] == [True, False]
    again = json.loads(call(*arguments, "--json").stdout)["presets"]
    assert [preset["reused"] for preset in again] == [True, True]
    assert [preset["values"] for preset in again] == [preset["values"] for preset in first]
    with pytest.raises(ReproductionError, match=r"holds a result of other settings: limit was null, now 9"):
        call(*arguments, "--limit", 9)
    (tmp_path / "out" / "figure-3" / "result.json").write_text("{}")
    with pytest.raises(ReproductionError, match=r"cannot read .*result.json"):
        call(*arguments)


def test_an_interrupted_ablation_goes_on(given: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["figure-3", *given, "--layers", "2", "--batch-size", "4"]
    # The last --out counts.
    whole = json.loads(call(*arguments, "--out", tmp_path / "other", "--json").stdout)
    real, seen = ablation.classify, []

    def stop(*parts: object) -> None:
        seen.append(1)
        if len(seen) == 3:
            raise KeyboardInterrupt
        real(*parts)  # type: ignore[arg-type]

    monkeypatch.setattr(ablation, "classify", stop)
    monkeypatch.setattr("secondlens.studies.ablation_progress.AblationCheckpoints.due", lambda self: True)
    assert call(*arguments).exit_code == 130
    resumed = json.loads(call(*arguments, "--json").stdout)
    # Four batches in all: two before the interruption, one that was lost, two after it.
    assert len(seen) == 5
    assert resumed["presets"][0]["values"] == whole["presets"][0]["values"]


def test_what_cannot_be(given: list[object], tmp_path: Path) -> None:
    with pytest.raises(ReproductionError, match=r"table-1 asks for layer 9; .* layers 0 to 3 .*--layers"):
        call("table-1", *given)
    with pytest.raises(ReproductionError, match="none of these presets has the setting 'colour'"):
        call("table-1", *given, "--set", "colour=1")
    with pytest.raises(ReproductionError, match="settings of table-1 do not fit: neurons"):
        call("table-1", *given, "--set", "neurons=few")
    with pytest.raises(ReproductionError, match="neurons 0 to 47 a layer, got 99"):
        call("table-2", *given, "--layers", "1", "--set", "neurons=[99]", "--set", "nonzero=4")
    with pytest.raises(ReproductionError, match="each once"):
        call("table-1", "table-1", *given)
    with pytest.raises(ReproductionError, match="--limit of 2 images"):
        call("table-1", *given, "--limit", 1)
    preset = load_preset("table-1").model_copy(update={"survey": None})
    with pytest.raises(ReproductionError, match="needs a survey set"):
        reproduce(
            [preset],
            tmp_path / "bare",
            Options(data={"evaluation": str(given[5]).partition("=")[2]}, model=str(given[1])),
            **REPORTS,
        )


def test_a_preset_of_ones_own_is_judged_in_its_own_setting(given: list[object], tmp_path: Path, vit: str) -> None:
    data = dict(str(given[place]).split("=", 1) for place in (3, 5))
    text = (
        f"name: mine\ntitle: mine\npaper: mine\nstudy: ablation\nmodel: {vit}\nlayers: [2]\ntop: 2\n"
        "survey: {dataset: imagenet-train, every: 2, images: 13}\nevaluation: {dataset: imagenet-val}\n"
        "expected:\n  - {key: baseline, text: accuracy, value: 50, tolerance: 50}\n"
        "  - {key: loss, text: loss, value: 1000, tolerance: 1}\n"
    )
    (tmp_path / "mine.yaml").write_text(text)
    sets = ["--data", f"imagenet-train={data['survey']}", "--data", f"imagenet-val={data['evaluation']}"]
    shown = call(tmp_path / "mine.yaml", *sets, "--out", tmp_path / "mine", "--workers", 0, "--json")
    (outcome,) = json.loads(shown.stdout)["presets"]
    assert outcome["changed"] == []
    assert [row["state"] for row in outcome["comparisons"]] == ["inside", "outside"]
    # Every second of 24 images, where the preset says that there should be 13.
    assert outcome["setting"]["survey"].startswith("12 images of ")
    assert any("has 12 images, the paper's 13" in note for note in outcome["notes"])
    assert "has 12 images, the paper's 13" in shown.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["a", "photo", "of"], TEMPLATES),
        (["a", "there", "is", "picture", "of"], WORLD_TEMPLATES),
    ],
)
def test_other_data_get_the_templates_that_fit_the_model(
    words: list[str], expected: tuple[str, ...], tmp_path: Path
) -> None:
    folder = save_worded(tmp_path / "model", words=[*words, *NOUNS])
    scenes = [scene_at(6, index, objects=1, kind="unbiased") for index in range(20)]
    drawn = write_dataset(tmp_path / "scenes", scenes, size=32, masks=False)
    data = {"survey": str(drawn / "images"), "evaluation": str(drawn / "labels.csv")}
    options = Options(data=data, model=f"hf:{folder}", layers=[1], batch_size=64)
    (found,) = reproduce(
        [load_preset("figure-3")], tmp_path / "out", options, write_files=write_files, write_report=write_report
    )
    assert found.key["templates"] == list(expected)
    assert all(f'"{template}"' in found.setting["classifier"] for template in expected)


def test_on_the_embedded_world(tmp_path: Path) -> None:
    folder = save_worded(tmp_path / "model", words=["a", "photo", "of", *NOUNS])
    survey = write_dataset(tmp_path / "survey", (scene_at(5, index) for index in range(80)), size=32, masks=False)
    scenes = (scene_at(6, index, objects=1, kind="unbiased") for index in range(40))
    evaluation = write_dataset(tmp_path / "evaluation", scenes, size=32, masks=False)
    (tmp_path / "templates.txt").write_text("a {}\na photo of a {}\n")
    (tmp_path / "nouns.txt").write_text("\n".join(NOUNS) + "\n")
    options = Options(
        data={
            "survey": str(survey / "images"),
            "evaluation": str(evaluation / "labels.csv"),
            "class-descriptions": str(tmp_path / "nouns.txt"),
        },
        model=f"hf:{folder}",
        layers=[1],
        templates=str(tmp_path / "templates.txt"),
        settings={"neurons": [1, 2], "pools": ["class-descriptions"], "nonzero": 8, "null_draws": 3},
        batch_size=64,
    )
    names = ["figure-3", "figure-4", "table-1", "table-2"]
    outcomes = {
        o.name: o
        for o in reproduce(
            [load_preset(name) for name in names],
            tmp_path / "out",
            options,
            **REPORTS,
        )
    }
    assert outcomes["figure-3"].key["top"] == 8
    assert outcomes["figure-3"].key["templates"] == ["a {}", "a photo of a {}"]
    assert outcomes["figure-3"].setting["evaluation"].startswith("40 images")
    words = outcomes["table-2"].values["neuron 2"]
    assert len(words) == 8
    assert {word[1:] for word in words} <= set(NOUNS)
    # Their order is that of the coefficients in the atlas's description.
    (place,) = (tmp_path / "out" / "atlases").iterdir()
    from secondlens.descriptions import Descriptions

    table = Descriptions.open(sl.Atlas.open(place), "class-descriptions").table(1, 2).to_pylist()
    largest = max(table, key=lambda row: abs(row["coefficient"]))
    assert words[0] == f"{'+' if largest['coefficient'] > 0 else '-'}{largest['text']}"
    assert "without the pool" not in (tmp_path / "out" / "REPORT.md").read_text().lower()


def test_on_photographs_with_a_real_model(shared: Path, tmp_path: Path) -> None:
    labels = shared / "photos" / "nips17" / "labels.csv"
    options = Options(
        data={"survey": str(labels), "evaluation": str(labels)},
        model=f"hf:{shared / 'models' / 'vit-tiny-imagenet'}",
        layers=[8],
        limit=12,
        settings={"neurons": 2},
    )
    figure, table = reproduce(
        [load_preset("figure-3"), load_preset("table-1")],
        tmp_path / "out",
        options,
        write_files=write_files,
        write_report=write_report,
    )
    # 828 of 1,000 such photographs are right; 12 at random: at least 6 but once in a thousand draws.
    assert figure.values["baseline"] >= 50
    # Shares of 12 images, as float32 and as float64.
    assert table.values["baseline"] == pytest.approx(figure.values["baseline"], rel=1e-6)
    # The same images, drawn in the same order, were surveyed.
    assert any("saw 12 of the 12 evaluation images" in note for note in figure.notes)
    assert 0 < table.values["second_order_explained"] <= 100
