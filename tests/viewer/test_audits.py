"""Audits on the site: what is kept of their files, and which files are refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from viewer_world import HOSTILE_NAMES, HOSTILE_TEXTS, World, facts_of, save_audits

from secondlens.errors import AtlasError
from secondlens.viewer.audits import CLASSES, read_audits
from secondlens.viewer.export import export


def index_of(files: dict[str, bytes]) -> dict[str, Any]:
    return json.loads(files["data/audit/index.json"])


def test_a_folder_of_audits_is_on_the_site(world: World, site: Path) -> None:
    assert facts_of(site)["audit"] == {"pairs": 1, "matrices": 1, "folders": 1, "removals": 1}
    pair = json.loads((site / "data/audit/pair-000.json").read_text())
    assert [cue["text"] for cue in pair["cues"]] == HOSTILE_TEXTS
    wanted = [world.atlas.source_ids.index(name) for name in (*HOSTILE_NAMES[:2], "picture-07.png")]
    assert pair["cues"][3]["evidence"][0]["images"] == wanted
    index = json.loads((site / "data/audit/index.json").read_text())
    assert index["pairs"] == [
        {"source_class": "cat", "target_class": "<b>boat</b>", "scoring": "paper", "pool": "things & <i>", "cues": 5}
    ]
    matrix = index["matrices"][0]
    assert matrix["classes"] == ["<b>boat</b>", "cat", "dog"]
    assert matrix["values"] == [[None] * 3, [0.5, None, None], [None, 0.25, None]]


def test_of_many_classes_those_of_the_strongest_pairs_are_kept(world: World, tmp_path: Path) -> None:
    names = [f"class {number:02d}" for number in range(CLASSES + 20)]
    pairs = [
        {"source_class": a, "target_class": b, "exploitability": float(at + other), "cues": []}
        for at, a in enumerate(names)
        for other, b in enumerate(names)
        if a != b
    ]
    pairs.sort(key=lambda pair: -pair["exploitability"])  # type: ignore[operator]
    file = tmp_path / "matrix.json"
    file.write_text(
        json.dumps({"audit": "matrix", "atlas": world.atlas.manifest.created, "classes": names, "pairs": pairs})
    )
    matrix = index_of(read_audits(file, world.atlas)[1])["matrices"][0]
    assert (matrix["of"], matrix["classes"]) == (CLASSES + 20, names[20:])
    assert matrix["strongest"][0] == pairs[0]
    assert matrix["values"][0][1] == 41.0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"atlas": "yesterday"}, "audit of the atlas made yesterday"),
        ({"audit": "poem"}, "cannot read an audit"),
        ({"cues": [{"text": "x"}]}, "cannot read an audit"),
        ({"n_resamples": float("nan")}, "cannot read an audit"),
    ],
)
def test_what_is_no_audit_of_this_atlas_is_refused(
    world: World, tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    folder = save_audits(tmp_path / "audits", world.atlas)
    file = folder / "pair.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(AtlasError, match=reason):
        export(world.atlas, tmp_path / "site", audit=folder)
    assert not (tmp_path / "site").exists()


@pytest.mark.parametrize("score", ["NaN", "-Infinity", "1e999", '"0.5"', "null"])
def test_a_score_that_is_no_number_is_refused(world: World, tmp_path: Path, score: str) -> None:
    file = save_audits(tmp_path / "audits", world.atlas) / "pair.json"
    content = json.loads(file.read_text())
    content["cues"][0]["score"] = 0.515625
    file.write_text(json.dumps(content))
    read_audits(file, world.atlas)
    file.write_text(json.dumps(content).replace("0.515625", score))
    with pytest.raises(AtlasError, match="cannot read an audit"):
        read_audits(file, world.atlas)


def test_where_there_is_no_audit_it_says_how_to_make_one(world: World, tmp_path: Path) -> None:
    with pytest.raises(AtlasError, match="has no audits; make some with"):
        read_audits(tmp_path, world.atlas)
    with pytest.raises(AtlasError, match="cannot read an audit"):
        read_audits(tmp_path / "none.json", world.atlas)
