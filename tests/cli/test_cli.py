"""The command line as a person and as a machine would use it."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from commands import Result
from secondlens.lens import LensModel

Run = Callable[..., Result]


def in_a_process(*arguments: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "secondlens.cli.app", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=120)


@pytest.fixture
def atlas(command: Run, clip: LensModel, pictures: Path, tmp_path: Path) -> Path:
    (pictures / "broken.png").write_text("no picture")
    result = command("survey", clip.reference, pictures, "--out", tmp_path / "atlas", "--layers", "0-1,2", "--top", 6)
    assert result.returncode == 0, result.stderr
    assert "skipped broken.png: not an image" in result.stderr
    assert "images/s" in result.stderr
    return tmp_path / "atlas"


def test_models_check(command: Run, clip: LensModel) -> None:
    result = command("models", "check", clip.reference, "--json")
    facts = json.loads(result.stdout)
    assert {
        "layers": 4,
        "heads": 4,
        "neurons": 48,
        "embed_dim": 24,
        "activation": "gelu",
    }.items() <= facts.items()
    assert facts["pooling"] == "class token"
    assert 0 < facts["embedding_error"] < 1e-5
    assert 0 < facts["attention_error"] < 1e-5
    assert "embedding error" in command("models", "check", clip.reference).stdout


def test_survey_again_is_idempotent_and_prints_json(command: Run, clip: LensModel, pictures: Path, atlas: Path) -> None:
    arguments = (
        "survey",
        clip.reference,
        pictures,
        "--out",
        atlas,
        "--layers",
        "0,1,2",
        "--top",
        6,
        "--json",
    )
    facts = json.loads(command(*arguments).stdout)
    assert facts["images"] == 40
    assert facts["skipped_images"] == [{"id": "broken.png", "reason": facts["skipped_images"][0]["reason"]}]
    assert facts["neurons"] == 3 * 48


def test_neurons_show_and_list(command: Run, atlas: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    card = json.loads(command("neurons", "show", atlas, 1, 7, "--json", "--sheet", sheet).stdout)
    assert {"layer": 1, "neuron": 7, "texts": []}.items() <= card.items()
    assert 0 < card["explained_variance"] <= 1
    assert len(card["top_images"]) == 6
    norms = [image["norm"] for image in card["top_images"]]
    assert norms == sorted(norms, reverse=True)
    assert abs(sum(path["fraction"] for path in card["paths"]) - 1) < 1e-4
    assert Image.open(sheet).size == (5 * 134 + 6, 2 * 148 + 6)
    assert card["top_images"][0]["id"] in command("neurons", "show", atlas, 1, 7).stdout
    listed = json.loads(
        command("neurons", "list", atlas, "--sort", "explained_variance", "--limit", 5, "--json").stdout
    )
    values = [row["explained_variance"] for row in listed["neurons"]]
    assert len(values) == 5
    assert values == sorted(values, reverse=True)
    assert "threshold" in command("neurons", "list", atlas, "--layer", 2).stdout


def test_atlas_check(command: Run, atlas: Path) -> None:
    assert json.loads(command("atlas", "check", atlas, "--json").stdout)["sound"] is True
    (atlas / "images.parquet").write_bytes(b"")
    result = command("atlas", "check", atlas)
    assert result.returncode == 1
    assert "images.parquet has changed" in result.stdout


def test_mistakes_are_one_line_and_exit_code_2(
    command: Run, clip: LensModel, atlas: Path, pictures: Path, tmp_path: Path
) -> None:
    out = ("--out", tmp_path / "x")
    for arguments, message in (
        (("models", "check", "hf:/no/such"), "no such model folder"),
        (("survey", clip.reference, tmp_path / "nothing", *out), "nothing"),
        (("survey", clip.reference, pictures, *out, "--layers", "eight"), "expected layers such as"),
        (("survey", clip.reference, pictures, *out, "--memory", "much"), "amount of memory"),
        (("survey", clip.reference, pictures, *out, "--convention", "centered"), "did you mean 'centred'"),
        (("neurons", "show", atlas, 9, 0), "layer 9 is not in this atlas"),
        (("neurons", "show", atlas, 1, 999), "neurons 0 to 47"),
        (("neurons", "list", atlas, "--sort", "norm"), "cannot sort by 'norm'"),
        (("neurons", "show", pictures, 1, 1), "is no atlas"),
    ):
        # In a process of its own where the tests' checks of types would be first: they know the conventions.
        result = (in_a_process if "centered" in arguments else command)(*arguments)
        assert result.returncode == 2, (arguments, result.stderr)
        assert message in result.stderr
        assert result.stdout == ""
        assert len(result.stderr.strip().splitlines()) == 1, result.stderr


def test_help_does_not_import_torch() -> None:
    code = "import sys; import secondlens.cli.app; print('torch' in sys.modules, 'transformers' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "False False\n"
    assert "survey" in in_a_process("--help").stdout


def test_an_atlas_names_its_model(command: Run, worded: LensModel, pictures: Path, tmp_path: Path) -> None:
    atlas, model = tmp_path / "worded", worded.reference
    assert command("survey", model, pictures, "--out", atlas, "--layers", 1, "--top", 4).returncode == 0
    both = command("concepts", model, atlas, pictures / "3.png", "--json")
    assert "has no descriptions yet" in both.stderr
    assert command("concepts", "--json", atlas, pictures / "3.png") == both
    named = command("neurons", "search", model, atlas, "word5", "--json")
    assert named.returncode == 0, named.stderr
    for arguments in ((atlas, "word5", "--limit", 20, "--json"), ("--limit", "20", "--json", atlas, "word5")):
        assert command("neurons", "search", *arguments) == named


def test_a_neuron_has_one_address(command: Run, atlas: Path) -> None:
    shown = command("neurons", "show", atlas, "1/7", "--json")
    assert json.loads(shown.stdout)["neuron"] == 7
    assert command("neurons", "show", atlas, 1, 7, "--json").stdout == shown.stdout
    for address in (["1"], ["1/"], ["a/7"], ["1/7", "2"], ["1/7/2"]):
        wrong = command("neurons", "show", atlas, *address)
        assert wrong.returncode == 2
        assert "expected a neuron as LAYER/NEURON such as 9/2914, got" in wrong.stderr
