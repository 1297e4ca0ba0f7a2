"""Precision and recall of concepts found in scenes."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import secondlens as sl
from secondlens.cli.app import app
from secondlens.descriptions import describe
from secondlens.descriptions.pools import open_pool
from secondlens.errors import WorldError
from secondlens.lens import LensModel
from secondlens.studies.laboratory.scene_concepts import scene_concepts, scored, truth_of
from secondlens.world import Scene, SceneObject, scene_at, write_dataset

BOAT = SceneObject("boat", "red", "striped", "small", "left", 0.3, 0.5, 0.4)
TRUTH = {("background", "sea"), ("noun", "boat"), ("colour", "red"), ("texture", "striped")}


def test_what_a_scene_shows() -> None:
    assert truth_of(Scene("sea", (BOAT,))) == TRUTH


def test_figures_of_a_list_by_hand() -> None:
    boat, red_boat, cat, nothing = {("noun", "boat")}, {("noun", "boat"), ("colour", "red")}, {("noun", "cat")}, set()
    red_cat = {("noun", "cat"), ("colour", "red")}
    # Texts that name nothing are passed over; a text is right only where all that it names is there.
    assert scored([nothing, boat, cat, red_cat, red_boat], TRUTH) == [(1.0, 0.25), (0.5, 0.5), (0.25, 0.5)]
    assert scored([cat, nothing], TRUTH) == [(0.0, 0.0)] * 3


def test_the_embedded_model(embedded: LensModel, cache: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path / "survey", [scene_at(80_003, index) for index in range(120)], masks=False)
    atlas = sl.survey(embedded, tmp_path / "survey" / "images", tmp_path / "atlas", layers=[4], top=12, batch_size=40)
    pool = open_pool("world-single", embedded)
    descriptions = describe(atlas, pool, 4)
    found = scene_concepts(embedded, atlas, descriptions, pool, scenes=30, objects=1)
    # One of 54 concepts at random is there in about 7 % of the cases.
    assert found["nearest centred"][0]["precision"] > 0.5
    assert all(0 <= row[name] <= 1 for rows in found.values() for row in rows for name in ("precision", "recall"))
    with pytest.raises(WorldError, match="two scenes or more"):
        scene_concepts(embedded, atlas, descriptions, pool, scenes=1)
    result = CliRunner().invoke(
        app, ["world", "concepts", "world:", str(tmp_path / "atlas"), "--scenes", "4", "--objects", "1", "--json"]
    )
    assert result.exit_code == 0
    assert set(json.loads(result.stdout)["methods"]) == set(found)
