"""Training the world's CLIP: a run that goes on, losses, batches; on a few scenes and a tiny tower."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

import secondlens as sl
from secondlens.errors import WorldError
from secondlens.studies.laboratory import rendered, training
from secondlens.studies.laboratory.measure import measure
from secondlens.studies.laboratory.model import make_tokenizer
from secondlens.studies.laboratory.rendered import DENSE, Recipe, Rendered, dense_labels, tokens_of
from secondlens.studies.laboratory.settings import Settings
from secondlens.studies.laboratory.training import contrastive_loss, train, train_stages
from secondlens.world.captions import all_words, caption
from secondlens.world.render import render
from secondlens.world.sampler import scene_at
from secondlens.world.vocabulary import NOUNS

TINY = Settings(scenes=16, easy_scenes=16, steps=4, batch=8, warmup=1, width=32, layers=6, heads=2, embed=16)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for runs whose shards are small."""
    small_shards(monkeypatch, 16)
    monkeypatch.setattr(training, "CHECKPOINT", 2)
    return tmp_path / "work"


def small_shards(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Make shards of a few scenes, in this process: a spawned one would make full shards."""
    monkeypatch.setattr(rendered, "SHARD", size)
    monkeypatch.setattr(rendered, "ProcessPoolExecutor", lambda max_workers, mp_context: ThreadPoolExecutor(1))


def checkpoint(work: Path) -> dict[str, torch.Tensor]:
    """The state in a run's folder, which has the last one alone."""
    (path,) = (work / "checkpoints").glob("*.safetensors")
    return load_file(path)


def test_an_interrupted_run_ends_as_if_it_had_not_been(work: Path, tmp_path: Path) -> None:
    train(tmp_path / "whole", work, TINY, workers=1)
    shutil.rmtree(work / "checkpoints")

    def stop(title: str, done: int, total: int) -> None:
        if title == "training" and done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "parts", work, TINY, workers=1, progress=stop)
    assert int(checkpoint(work)["step"]) == 2
    train(tmp_path / "parts", work, TINY, workers=1)
    whole, parts = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    for name, tensor in whole.items():
        assert torch.equal(tensor, parts[name]), name
    with pytest.raises(WorldError, match="other settings"):
        train(tmp_path / "parts", work, replace(TINY, rate=1.0), workers=1)


def test_stages_go_on_from_each_other_and_a_frozen_text_tower_stays(work: Path, tmp_path: Path) -> None:
    first, second = TINY, replace(TINY, frozen_text=True, stop=2)
    train_stages(tmp_path / "out", tmp_path / "stages", [first, second], workers=1)
    before, after = (
        load_file(folder / "model.safetensors") for folder in (tmp_path / "stages/stage-1/model", tmp_path / "out")
    )
    same = {name for name, tensor in before.items() if torch.equal(tensor, after[name])}
    assert {name for name in before if name.startswith("text_")} <= same
    assert not {name for name in before if name.startswith("vision_model.encoder") and name.endswith("weight")} & same
    train(tmp_path / "alone", work, second, start=tmp_path / "stages/stage-1/model", workers=1)
    alone = load_file(tmp_path / "alone" / "model.safetensors")
    assert all(torch.equal(tensor, alone[name]) for name, tensor in after.items())


def test_a_run_that_stops_is_what_an_interrupted_one_was(work: Path, tmp_path: Path) -> None:
    train(tmp_path / "stopped", work, replace(TINY, stop=2), workers=1)
    stopped = checkpoint(work)
    assert int(stopped["step"]) == 2
    shutil.rmtree(work / "checkpoints")
    kept: dict[str, torch.Tensor] = {}

    def keep(title: str, done: int, total: int) -> None:
        if title == "training" and done == 3 and not kept:
            kept.update(checkpoint(work))

    train(tmp_path / "whole", work, TINY, workers=1, progress=keep)
    assert kept.keys() == stopped.keys()
    assert all(torch.equal(tensor, kept[name]) for name, tensor in stopped.items())


def test_lazy_captions_name_what_is_not_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_shards(monkeypatch, 40)
    shown = {}
    for lazy in (0.0, 1.0):
        scenes = Rendered(tmp_path / str(lazy), Recipe(40, "biased", 1, 0, None, lazy))
        scenes.make()
        (shown[lazy],) = scenes.arrays()["patches"]
    for row in range(40):
        noun = NOUNS.index(scene_at(0, row, objects=1).objects[0].noun)
        assert noun in shown[0.0][row, 0]
        assert noun not in shown[1.0][row, 0]


def test_what_is_written_loads_as_any_clip(work: Path, tmp_path: Path) -> None:
    train(tmp_path / "out", work, TINY, workers=1)
    model = sl.load_model(f"hf:{tmp_path / 'out'}")
    assert (model.layers, model.heads, model.embed_dim) == (6, 2, 16)
    assert model.neurons == 128
    found = measure(model, scenes=8, groups=1)
    assert set(found) >= {"noun", "colour", "texture", "background", "noun_counter", "noun_swapped", "retrieval"}
    assert all(0 <= value <= 1 for value in found.values())


def test_tokens_are_those_of_the_tokenizer() -> None:
    tokenizer = make_tokenizer(all_words())
    rng = np.random.default_rng(0)
    texts = [caption(scene_at(0, index), rng) for index in range(50)]
    ours = tokens_of(texts)
    theirs = tokenizer(texts, padding="max_length", max_length=ours.shape[1])["input_ids"]
    assert ours.tolist() == theirs
    assert tokenizer.unk_token_id not in ours


def test_dense_labels_follow_the_masks() -> None:
    for index in range(20):
        scene = scene_at(5, index)
        masks = render(scene).masks
        labels = dense_labels(scene, masks)
        assert labels.shape == (3, 64)
        for patch in range(64):
            row, column = divmod(patch, 8)
            shares = masks[:, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8].mean(axis=(1, 2))
            for (name, values), found in zip(DENSE.items(), labels[:, patch], strict=True):
                if shares.max() < 0.25:
                    assert found == len(values)
                else:
                    assert found == values.index(getattr(scene.objects[int(shares.argmax())], name))


def test_equal_captions_share_the_target() -> None:
    torch.manual_seed(0)
    images, texts = torch.randn(4, 8), torch.randn(4, 8)
    different = torch.arange(4)[:, None] * torch.ones(1, 32, dtype=torch.long)
    logits = 3 * functional.normalize(images, dim=1) @ functional.normalize(texts, dim=1).T
    plain = (
        functional.cross_entropy(logits, torch.arange(4)) + functional.cross_entropy(logits.T, torch.arange(4))
    ) / 2
    torch.testing.assert_close(contrastive_loss(images, texts, torch.tensor(3.0), different), plain)
    same = different.clone()
    same[1] = same[0]
    target = torch.eye(4)
    target[:2, :2] = 0.5
    soft = (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2
    torch.testing.assert_close(contrastive_loss(images, texts, torch.tensor(3.0), same), soft)


def test_a_folder_of_another_recipe_is_refused(work: Path) -> None:
    Rendered(work / "easy", Recipe(16, "biased", 1, 1)).make()
    with pytest.raises(WorldError, match="another recipe"):
        Rendered(work / "easy", Recipe(16, "unbiased", 1, 1)).make()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]", "expected a JSON object"),
        ("{", "cannot read settings"),
        ('{"step": 3}', "did you mean 'steps'"),
        ('{"steps": "many"}', "expected a whole number"),
        ('{"steps": 0.5}', "expected a whole number"),
        ('{"rate": true}', "expected a number"),
        ('{"kind": 1}', "expected a text"),
        ('{"frozen_text": 1}', "expected true or false"),
    ],
)
def test_settings_that_are_none(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "settings.json").write_text(content)
    with pytest.raises(WorldError, match=message):
        Settings.load(tmp_path / "settings.json")


def test_settings_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text('{"steps": 7, "rate": 1}')
    assert Settings.load(tmp_path / "settings.json") == replace(Settings(), steps=7, rate=1.0)
