"""Directions of indirect effects as a file: against the effects themselves, interrupted, refused, and in an attack."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from secondlens.analysis import indirect_directions
from secondlens.analysis.indirect_directions import write_indirect_directions
from secondlens.atlas import Atlas
from secondlens.atlas.surveyed import surveyed_images
from secondlens.cli.app import app
from secondlens.data.decode import decode
from secondlens.data.loader import processing_order
from secondlens.errors import AtlasError, SecondLensError
from secondlens.lens import LensModel
from secondlens.lens.capture import capture
from secondlens.lens.indirect import MeanActivations, indirect_effects
from secondlens.progress import Running
from tiny_world import world_cache, world_folder, world_model

__all__ = ["world_cache", "world_folder", "world_model"]


@pytest.fixture
def atlas(world_cache: Path) -> Atlas:
    return Atlas.open(world_cache / "atlas")


def test_directions_are_those_of_the_effects(world_model: LensModel, atlas: Atlas, tmp_path: Path) -> None:
    source = surveyed_images(atlas)
    out = tmp_path / "indirect.safetensors"
    found = write_indirect_directions(world_model, atlas, source, [1], out, limit=24, running=Running(7))
    # 10 of 60 are a neuron's top images in the atlas: 4 of 24.
    assert (found["images"], found["top"], found["layers"]) == (24, 4, [1])
    order = processing_order(len(source.ids))[:24]
    pixels = world_model.preprocess([decode(source.read(place)) for place in order])
    means = MeanActivations()
    means.update(capture(world_model.tower, pixels, [1]).activations[1])
    effects = indirect_effects(world_model, pixels, 1, means.result()).double()
    centred = effects - effects.mean(dim=0)
    tensors = load_file(out)
    for neuron in (0, 5, world_model.neurons - 1):
        top = centred[:, neuron][centred[:, neuron].norm(dim=1).argsort(descending=True)[:4]]
        _, values, rows = torch.linalg.svd(top)
        direction = tensors["layer-01"][neuron].double()
        # Effects are float32: components of near ties turn a little.
        assert abs(float(direction @ rows[0])) > 1 - 1e-4
        assert float((top @ direction > 0).double().mean()) >= 0.5
        share = float(values[0].square() / values.square().sum())
        assert abs(float(tensors["layer-01-explained"][neuron]) - share) < 1e-4


def test_an_interrupted_run_goes_on(
    world_model: LensModel, atlas: Atlas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indirect_directions, "PART", 16)
    source, whole, out = surveyed_images(atlas), tmp_path / "whole", tmp_path / "out"
    write_indirect_directions(world_model, atlas, source, [0, 1], whole, limit=6)
    calls: list[list[int]] = []
    real = indirect_directions.effects_of

    def effects_of(tower, layer, clean, means, neurons, **options):  # type: ignore[no-untyped-def]
        calls.append(list(neurons))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(tower, layer, clean, means, neurons, **options)

    monkeypatch.setattr(indirect_directions, "effects_of", effects_of)
    with pytest.raises(KeyboardInterrupt):
        write_indirect_directions(world_model, atlas, source, [0, 1], out, limit=6)
    assert not out.exists()
    with pytest.raises(SecondLensError, match="count was 6, is 5"):
        write_indirect_directions(world_model, atlas, source, [0, 1], out, limit=5)
    calls.clear()
    calls.append([])
    calls.append([])
    calls.append([])
    write_indirect_directions(world_model, atlas, source, [0, 1], out, limit=6)
    # Three parts a layer of 48 neurons; two were kept.
    assert len(calls) == 3 + 4
    ours, theirs = load_file(out), load_file(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "whole"]
    # A finished file is not made again, nor mixed up with another's settings.
    write_indirect_directions(world_model, atlas, source, [0, 1], out, limit=6)
    assert len(calls) == 3 + 4
    with pytest.raises(SecondLensError, match="other settings"):
        write_indirect_directions(world_model, atlas, source, [0, 1], out, limit=7)


def test_what_cannot_be_measured(world_model: LensModel, atlas: Atlas, clip: LensModel, tmp_path: Path) -> None:
    source = surveyed_images(atlas)
    with pytest.raises(SecondLensError, match="two reference images"):
        write_indirect_directions(world_model, atlas, source, [0], tmp_path / "x", limit=1)
    with pytest.raises(AtlasError):
        write_indirect_directions(world_model, atlas, source, [7], tmp_path / "x")
    with pytest.raises(AtlasError):
        write_indirect_directions(clip, atlas, source, [0], tmp_path / "x")


def test_the_attack_computes_them_or_reads_the_commands_file(world_cache: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    model, atlas = f"hf:{world_cache / 'model'}", str(world_cache / "atlas")

    def call(*words: object) -> dict[str, object]:
        result = runner.invoke(app, [*map(str, words), "--json"])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    file = tmp_path / "indirect.safetensors"
    call("study", "indirect", model, atlas, "--out", file, "--layers", "1", "--limit", 20)
    attack = ("attack", "run", model, atlas, "--pair", "cat:boat", "--llm", "world:", "--images", "world:", "--judge",
              "exact", "--preset", "smallest", "--similarity", "name", "--layers", "1", "--method", "second-order",
              "--method", "indirect")  # fmt: skip
    read = call(*attack, "--out", tmp_path / "read", "--indirect", file)
    made = call(*attack, "--out", tmp_path / "made", "--indirect", "compute", "--indirect-images", 20)
    assert [row["method"] for row in made["binary"]["methods"]] == ["second-order", "indirect"]
    assert made["binary"] == read["binary"]
    assert (tmp_path / "made" / "indirect.safetensors").read_bytes() == file.read_bytes()
