"""Scenes as files."""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from secondlens.data.sources import open_source
from secondlens.errors import WorldError
from secondlens.world import NOUNS, Scene, render, scene_at, write_dataset

SCENES = [scene_at(0, index) for index in range(6)]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_files_hold_what_was_drawn(tmp_path: Path) -> None:
    done: list[int] = []
    folder = write_dataset(tmp_path / "set", iter(SCENES), size=48, progress=done.append)
    assert done == [1, 2, 3, 4, 5, 6]
    lines = (folder / "scenes.jsonl").read_text(encoding="utf-8").splitlines()
    assert [Scene.from_json(line) for line in lines] == SCENES
    labels, captions, pairs = (rows(folder / f"{name}.csv") for name in ("labels", "captions", "pairs"))
    assert [row["file"] for row in labels] == [row["file"] for row in captions]
    pictures = {}
    for scene, row in zip(SCENES, labels, strict=True):
        pictures[row["file"]] = render(scene, 48)
        assert (np.asarray(Image.open(folder / row["file"])) == pictures[row["file"]].image).all()
        assert (row["name"], NOUNS[int(row["label"])]) == (scene.nouns[0], scene.nouns[0])
    assert len(pairs) == sum(len(scene.objects) for scene in SCENES)
    for row in pairs:
        scene = SCENES[int(Path(row["image"]).stem)]
        number = int(row["mask"].removesuffix(".png").rpartition("-")[2])
        assert row["name"] == scene.nouns[number]
        mask = np.asarray(Image.open(folder / row["mask"]))
        assert (mask == pictures[row["image"]].masks[number] * 255).all()
    assert all(len(row["caption"].split()) > 1 for row in captions)
    # The rest of the software reads the table as a set of images.
    assert len(open_source(folder / "labels.csv").ids) == 6


def test_the_same_scenes_give_the_same_files(tmp_path: Path) -> None:
    one = write_dataset(tmp_path / "one", SCENES[:3], masks=False)
    other = write_dataset(tmp_path / "other", SCENES[:3], masks=False)
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert len(files) == 6
    assert all((one / file).read_bytes() == (other / file).read_bytes() for file in files)


def test_an_interrupted_folder_does_not_exist(tmp_path: Path) -> None:
    def failing() -> Iterator[Scene]:
        yield SCENES[0]
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        write_dataset(tmp_path / "set", failing())
    assert list(tmp_path.iterdir()) == []


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("x")
    with pytest.raises(WorldError, match="not empty"):
        write_dataset(tmp_path / "full", SCENES)
    with pytest.raises(WorldError, match="cannot write"):
        write_dataset(tmp_path / "full" / "file" / "set", SCENES)
    with pytest.raises(WorldError, match="at least one scene"):
        write_dataset(tmp_path / "none", [])
    assert not (tmp_path / "none").exists()
