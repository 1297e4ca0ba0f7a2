"""Table 1: statistics of indirect effects against a plain singular value decomposition, accuracies, the command."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

import secondlens as sl
from builders import VIT
from secondlens.analysis.indirect_directions import write_indirect_directions
from secondlens.atlas.surveyed import surveyed_images
from secondlens.cli.app import app
from secondlens.data.labelled import open_labelled
from secondlens.data.loader import processing_order
from secondlens.data.sources import open_source
from secondlens.errors import ImageError
from secondlens.lens import LensModel
from secondlens.lens.capture import capture
from secondlens.lens.indirect import IndirectStatistics, MeanActivations, indirect_effect_of_set, indirect_effects
from secondlens.progress import Running
from secondlens.studies.indirect import study_table1
from secondlens.viewer.heat import heat_maps


@pytest.fixture
def table(pictures: Path, tmp_path: Path) -> Path:
    path = tmp_path / "labels.csv"
    files = sorted(pictures.iterdir())
    path.write_text("file,label\n" + "".join(f"{file},{number % 4}\n" for number, file in enumerate(files)))
    return path


def test_statistics_equal_a_plain_decomposition() -> None:
    generator = torch.Generator().manual_seed(0)
    effects = torch.randn(50, 40, 12, generator=generator, dtype=torch.float64) + 0.3
    effects[:, 7] *= torch.linspace(0.01, 3, 50, dtype=torch.float64)[:, None]
    found = IndirectStatistics(40, 12, 50)
    for start in range(0, 50, 16):
        found.update(effects[start : start + 16], torch.arange(start, min(50, start + 16)))
    result = found.result(9)
    centred = effects - effects.mean(dim=0)
    norms, order = centred.norm(dim=2).sort(dim=0, descending=True)
    for neuron in (0, 7, 39):
        top = centred[order[:9, neuron], neuron]
        _, values, rows = torch.linalg.svd(top)
        share = values.square() / values.square().sum()
        # The statistics hold effects in float32.
        assert abs(float(result.explained_variance[neuron]) - float(share[0])) < 1e-5
        assert abs(float((result.directions[neuron].double() * rows[0]).sum())) > 1 - 1e-5
        assert result.top_positions[neuron].tolist() == order[:9, neuron].tolist()
    torch.testing.assert_close(result.top_norms.double(), norms[:9].T, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(result.mean_effects.double(), effects.mean(dim=0), rtol=1e-5, atol=1e-6)
    rms = centred.square().sum(dim=2).mean(dim=0).sqrt()
    torch.testing.assert_close(result.root_mean_square.double(), rms, rtol=1e-5, atol=1e-6)
    assert bool(result.certified.all())
    halves = [IndirectStatistics(40, 12, 50) for _ in range(2)]
    halves[0].update(effects[:20], torch.arange(20))
    halves[1].update(effects[20:], torch.arange(20, 50))
    halves[0].merge(halves[1])
    torch.testing.assert_close(halves[0].result(9).explained_variance, result.explained_variance)


def test_both_rows_are_those_of_whole_batches(vit: LensModel, table: Path, tmp_path: Path) -> None:
    atlas = sl.survey(vit, table, tmp_path / "atlas", layers=[1], top=8)
    images = open_labelled(table, vit)
    study = study_table1(vit, atlas, images, surveyed_images(atlas), 1, neurons=[3, 40, 11], running=Running(7))
    assert (study.reference, study.top) == (40, 8)
    pixels = vit.preprocess([Image.open(file).convert("RGB") for file in images.source.ids])
    means = MeanActivations()
    means.update(capture(vit.tower, pixels, [1]).activations[1])
    found = IndirectStatistics(3, vit.embed_dim, 40)
    found.update(indirect_effects(vit, pixels, 1, means.result(), [3, 40, 11]), torch.arange(40))
    torch.testing.assert_close(
        study.indirect.explained_variance, found.result(8).explained_variance, rtol=1e-3, atol=1e-4
    )
    torch.testing.assert_close(
        study.explained()["second-order"], atlas.layer(1).explained_variance[[3, 40, 11]], rtol=1e-4, atol=1e-5
    )
    order = processing_order(40)
    clean = vit.encode_images(pixels)
    unit = torch.nn.functional.normalize(clean, dim=1)
    fx = sl.second_order_effects(vit, pixels, 1)
    dropped = unit - fx.total() + atlas.layer(1).mean_effects.sum(dim=0)

    def right(logits: torch.Tensor) -> torch.Tensor:
        return (logits.argmax(dim=1) == images.labels)[order]

    assert vit.classifier is not None
    weight, bias = vit.classifier.weight(), vit.classifier.bias()
    assert torch.equal(study.right["baseline"], right(clean @ weight.T + bias))
    assert torch.equal(study.right["second-order"], right(dropped * clean.norm(dim=1, keepdim=True) @ weight.T + bias))
    # The direction of the replaced embedding; its norm by running the model with the layer at its means.
    hook = vit.tower.mlps[1].project.register_forward_pre_hook(
        lambda _, inputs: (means.result().to(inputs[0]).expand_as(inputs[0]),)
    )
    replaced = vit.encode_images(pixels)
    hook.remove()
    after = unit - indirect_effect_of_set(vit, pixels, 1, means.result())
    torch.testing.assert_close(after, torch.nn.functional.normalize(replaced, dim=1), rtol=1e-4, atol=1e-5)
    assert torch.equal(study.right["indirect"], right(replaced @ weight.T + bias))


def test_the_sample_and_the_batches_change_nothing(vit: LensModel, table: Path, tmp_path: Path) -> None:
    atlas = sl.survey(vit, table, tmp_path / "atlas", layers=[0], top=6)
    images, source = open_labelled(table, vit), open_source(table)
    first = study_table1(vit, atlas, images, source, 0, neurons=5, running=Running(40))
    second = study_table1(vit, atlas, images, source, 0, neurons=first.neurons.tolist(), running=Running(9), rows=3)
    assert len(first.neurons.unique()) == 5
    torch.testing.assert_close(first.indirect.explained_variance, second.indirect.explained_variance)
    assert all(torch.equal(first.right[name], second.right[name]) for name in first.right)


def test_images_that_are_gone_are_named(vit: LensModel, table: Path, pictures: Path, tmp_path: Path) -> None:
    atlas = sl.survey(vit, sorted(pictures.iterdir()), tmp_path / "atlas", layers=[0], top=5)
    assert len(surveyed_images(atlas).ids) == 40
    folder = sl.survey(vit, pictures, tmp_path / "folder", layers=[0], top=5)
    assert list(surveyed_images(folder).ids) == folder.source_ids
    next(iter(pictures.iterdir())).unlink()
    with pytest.raises(ImageError, match="39 images now"):
        surveyed_images(folder)
    with pytest.raises(sl.SecondLensError, match="at least one neuron"):
        study_table1(vit, atlas, open_labelled(table, vit), open_source(table), 0, neurons=0)


def test_replaced_images_are_named(vit: LensModel, table: Path, pictures: Path, tmp_path: Path) -> None:
    atlas = sl.survey(vit, pictures, tmp_path / "atlas", layers=[0], top=5)
    images, source = open_labelled(table, vit), surveyed_images(atlas)
    readings = [
        lambda: study_table1(vit, atlas, images, source, 0, neurons=2),
        lambda: write_indirect_directions(vit, atlas, source, [0], tmp_path / "directions.safetensors", limit=40),
        lambda: heat_maps(vit, atlas, source, [0], images=5),
    ]
    shown = int(atlas.layer(0).top_positions[0, 0])
    other = pictures / source.ids[shown]
    original = other.read_bytes()
    Image.new("RGB", (50, 30), (250, 10, 10)).save(other)
    for read in readings:
        with pytest.raises(ImageError, match=f"{other.name} is not the image of that name"):
            read()
    other.write_bytes(original)
    for read in readings:
        read()
    # Other images than an atlas's are whatever they are.
    study_table1(vit, atlas, images, open_source(pictures), 0, neurons=2)
    other.rename(pictures / "aaa.png")
    with pytest.raises(ImageError, match=f"40 images now, 'aaa.png' in the place of {source.ids[0]!r}"):
        surveyed_images(atlas)


def test_command(vit: LensModel, table: Path, tmp_path: Path) -> None:
    atlas, out = tmp_path / "atlas", tmp_path / "report"
    sl.survey(vit, table, atlas, layers=[1], top=8)
    command = ["study", "table1", vit.reference, str(atlas), "--images", str(table), "--neurons", "6", "--workers", "0"]
    result = CliRunner().invoke(app, [*command, "--layer", "1", "--out", str(out), "--json"])
    assert result.exit_code == 0, result.stderr
    facts = json.loads(result.stdout)
    assert [row["effect"] for row in facts["rows"]] == ["indirect", "second-order"]
    for row in facts["rows"]:
        assert 0 < row["explained_variance"]["mean"] <= 1
        assert row["low"] <= row["accuracy"] <= row["high"]
    assert pq.read_table(out / "neurons.parquet").num_rows == facts["neurons"] == 6
    assert load_file(out / "directions.safetensors")["directions"].shape == (6, VIT.width)
    assert Image.open(out / "table1.png").size[0] > 400
    shown = CliRunner().invoke(app, [*command, "--layer", "1"])
    assert "explained by PC 1" in shown.stdout
    with pytest.raises(sl.SecondLensError, match="layer 3 is not in this atlas"):
        CliRunner().invoke(app, [*command, "--layer", "3"], catch_exceptions=False)
