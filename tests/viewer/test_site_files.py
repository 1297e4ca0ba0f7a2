"""The site's files hold what the atlas holds."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from viewer_world import HOSTILE_NAMES, HOSTILE_TEXTS, World, facts_of, neuron_row, save_attack

from secondlens.atlas import Atlas
from secondlens.atlas.surveyed import surveyed_images
from secondlens.descriptions import Descriptions
from secondlens.descriptions.pools import open_pool
from secondlens.errors import AtlasError, ImageError, SecondLensError
from secondlens.lens import LensModel
from secondlens.numerics.sparse.codes import sparse_decompose
from secondlens.viewer.beside import compare_atlases
from secondlens.viewer.export import ExportedSite, export
from secondlens.viewer.findings import read_ablations, read_attack
from secondlens.viewer.heat import heat_maps
from secondlens.viewer.layout import Field, pack, slices
from secondlens.viewer.site import Site, content_type

WORDS = "things-i"


def test_columns_are_the_layers_own(world: World, site: Path) -> None:
    layer = world.atlas.layer(1)
    names = facts_of(site)["columns"]
    found = np.fromfile(site / "data/layers/01/columns.bin", "<f4").reshape(len(names), -1)
    values = dict(zip(names, found, strict=True))
    assert np.array_equal(values["explained_variance"], layer.explained_variance.numpy())
    assert np.array_equal(values["selectivity"], layer.selectivity.float().numpy())
    assert np.array_equal(values["top_norm"], layer.top_norms[:, 0].numpy())
    assert np.array_equal(values["threshold"], layer.thresholds.numpy())
    assert np.array_equal(values["root_mean_square"], layer.variance.sqrt().numpy())


@pytest.mark.parametrize("neuron", [0, 31, 32, 47])
def test_a_neurons_row_at_the_ends_of_slices(world: World, site: Path, neuron: int) -> None:
    facts, layer = facts_of(site), world.atlas.layer(0)
    row = neuron_row(site, "data/layers/00/neurons", facts["layers"][0]["fields"], neuron, 48)
    for name in ("top_positions", "top_norms", "top_projections", "path_fractions", "histogram", "spectrum"):
        assert np.array_equal(row[name], getattr(layer, name)[neuron].numpy()), name
    every = torch.cat([world.atlas.layer(index).directions for index in (0, 1)]).double()
    cosines = every @ every[neuron]
    cosines[neuron] = -2
    # Float32 products of unit vectors of 24 dimensions.
    assert np.allclose(row["nearest_cosine"], cosines.topk(10).values.numpy(), atol=1e-6)
    assert np.allclose(cosines[row["nearest"].tolist()].numpy(), row["nearest_cosine"], atol=1e-6)


def test_directions_keep_three_digits(world: World, site: Path) -> None:
    found = np.fromfile(site / "data/layers/01/directions-0001.bin", "<f2").reshape(16, -1).astype(np.float64)
    # Half precision rounds to 2^-11 of a number, and unit vectors have none above one.
    assert np.allclose(found, world.atlas.layer(1).directions[32:].numpy(), atol=2**-11)


def test_words_of_every_length_are_those_of_a_run_of_that_length(world: World, site: Path) -> None:
    words = facts_of(site)["words"][1]
    assert (words["folder"], words["lengths"], words["sizes"]) == (WORDS, [4, 8, 12], [4, 8, 12])
    texts = json.loads((site / f"data/words/{WORDS}/texts.json").read_text())
    assert texts[:5] == [" ".join(text.split()) for text in HOSTILE_TEXTS]
    pool = open_pool("things & <i>", world.model)
    neuron = 37
    row = neuron_row(site, f"data/words/{WORDS}/layer-01", words["fields"], neuron, 48)
    for length, start in ((4, 0), (8, 4), (12, 12)):
        alone = sparse_decompose(world.atlas.layer(1).directions[neuron : neuron + 1], pool.embeddings, length)
        assert row["texts"][:length].tolist() == alone.indices[0].tolist()
        # Both solve the same small least squares in float64 and are rounded to float32.
        assert np.allclose(row["coefficients"][start : start + length], alone.coefficients[0].numpy(), atol=1e-5)
        assert abs(row["fractions"][start : start + length].sum() - 1) < 1e-5
    said = Descriptions.open(world.atlas, WORDS).neuron(1, neuron)
    by_rank = sorted(said["texts"], key=lambda text: text["rank"])
    assert row["coefficients"][12:].tolist() == [text["coefficient"] for text in by_rank]
    assert row["senses"].tolist() == [text["sense"] for text in by_rank]


def test_headlines_are_the_words_with_the_largest_shares(world: World, site: Path) -> None:
    words = facts_of(site)["words"][1]
    content = (site / f"data/words/{WORDS}/layer-00-columns.bin").read_bytes()
    columns = len(words["columns"])
    headline = np.frombuffer(content, "<i4", offset=columns * 48 * 4).reshape(48, words["headline"])
    texts = json.loads((site / f"data/words/{WORDS}/texts.json").read_text())
    described = Descriptions.open(world.atlas, WORDS)
    for neuron in (0, 20, 47):
        shown = [("-" + texts[-2 - row]) if row < 0 else texts[row] for row in headline[neuron].tolist()]
        largest = described.neuron(0, neuron)["texts"][: len(shown)]
        assert shown == [("-" if text["coefficient"] < 0 else "") + text["text"] for text in largest]


def test_the_index_leads_from_each_text_to_its_neurons(world: World, site: Path) -> None:
    words = facts_of(site)["words"][1]
    count = words["settings"]["texts"]
    content = (site / f"data/words/{WORDS}/index-0000.bin").read_bytes()
    starts = np.frombuffer(content, "<i4", count + 1)
    numbers = np.frombuffer(content, "<i4", starts[-1], 4 * (count + 1))
    shares = np.frombuffer(content, "<f4", offset=4 * (count + 1 + starts[-1]))
    described = Descriptions.open(world.atlas, WORDS)
    tables = {layer: described.table(layer).to_pylist() for layer in (0, 1)}
    for text in (0, 7, count - 1):
        mine = [
            (abs(row["fraction"]), layer * 48 + row["neuron"])
            for layer, table in tables.items() for row in table if row["row"] == text
        ]  # fmt: skip
        here = slice(starts[text], starts[text + 1])
        assert sorted(numbers[here].tolist()) == sorted(number for _, number in sorted(mine)[::-1][:60])
        assert np.all(np.diff(np.abs(shares[here])) <= 0)


def test_each_texts_nearest_neurons(world: World, site: Path) -> None:
    words = facts_of(site)["words"][1]
    count, found = words["settings"]["texts"], words["found"]
    content = (site / f"data/words/{WORDS}/found-0000.bin").read_bytes()
    numbers = np.frombuffer(content, "<i4", count * found).reshape(count, found)
    scores = np.frombuffer(content, "<f4", offset=4 * count * found).reshape(count, found)
    pool = open_pool("things & <i>", world.model)
    every = torch.cat([world.atlas.layer(index).directions for index in (0, 1)])
    truth = every[numbers[9].tolist()] @ pool.embeddings[9]
    assert np.allclose(scores[9], truth.numpy(), atol=1e-6)
    assert np.isclose(scores[9, 0], float((every @ pool.embeddings[9]).max()), atol=1e-6)


def test_without_the_pool_the_full_length_is_there(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SECONDLENS_CACHE", str(tmp_path / "elsewhere"))
    files = Site(world.atlas)
    words = json.loads(files.read("data/site.json"))["words"][1]
    assert words["lengths"] == [12]
    assert words["found"] == 0
    assert not [name for name in files.names if "found-" in name]
    texts = json.loads(files.read(f"data/words/{WORDS}/texts.json"))
    used = {row["text"] for layer in (0, 1) for row in Descriptions.open(world.atlas, WORDS).table(layer).to_pylist()}
    assert set(texts) - {""} == used


def test_figures_on_held_out_images_are_those_of_the_command(world: World, site: Path) -> None:
    words = {found["folder"]: found for found in facts_of(site)["words"]}
    assert (words[WORDS]["held_out"], words["second"]["held_out"]) == (True, False)
    found = json.loads((site / f"data/words/{WORDS}/held-01-0001.json").read_text())
    described = Descriptions.open(world.atlas, WORDS)
    assert found == [described.neuron(1, neuron)["held_out"] for neuron in range(32, 48)]
    columns = np.fromfile(site / f"data/words/{WORDS}/layer-01-columns.bin", "<f4", 48 * 6).reshape(6, 48)
    assert words[WORDS]["columns"][5] == "prediction_auc"
    assert np.allclose(columns[5], 0.5 + np.arange(48) / 100)


def test_pictures_lie_in_their_cells(world: World, site: Path) -> None:
    ids = json.loads((site / "data/images/ids-0000.json").read_text())
    assert ids["ids"] == world.atlas.source_ids
    assert set(HOSTILE_NAMES) <= set(ids["ids"])
    sprite = Image.open(site / "data/images/sprite-00005.jpg")
    assert sprite.size == (192, 192)
    # Position 23 is cell 3 of the sixth sprite: row 1, column 1.
    width, height = ids["sizes"][23]
    assert max(width, height) == 96
    cell = sprite.crop((96, 96, 192, 192))
    thumbnail = Image.open(io.BytesIO(world.atlas.thumbnails([ids["ids"][23]])[ids["ids"][23]])).resize((width, height))
    left, upper = (96 - width) // 2, (96 - height) // 2
    inside = np.asarray(cell.crop((left, upper, left + width, upper + height)), dtype=float)
    # Two JPEG encodings of a smooth picture: a few of 255 levels.
    assert np.abs(inside - np.asarray(thumbnail, dtype=float)).mean() < 4


def test_heat_maps_sum_to_the_projection_of_the_whole_effect(world: World, site: Path) -> None:
    facts = facts_of(site)
    layer, neuron = world.atlas.layer(0), 33
    row = neuron_row(site, "data/layers/00/heat", facts["heat"]["fields"], neuron, 48)
    assert facts["heat"]["grid"] == [2, 2]
    expected = layer.top_projections[neuron, :6] + layer.mean_effects[neuron] @ layer.directions[neuron]
    scale = float(layer.top_norms[neuron, 0])
    # float32 sums over paths and tokens.
    assert np.allclose(row["total"], expected.numpy(), atol=1e-5 * scale)
    effect = row["effect"].astype(np.float64) / 127 * row["sizes"][:, 1:]
    # Four patches, each rounded to half a step of 1/127 of the largest.
    assert np.all(np.abs(effect.sum(axis=1) + row["elsewhere"] - row["total"]) <= 2.1 / 127 * row["sizes"][:, 1])
    assert np.abs(row["activation"]).max(axis=1).tolist() == [127] * 6


def test_heat_maps_of_one_neuron_are_those_of_all(world: World, site: Path) -> None:
    source = surveyed_images(world.atlas)
    alone = heat_maps(world.model, world.atlas, source, [1], images=6, neurons=torch.tensor([40]))[1]
    row = neuron_row(site, "data/layers/01/heat", facts_of(site)["heat"]["fields"], 40, 48)
    # Batches of other sizes may round the last bit of float32 differently: at most one step of a byte.
    assert np.abs(alone.effect[0].numpy().astype(int) - row["effect"].astype(int)).max() <= 1
    assert np.allclose(alone.total[0].numpy(), row["total"], rtol=1e-4, atol=1e-7)


def test_two_atlases_match_by_their_top_images(world: World, site: Path) -> None:
    beside = facts_of(site)["comparison"]
    assert (beside["layers"], beside["matches"], beside["chance"]) == ([1], 3, 0.5)
    rng = np.random.default_rng(0)
    draws = rng.hypergeometric(20, 20, 20, (4000, 48)).max(axis=1)
    assert beside["chance_best"] == np.median(draws) / 20
    numbers = np.fromfile(site / "data/layers/01/comparison.bin", "<i4", 48 * 3).reshape(48, 3)
    overlaps = np.fromfile(site / "data/layers/01/comparison.bin", "<f4", offset=48 * 3 * 4).reshape(48, 3)
    # The same model on the same images: every neuron matches itself wholly.
    assert all(neuron in numbers[neuron] for neuron in range(48))
    assert np.all(overlaps[:, 0] == 1)
    tops = world.atlas.layer(0).top_positions[:, :20]
    others = Atlas.open(site.parent / "other").layer(1).top_positions
    best = [max(len(set(mine) & set(other)) for other in others.tolist()) / 20 for mine in tops.tolist()]
    assert beside["medians"][0][0] == pytest.approx(np.median(best))


def test_atlases_of_other_images_are_not_compared(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "atlas"
    shutil.copytree(world.atlas.folder, folder)
    other = Atlas.open(folder)
    other.__dict__["source_ids"] = world.atlas.source_ids[:-1]
    with pytest.raises(AtlasError, match="the same images"):
        compare_atlases(world.atlas, other)


def test_an_ablation_study_is_drawn_from_its_file(world: World, tmp_path: Path) -> None:
    study = {
        "images": 7,
        "classes": 2,
        "layers": [
            {"layer": 1, "baseline": 0.5, "rank_one": 1, "intervals": {"baseline": [0.4, 0.6], "rank_one": [1, 1]}}
        ],
    }
    path = tmp_path / "ablations.json"
    path.write_text(json.dumps(study))
    values = {"baseline": [0.5, 0.4, 0.6], "rank_one": [1.0, 1.0, 1.0]}
    assert read_ablations(path) == {"images": 7, "layers": [{"layer": 1, "values": values}]}
    del study["layers"][0]["baseline"]  # type: ignore[index]
    for wrong in (json.dumps(study), "{}", "[", "null"):
        path.write_text(wrong)
        with pytest.raises(AtlasError, match="cannot read an ablation study"):
            export(world.atlas, tmp_path / "site", ablations=path)
    assert not (tmp_path / "site").exists()


@pytest.mark.parametrize("picture", ["../../secret.png", "/etc/hostname", "gallery/none.png", "summary.json"])
def test_an_attack_shows_only_pictures_of_its_report(world: World, tmp_path: Path, picture: str) -> None:
    folder = save_attack(tmp_path / "attack")
    (tmp_path / "secret.png").write_bytes(b"secret")
    assert set(read_attack(folder)[1]) == {"data/attack/000.png", "data/attack/000-map.png"}
    summary = json.loads((folder / "report/summary.json").read_text())
    summary["gallery"][0]["image"] = picture
    (folder / "report/summary.json").write_text(json.dumps(summary))
    with pytest.raises(AtlasError, match="no PNG file of that folder"):
        export(world.atlas, tmp_path / "site", attack=folder)
    with pytest.raises(AtlasError, match="cannot read an attack's report"):
        export(world.atlas, tmp_path / "site", attack=tmp_path)


def test_an_export_replaces_a_site_and_nothing_else(world: World, tmp_path: Path) -> None:
    out = tmp_path / "site"
    first = export(world.atlas, out)
    (out / "stale.txt").write_text("old")
    assert export(world.atlas, out)["files"] == first["files"]
    assert not (out / "stale.txt").exists()
    assert sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) == first["bytes"]
    assert ExportedSite(out).read("data/site.json") == (out / "data/site.json").read_bytes()
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    with pytest.raises(AtlasError, match="something else"):
        export(world.atlas, mine)
    assert (mine / "thesis.txt").read_text() == "years of work"
    with pytest.raises(AtlasError, match="neither an atlas nor an exported site"):
        ExportedSite(mine)


def test_heat_maps_want_the_model_and_images_of_the_survey(world: World, clip: LensModel, tmp_path: Path) -> None:
    with pytest.raises(AtlasError, match="not of"):
        export(world.atlas, tmp_path / "x", model=clip, source=surveyed_images(world.atlas))
    some = tmp_path / "some"
    some.mkdir()
    shutil.copy(world.pictures / "picture-01.png", some)
    with pytest.raises(ImageError, match="expected the 40 images"):
        surveyed_images(world.atlas, some)


def test_links_out_of_an_exported_site_are_not_served(site: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(site, copy)
    (copy / "secret.txt").symlink_to("/etc/hostname")
    assert "secret.txt" not in ExportedSite(copy).names


def test_slices_and_layout() -> None:
    assert [(number, rows.start, rows.stop) for number, rows in slices(70)] == [(0, 0, 32), (1, 32, 64), (2, 64, 70)]
    fields = [Field("a", "int32", (2,)), Field("b", "int8", ())]
    assert pack(fields, {"a": np.array([[1, 2], [3, 4]]), "b": np.array([5, 6])}, 2).hex() == (
        "01000000020000000300000004000000" + "0506"
    )
    with pytest.raises(SecondLensError, match=r"expected a of shape \[2, 2\], got \[1, 2\]"):
        pack(fields, {"a": np.array([[1, 2]]), "b": np.array([5, 6])}, 2)
    assert content_type("a/b.js").startswith("text/javascript")
