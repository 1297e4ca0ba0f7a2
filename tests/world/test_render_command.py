"""`secondlens world render`."""

import csv
import json
from pathlib import Path

import pytest

from commands import secondlens
from secondlens.world.dataset import read_scenes


def test_render_writes_once_and_labels_by_properties(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scenes"
    command = ("world", "render", out, "--count", 6, "--objects", 1, "--json")
    assert json.loads(secondlens(monkeypatch, capsys, *command).stdout)["kept"] is False
    written = (out / "images" / "000003.png").stat().st_mtime_ns
    again = secondlens(monkeypatch, capsys, *command, "--labels", "colour,noun")
    assert json.loads(again.stdout)["kept"] is True
    assert (out / "images" / "000003.png").stat().st_mtime_ns == written
    classes = (out / "classes-colour-noun.txt").read_text().splitlines()
    assert len(classes) == 320
    with (out / "labels-colour-noun.csv").open(newline="") as file:
        for row, scene in zip(csv.DictReader(file), read_scenes(out), strict=True):
            assert row["name"] == classes[int(row["label"])] == f"{scene.objects[0].colour} {scene.nouns[0]}"
    other = secondlens(monkeypatch, capsys, "world", "render", out, "--count", 7)
    assert other.returncode == 2
    assert "not empty" in other.stderr
    unknown = secondlens(monkeypatch, capsys, *command, "--labels", "color,noun")
    assert unknown.returncode == 2
    assert "did you mean 'colour'" in unknown.stderr
