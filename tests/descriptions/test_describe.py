"""Descriptions of a small atlas: figures, resumption, refusals, search, and the command line."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import secondlens as sl
from builders import WORDS, save_worded
from commands import Result
from secondlens.cli import app
from secondlens.descriptions import Descriptions, describe, search_neurons
from secondlens.descriptions import parts as module
from secondlens.descriptions.pool import Pool
from secondlens.descriptions.pools import find_pools, open_pool
from secondlens.errors import AtlasError, ModelError, TextError
from secondlens.lens import LensModel, load_model
from secondlens.numerics.sparse.codes import sparse_decompose

SETTINGS: dict[str, Any] = {"nonzero": 6, "null_draws": 19}


@pytest.fixture(scope="module")
def surveyed(worded_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("surveyed")
    noise = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    (folder / "pictures").mkdir()
    for number, picture in enumerate(noise):
        Image.fromarray(picture).save(folder / "pictures" / f"{number:02d}.png")
    sl.survey(f"hf:{worded_folder}", folder / "pictures", folder / "atlas", layers=[0, 1], top=5)
    return folder / "atlas"


@pytest.fixture
def atlas(surveyed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> sl.Atlas:
    # Fewer random sets of words: what they are for is tested beside.
    monkeypatch.setattr("secondlens.descriptions.senses.DRAWS", 10)
    return sl.Atlas.open(shutil.copytree(surveyed, tmp_path / "atlas"))


@pytest.fixture
def pool(worded: LensModel, cache: Path) -> Pool:
    return open_pool(WORDS, worded, name="My words")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("layer-*"))}


def test_a_description_is_the_decomposition(atlas: sl.Atlas, pool: Pool) -> None:
    told: dict[str, list[tuple[int, int]]] = {}
    found = describe(
        atlas, pool, **SETTINGS, progress=lambda title, done, total: told.setdefault(title, []).append((done, total))
    )
    assert found.folder == atlas.folder / "descriptions" / "my-words"
    assert found.sizes == [4, 6]
    assert {path.name for path in found.folder.iterdir()} == {"description.json", *found.card.files}
    assert {title: calls[-1] for title, calls in told.items()} == {"layer 0": (86, 86), "layer 1": (86, 86)}
    assert all(calls == sorted(calls) for calls in told.values())
    for layer in (0, 1):
        directions = atlas.layer(layer).directions
        codes = sparse_decompose(directions, pool.embeddings, 6)
        table = found.table(layer).to_pylist()
        assert [row["row"] for row in table] == codes.indices.flatten().tolist()
        assert [(row["neuron"], row["rank"]) for row in table] == [(n, k) for n in range(48) for k in range(6)]
        assert [row["text"] for row in table] == [pool.texts[row["row"]] for row in table]
        coefficients = torch.tensor([row["coefficient"] for row in table]).view(48, 6)
        torch.testing.assert_close(coefficients, codes.coefficients)
        shares = torch.tensor([row["fraction"] for row in table]).view(48, 6)
        torch.testing.assert_close(shares.sum(dim=1), torch.ones(48))
        made = torch.einsum("nj,nje->ne", codes.coefficients.double(), codes.dictionary[codes.indices])
        parts = codes.dictionary[codes.indices] * codes.coefficients[:, :, None]
        by_hand = torch.einsum("nje,ne->nj", parts, made) / made.square().sum(dim=1, keepdim=True)
        torch.testing.assert_close(shares.double(), by_hand, rtol=1e-4, atol=1e-5)
        figures = found.figures(layer)
        cosine = torch.cosine_similarity(made, directions.double(), dim=1)
        torch.testing.assert_close(figures["cosines"][:, 1].double(), cosine, rtol=1e-5, atol=1e-6)
        for kind in ("isotropic", "matched"):
            assert figures[f"null_{kind}"].shape == (19, 2)
            beaten = (figures["cosines"][:, None] > figures[f"null_{kind}"]).sum(dim=1)
            torch.testing.assert_close(figures[f"p_{kind}"], (20 - beaten) / 20)
        assert bool(((figures["polysemy"] >= 1 - 1e-5) & (figures["polysemy"] <= 6 + 1e-5)).all())
        senses = torch.tensor([row["sense"] for row in table]).view(48, 6)
        assert torch.equal(senses.max(dim=1).values + 1, figures["senses"].long())
        assert figures["top_senses"].shape == (48, 5)
        assert bool((figures["top_senses"] < figures["senses"][:, None]).all())
        assert bool((figures["top_senses"] >= 0).all())


def test_one_neuron_as_plain_data(atlas: sl.Atlas, pool: Pool) -> None:
    found = describe(atlas, pool, **SETTINGS)
    card = found.neuron(1, 7)
    json.dumps(card)
    assert card["pool"] == "My words"
    sizes = [abs(row["fraction"]) for row in card["texts"]]
    assert sizes == sorted(sizes, reverse=True)
    assert {row["text"] for row in card["texts"]} == set(found.table(1, 7)["text"].to_pylist())
    assert sum(sense["images"] for sense in card["senses"]) == len(card["top_senses"]) == 5
    assert sum(len(sense["texts"]) for sense in card["senses"]) == 6
    assert sum(sense["fraction"] for sense in card["senses"]) == pytest.approx(sum(sizes))
    against = {"-" + row["text"] for row in card["texts"] if row["coefficient"] < 0}
    assert against == {text for sense in card["senses"] for text in sense["texts"] if text.startswith("-")}
    assert [row["texts"] for row in card["quality"]] == [4, 6]
    assert card["quality"][1]["cosine"] == pytest.approx(float(found.figures(1)["cosines"][7, 1]))
    assert found.words(1, 7).startswith(card["senses"][0]["texts"][0])
    for neuron in (-1, 48):
        with pytest.raises(AtlasError, match=f"neurons 0 to 47, got {neuron}"):
            found.neuron(1, neuron)
    for read in (found.table, found.figures):
        with pytest.raises(AtlasError, match=r"layer 2 is not described; .* has layers 0, 1"):
            read(2)


@pytest.mark.parametrize("stop", [1, 2, 4, 8, 13])
def test_an_interrupted_description_goes_on(
    atlas: sl.Atlas, pool: Pool, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    monkeypatch.setattr(module, "PART", 20)
    signals: list[int] = []

    def counted(directions: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        signals.append(len(directions))
        return sparse_decompose(directions, *arguments, **options)

    monkeypatch.setattr(module, "sparse_decompose", counted)
    whole = describe(atlas, pool, **SETTINGS, name="whole")
    assert signals == [20, 20, 8, 19, 19] * 2
    folder = atlas.folder / "descriptions" / "cut"
    calls = 0

    def interrupt(title: str, done: int, total: int) -> None:
        nonlocal calls
        calls += 1
        if calls == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        describe(atlas, pool, **SETTINGS, name="cut", progress=interrupt)
    assert not (folder / "description.json").exists()
    assert Descriptions.names(atlas) == ["whole"]
    if stop > 1:
        for change, message in (
            ({"nonzero": 5}, "nonzero was 6, is 5"),
            ({"null_draws": 20}, "n resamples was 19, is 20"),
            ({"seed": 1}, "seed was 0, is 1"),
            ({"nonnegative": True}, "nonnegative was False, is True"),
        ):
            with pytest.raises(AtlasError, match=f"cut.* made with other settings: {message}"):
                describe(atlas, pool, **{**SETTINGS, **change}, name="cut")
    signals.clear()
    cut = describe(atlas, pool, **SETTINGS, name="cut")
    assert sum(signals) == 172 - {1: 0, 2: 20, 4: 40, 8: 48 + 19, 13: 86 + 20}[stop]
    assert contents(cut.folder) == contents(whole.folder)
    assert cut.card.files == whole.card.files
    assert not (cut.folder / "progress").exists()
    assert Descriptions.names(atlas) == ["cut", "whole"]


def test_a_finished_description_is_not_made_again(
    atlas: sl.Atlas, pool: Pool, worded: LensModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = describe(atlas, pool, **SETTINGS)
    monkeypatch.setattr(module, "sparse_decompose", None)
    assert describe(atlas, pool, **SETTINGS).card == first.card
    with pytest.raises(AtlasError, match=r"nonzero was 6, is 4; .* give it another name with --name"):
        describe(atlas, pool, 4, null_draws=19)
    with pytest.raises(AtlasError, match=r"pool key was"):
        describe(atlas, open_pool(WORDS[1:], worded, name="My words"), **SETTINGS)


def test_settings_that_do_not_work_leave_nothing_behind(atlas: sl.Atlas, pool: Pool) -> None:
    for change, message in (
        ({"normalisation": "units"}, "did you mean 'unit'"),
        ({"null_draws": -1}, "0 or more random directions, got -1"),
        ({"nonzero": len(WORDS) + 1}, rf"needs a pool of as many; 'My words' has {len(WORDS)}: give -m {len(WORDS)}"),
        ({"nonzero": 0}, "a description of 0 texts"),
    ):
        with pytest.raises(TextError, match=message):
            describe(atlas, pool, **{**SETTINGS, **change})
    assert describe(atlas, pool, **SETTINGS).card.settings.nonzero == 6


def test_variants(atlas: sl.Atlas, pool: Pool) -> None:
    plain = describe(atlas, pool, **SETTINGS, name="plain")
    positive = describe(atlas, pool, **SETTINGS, nonnegative=True, name="positive")
    assert min(positive.table(0)["coefficient"].to_pylist()) >= 0 > min(plain.table(0)["coefficient"].to_pylist())
    bare = describe(atlas, pool, 6, null_draws=0, name="bare")
    assert (bare.figures(0)["p_matched"] == 1).all()
    assert torch.equal(bare.figures(0)["cosines"], plain.figures(0)["cosines"])


def test_a_pool_of_another_model(atlas: sl.Atlas, tmp_path: Path, cache: Path) -> None:
    other = open_pool(WORDS, load_model(f"hf:{save_worded(tmp_path / 'other', seed=1)}"))
    with pytest.raises(AtlasError, match=r"pool 'texts' was encoded by hf:.*other.*their weights differ"):
        describe(atlas, other, **SETTINGS)
    assert not (atlas.folder / "descriptions").exists()


def test_names_and_opening(atlas: sl.Atlas, pool: Pool) -> None:
    assert Descriptions.names(atlas) == []
    with pytest.raises(AtlasError, match="has no descriptions yet; make them with: secondlens describe"):
        Descriptions.open(atlas)
    for name in ("First list", "second"):
        describe(atlas, pool, 2, null_draws=0, name=name)
    assert Descriptions.names(atlas) == ["second", "first-list"]
    assert Descriptions.open(atlas).folder.name == "second"
    assert Descriptions.open(atlas, "First list").folder.name == "first-list"
    with pytest.raises(AtlasError, match=r"no descriptions over 'secnd' \(did you mean 'second'\?\); known"):
        Descriptions.open(atlas, "secnd")
    (atlas.folder / "descriptions" / "second" / "description.json").write_text("{")
    with pytest.raises(AtlasError, match=r"cannot read .*description\.json.*describe again"):
        Descriptions.open(atlas, "First list")


def test_search_is_a_product(atlas: sl.Atlas, worded: LensModel, tmp_path: Path) -> None:
    text = "photo of bat"
    vector = worded.encode_texts([text])[0]
    scores = {
        (layer, neuron): float(atlas.layer(layer).directions[neuron] @ vector)
        for layer in (0, 1)
        for neuron in range(48)
    }
    key: Callable[[float], float]
    for absolute, key in ((False, float), (True, abs)):
        found = search_neurons(atlas, worded, text, limit=96, absolute=absolute)
        assert {(row["layer"], row["neuron"]) for row in found} == set(scores)
        for row in found:
            assert row["score"] == pytest.approx(scores[row["layer"], row["neuron"]], abs=1e-6)
        ranked = [key(row["score"]) for row in found]
        assert ranked == sorted(ranked, reverse=True)
    assert found[0] == search_neurons(atlas, worded, text, limit=1, absolute=True)[0]
    assert {row["layer"] for row in search_neurons(atlas, worded, text, layer=1)} == {1}
    assert len(search_neurons(atlas, worded, text)) == 20
    with pytest.raises(AtlasError, match="layer 2 is not in this atlas"):
        search_neurons(atlas, worded, text, layer=2)
    with pytest.raises(ModelError, match="longer than the model's context"):
        search_neurons(atlas, worded, "bat " * 99)
    with pytest.raises(AtlasError, match="is an atlas of"):
        search_neurons(atlas, load_model(f"hf:{save_worded(tmp_path / 'other', seed=1)}"), text)


def test_the_command_line(
    command: Callable[..., Result], worded: LensModel, pictures: Path, tmp_path: Path, cache: Path
) -> None:
    def run(*arguments: object) -> dict[str, Any]:
        result = command(*arguments, "--json")
        assert result.returncode == 0, result.stderr
        (line,) = result.stdout.splitlines()
        return json.loads(line)

    (tmp_path / "things.txt").write_text("\n".join([*WORDS, "bat", "bat " * 90]))
    (tmp_path / "block.txt").write_text("Den\n")
    options = ("--model", worded.reference, "--block", tmp_path / "block.txt", "--template", "a {}")
    made = run("pool", "create", tmp_path / "things.txt", *options, "--name", "Things")
    count = len(WORDS) - 1
    assert {"name": "Things", "count": count, "templates": ["a {}"], "truncated": False}.items() <= made.items()
    assert made["left_out"] == {"blocked": 1, "duplicate": 1, "longer than the context": 1}
    ((_folder, card),) = find_pools()
    assert json.loads(card.model_dump_json()) == made
    out = tmp_path / "atlas"
    ran = run(
        "run", worded.reference, pictures, "--out", out, "--layers", "0-1", "--pool", "Things", "-m", 5, "--workers", 0
    )
    assert {"pool": "Things", "texts": 5, "description": str(out / "descriptions" / "things")}.items() <= ran.items()
    assert [(row["layer"], row["texts"]) for row in ran["layers"]] == [(0, 4), (0, 5), (1, 4), (1, 5)]
    assert set(ran["polysemy"]) == {"0", "1"}
    opened = sl.Atlas.open(out)
    assert opened.manifest.top == 4
    found = Descriptions.open(opened)
    assert ran["layers"][1]["cosine"] == pytest.approx(float(found.figures(0)["cosines"][:, 1].median()))


def test_commands_in_process(
    worded: LensModel,
    atlas: sl.Atlas,
    pool: Pool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    tmp_path: Path,
) -> None:
    """The entry point without the seconds that a fresh interpreter needs to import torch."""

    def command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["secondlens", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit:
            app.main()
        captured = capsys.readouterr()
        return int(exit.value.code or 0), captured.out, captured.err

    def data(*arguments: object) -> dict[str, Any]:
        code, out, err = command(*arguments, "--json")
        assert code == 0, err
        return json.loads(out)

    folder = atlas.folder
    assert [card["name"] for card in data("pool", "list")["pools"]] == ["My words"]
    (shown,) = data("pool", "show", "My words", "--limit", 3)["pools"]
    assert shown["texts"] == WORDS[:3]
    assert data("neurons", "show", folder, 1, 7)["texts"] == []
    said = data("describe", folder, "--pool", "My words", "-m", 6, "--null-draws", 19)
    assert {"pool": "My words", "texts": 6}.items() <= said.items()
    found = Descriptions.open(atlas)
    assert found.card.settings.n_resamples == 19
    data("describe", folder, "--pool", "My words", "-m", 3, "--null-draws", 0, "--name", "short")
    card = data("neurons", "show", folder, 1, 7, "--pool", "My words")
    assert {key: card[key] for key in ("texts", "senses", "quality", "polysemy")} == {
        key: found.neuron(1, 7)[key] for key in ("texts", "senses", "quality", "polysemy")
    }
    assert len(data("neurons", "show", folder, 1, 7)["texts"]) == 3
    searched = data("neurons", "search", worded.reference, folder, "photo of bat", "--limit", 4, "--absolute")
    assert searched["text"] == "photo of bat"
    assert searched["neurons"] == search_neurons(atlas, worded, "photo of bat", limit=4, absolute=True)
    for arguments, word in (
        (("pool", "list"), "My words"),
        (("pool", "show", "My words"), "averaged" if len(pool.card.templates) > 1 else "{}"),
        (("neurons", "show", folder, 1, 7), "written against"),
        (("neurons", "search", worded.reference, folder, "bat"), "directions along 'bat'"),
    ):
        code, out, err = command(*arguments)
        assert code == 0, err
        assert word in out
    (tmp_path / "latin.txt").write_bytes("café".encode("latin1"))
    for arguments, message in (
        (("pool", "create", "word-10k", "--model", worded.reference), "did you mean 'words-10k'"),
        (("pool", "create", "labels", "--model", worded.reference), "is no classifier"),
        (("pool", "create", tmp_path / "latin.txt", "--model", worded.reference), "is not UTF-8 text (line 1"),
        (("pool", "create", ".", "--model", worded.reference, "--template", "photo"), "s a directory"),
        (("pool", "show", "my words"), "did you mean 'My words'"),
        (("describe", folder, "--pool", "My words", "-m", 99, "--name", "x"), "give -m"),
        (("describe", folder, "--pool", "My words", "--normalisation", "units", "--name", "x"), "did you mean 'unit'"),
        (("describe", folder, "--pool", "My words", "-m", 5), "nonzero was 6, is 5"),
        (("describe", tmp_path, "--pool", "My words"), "is no atlas"),
        (("neurons", "show", folder, 1, 7, "--pool", "other"), "no descriptions over 'other'"),
        (("neurons", "search", worded.reference, folder, "bat", "--layer", 2), "layer 2 is not in this atlas"),
    ):
        code, out, err = command(*arguments)
        assert code == 2, (arguments, err)
        assert message in err
        assert out == ""
        assert [line for line in err.splitlines() if line.startswith("secondlens:")] == [err.strip().splitlines()[-1]]
        assert "Traceback" not in err
