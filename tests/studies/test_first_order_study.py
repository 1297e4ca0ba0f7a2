"""First-order effects held at their means: against embeddings changed by hand, and as a command."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import secondlens as sl
from builders import VIT, Spec, hooks_of, pixels
from secondlens.cli.app import app
from secondlens.data.labelled import open_labelled
from secondlens.data.loader import processing_order
from secondlens.lens import LensModel
from secondlens.lens.capture import capture
from secondlens.progress import Running
from secondlens.studies.first_order import CURVES, Moments, accumulated, study_first_order


@pytest.fixture
def table(pictures: Path, tmp_path: Path) -> Path:
    path = tmp_path / "labels.csv"
    files = sorted(pictures.iterdir())
    path.write_text("file,label\n" + "".join(f"{file},{number % 4}\n" for number, file in enumerate(files)))
    return path


def test_moments_are_those_of_all_images_and_merge() -> None:
    values = torch.randn(11, 2, 3, 5, dtype=torch.float64) + 1
    found, other = Moments(), Moments()
    found.update(heads=values[:4])
    other.update(heads=values[4:])
    found.merge(other)
    mean = values.mean(dim=0)
    torch.testing.assert_close(found.mean("heads"), mean)
    torch.testing.assert_close(found.spread("heads"), (values - mean).square().sum(dim=-1).mean(dim=0).sqrt())


def test_what_is_taken_away_is_complete(model: LensModel, spec: Spec) -> None:
    """With everything held, what is left of an image is the class token's start, the biases and the means."""
    images = pixels(4, spec.size)
    parts = sl.first_order_effects(model, images)
    moments = Moments()
    moments.update(heads=parts.heads, mlps=parts.mlps)
    removed = accumulated(parts, moments)
    assert float(removed["attentions"][0].abs().max()) == float(removed["MLPs"][0].abs().max()) == 0
    unit = torch.nn.functional.normalize(model.encode_images(images), dim=1)
    left = unit - removed["attentions, MLPs held"][-1]
    means = moments.mean("heads").sum(dim=(0, 1)) + moments.mean("mlps").sum(dim=0)
    torch.testing.assert_close(left, parts.start + parts.rest + means.float(), rtol=1e-4, atol=1e-5)
    for name in CURVES:
        # Around their own mean, contributions cancel over the images; float32 sums over a few layers.
        assert float(removed[name].mean(dim=1).abs().max()) < 1e-5
    # Holding the last layer's attention first.
    last = parts.heads[:, -1].sum(dim=1) - moments.mean("heads")[-1].sum(dim=0)
    torch.testing.assert_close(removed["attentions"][1], last.float(), rtol=1e-4, atol=1e-6)


def test_accuracies_are_those_of_whole_batches(vit: LensModel, table: Path) -> None:
    images = open_labelled(table, vit)
    study = study_first_order(vit, images, running=Running(7))
    pictures = vit.preprocess([Image.open(file).convert("RGB") for file in images.source.ids])
    parts = sl.first_order_effects(vit, pictures)
    clean = vit.encode_images(pictures)
    norms = clean.norm(dim=1, keepdim=True)
    assert vit.classifier is not None
    weight, bias = vit.classifier.weight(), vit.classifier.bias()
    order = processing_order(40)

    def right(removed: torch.Tensor) -> torch.Tensor:
        return (((clean - removed * norms) @ weight.T + bias).argmax(dim=1) == images.labels)[order]

    attentions = parts.heads.sum(dim=2)
    attentions = attentions - attentions.mean(dim=0)
    mlps = parts.mlps - parts.mlps.mean(dim=0)
    assert torch.equal(study.right, right(torch.zeros_like(clean)))
    for held in range(VIT.layers + 1):
        kept = VIT.layers - held
        some, others = attentions[:, kept:].sum(dim=1), mlps[:, kept:].sum(dim=1)
        expected = (right(some), right(others), right(some + mlps.sum(dim=1)))
        for name, one in zip(CURVES, expected, strict=True):
            assert torch.equal(study.curves[name][held], one), (name, held)
    head = parts.heads[:, 1, 2]
    assert torch.equal(study.heads[1, 2], right(head - head.mean(dim=0)))
    neurons = sl.first_order_neurons(vit, pictures, 2).dense()
    mean, spread = study.neurons[2]
    torch.testing.assert_close(mean, neurons.mean(dim=0).norm(dim=1), rtol=1e-3, atol=1e-6)
    expected_spread = (neurons - neurons.mean(dim=0)).square().sum(dim=2).mean(dim=0).sqrt()
    torch.testing.assert_close(spread, expected_spread, rtol=1e-3, atol=1e-6)
    assert hooks_of(vit.module) == 0
    assert capture(vit.tower, pictures[:1], []).resid_post == {}


def test_command(vit: LensModel, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    command = ["study", "first-order", vit.reference, "--images", str(table), "--workers", "0"]
    result = CliRunner().invoke(app, [*command, "--out", str(out), "--json"])
    assert result.exit_code == 0, result.stderr
    facts = json.loads(result.stdout)
    assert [step["held"] for step in facts["curves"]["attentions"]] == list(range(VIT.layers + 1))
    assert facts["curves"]["MLPs"][0]["accuracy"] == facts["baseline"]["accuracy"]
    assert pq.read_table(out / "parts.parquet").num_rows == VIT.layers * (VIT.heads + 1)
    assert pq.read_table(out / "neurons.parquet").num_rows == VIT.layers * VIT.neurons
    assert Image.open(out / "first-order.png").size[0] > 400
    assert "attentions" in CliRunner().invoke(app, [*command, "--limit", "8"]).stdout
