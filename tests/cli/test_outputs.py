"""Where a command is to write is looked at before anything is loaded, measured or written."""

import os
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from secondlens.cli.app import app
from secondlens.disk.files import check_file, check_folder, make_folder
from secondlens.errors import AtlasError, MissingExtra, OutputError
from secondlens.viewer.plots import check_picture, check_report, new_figure, save_figure

# Nothing of these is there: a command that goes on to load them says so, and not what is expected here.
MODEL, ATLAS, IMAGES = "hf:/nowhere/model", "/nowhere/atlas", "/nowhere/images"
ATTACK = ["--pair", "a:b", "--llm", "hf:/nowhere", "--images", "folder:/nowhere", "--judge", "exact"]
BELOW_A_FILE = [
    ["survey", MODEL, IMAGES, "--out"],
    ["cluster", "survey", MODEL, IMAGES, "--out"],
    ["run", MODEL, IMAGES, "--out"],
    ["ablate", MODEL, ATLAS, "--images", IMAGES, "--out"],
    ["evaluate", "descriptions", MODEL, ATLAS, "--images", IMAGES, "--pool", "labels", "--out"],
    ["evaluate", "segmentation", MODEL, ATLAS, "--pairs", IMAGES, "--out"],
    ["study", "selectivity", ATLAS, "--out"],
    ["study", "first-order", MODEL, "--images", IMAGES, "--out"],
    ["study", "table1", MODEL, ATLAS, "--images", IMAGES, "--layer", "0", "--out"],
    ["study", "indirect", MODEL, ATLAS, "--out"],
    ["world", "lab", MODEL, ATLAS, "--out"],
    ["world", "seeds", MODEL, "--out"],
    ["world", "train", "--work", "/nowhere/work", "--out"],
    [
        "attack",
        "run",
        MODEL,
        ATLAS,
        "--pair",
        "a:b",
        "--llm",
        "hf:/nowhere",
        "--images",
        "folder:/nowhere",
        "--judge",
        "exact",
        "--out",
    ],
    ["export", ATLAS],
    ["reproduce", "table-1", "--model", MODEL, "--out"],
]
OF_ANOTHER_KIND = [
    (["audit", MODEL, ATLAS, "--shown", "a", "--predicted", "b", "--out"], "pair.csv", "ends in .json"),
    (["audit", "matrix", MODEL, ATLAS, "--out"], "pairs.txt", "ends in .csv or .parquet or .json"),
    (["audit", "matrix", MODEL, ATLAS, "--out", "pairs.csv", "--picture"], "pairs.bmp", "ends in .png"),
    (["explain", MODEL, "picture.png", "--text", "a", "--out"], "why.txt", "ends in .png"),
    (["neurons", "show", ATLAS, "0", "0", "--sheet"], "sheet.jpg", "ends in .png"),
    (["pool", "generate", "--classes", "/nowhere", "--llm", "hf:/nowhere", "--out"], "texts.txt", "ends in .csv"),
]


def refusal(arguments: list[str]) -> str:
    found = CliRunner().invoke(app, arguments)
    assert isinstance(found.exception, OutputError), (found.output, found.exception)
    return str(found.exception)


@pytest.mark.parametrize("arguments", BELOW_A_FILE, ids=lambda arguments: " ".join(arguments[:2]))
def test_a_file_in_the_place_of_a_folder(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    said = refusal([*arguments, str(tmp_path / "taken" / "out")])
    assert f"{tmp_path / 'taken'} is a file" in said


@pytest.mark.parametrize(("arguments", "name", "expected"), OF_ANOTHER_KIND, ids=lambda value: str(value)[:40])
def test_another_ending(arguments: list[str], name: str, expected: str, tmp_path: Path) -> None:
    said = refusal([*arguments, str(tmp_path / name)])
    assert expected in said
    assert str(tmp_path / name) in said


def test_a_segmentation_of_one_picture(tmp_path: Path) -> None:
    picture = tmp_path / "one.png"
    Image.new("RGB", (8, 8)).save(picture)
    assert "ends in .png" in refusal(["segment", MODEL, ATLAS, str(picture), "--out", str(tmp_path / "mask.jpg")])


def test_checks_make_nothing(tmp_path: Path) -> None:
    check_folder(tmp_path / "a" / "b")
    check_file(tmp_path / "c" / "d.csv", ".csv")
    check_picture(tmp_path / "e" / "f.PNG")
    check_report(tmp_path / "g")
    assert not any(tmp_path.iterdir())


def test_what_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="got the folder"):
        check_file(tmp_path / "folder.csv", ".csv")
    for make in (check_folder, make_folder):
        with pytest.raises(AtlasError, match="choose another folder"):
            make(tmp_path / "file" / "below")


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Root may write anywhere, so the system's answer is ours.
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(OutputError, match="no write permission"):
        check_folder(tmp_path / "out")


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    for check, path in ((check_report, tmp_path), (check_picture, tmp_path / "a.png")):
        with pytest.raises(MissingExtra, match=r"secondlens\[plots\]"):
            check(path)
        check(None)


@pytest.mark.parametrize(("ending", "start"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")])
def test_figures_are_written_in_the_format_of_their_name(ending: str, start: bytes, tmp_path: Path) -> None:
    figure = new_figure("a test", 1, 1)
    save_figure(figure, tmp_path / "new" / f"figure{ending}", 50)
    assert (tmp_path / "new" / f"figure{ending}").read_bytes().startswith(start)
    assert [path.name for path in (tmp_path / "new").iterdir()] == [f"figure{ending}"]
