"""The sheet of scenes to look at, and what the documentation shows."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from secondlens.world import caption, render, scene_at
from secondlens.world.sheet import main, sheet


def test_a_sheet_holds_every_picture() -> None:
    scenes = [scene_at(0, index) for index in range(5)]
    board = np.asarray(sheet(scenes, columns=3, side=64))
    assert (board[8:72, 8:72] == render(scenes[0]).image).all()
    assert (board[8:72, 80:144] == render(scenes[1]).image).all()
    assert (board[8 + 116 : 72 + 116, 80:144] == render(scenes[4]).image).all()
    assert (board[72:124, 8:72] < 128).any()  # the caption's letters


def test_the_command_writes_a_sheet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["sheet", str(tmp_path / "sheet.png"), "3", "counter"])
    main()
    assert Image.open(tmp_path / "sheet.png").size == (8 * 136 + 8, 8 * 180 + 8)
    monkeypatch.setattr(sys, "argv", ["sheet"])
    with pytest.raises(SystemExit, match="to look at"):
        main()


def test_the_documented_caption_is_the_one_made() -> None:
    text = (Path(__file__).parents[2] / "docs" / "world.md").read_text(encoding="utf-8")
    said = caption(scene_at(seed=0, index=7), np.random.default_rng(0))
    assert f'# "{said}"' in text
