"""Attributions are complete, equal a float64 oracle source by source, and the command says so."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image

import secondlens as sl
from builders import Spec, build, pixels
from commands import secondlens
from oracle import SlowTower, second_order
from secondlens.analysis.attribution import explain_score, explain_texts
from secondlens.errors import ModelError
from secondlens.lens import LensModel
from secondlens.viewer.reports.image import waterfall

# The forward pass is float32, all sums float64: measured at most 9e-8.
FLOAT32 = 1e-6


def direction_for(model: LensModel, seed: int = 5) -> torch.Tensor:
    return torch.nn.functional.normalize(
        torch.randn(model.embed_dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)), dim=0
    )


def test_every_view_is_complete(model: LensModel, spec: Spec) -> None:
    images, direction = pixels(1, spec.size), direction_for(model)
    found = explain_score(model, images, direction)
    embedding = torch.nn.functional.normalize(model.encode_images(images).double(), dim=1)[0]
    score = float(embedding @ direction)
    assert found.score == pytest.approx(score, abs=1e-7)
    assert sum(part.value for part in found.parts) == pytest.approx(score, abs=FLOAT32)
    assert abs(found.rounding) < FLOAT32
    assert sum(found.writers.values()) == pytest.approx(score, abs=FLOAT32)
    assert float(found.tokens.sum()) + found.elsewhere == pytest.approx(score, abs=FLOAT32)
    assert found.writers["heads"] == pytest.approx(float(found.heads.sum()), abs=1e-12)
    bars = waterfall(found, 5)
    assert len(bars) == 5
    assert sum(bar.value for bar in bars) == pytest.approx(score, abs=1e-12)


def test_in_float64_the_rest_is_float64_rounding(double_model: LensModel, spec: Spec) -> None:
    found = explain_score(double_model, pixels(1, spec.size).double(), direction_for(double_model))
    # Upstream's eager softmax may run in float32; fused attention, as loaded, does not.
    assert abs(found.rounding) < 1e-12


def test_sources_equal_the_oracle(double_model: LensModel, spec: Spec) -> None:
    """Each source, token by token and head by head, from the slow tower's own residual streams and attentions."""
    images, direction = pixels(1, spec.size).double(), direction_for(double_model)
    found = explain_score(double_model, images, direction)
    slow = SlowTower(build(spec), spec.family)
    run = slow.run(images)
    final = run["residuals"][-1][:, 0]

    def to_score(out: torch.Tensor) -> float:
        """What a vector [width] written at the pooled token contributes."""
        if spec.family != "siglip":
            last = slow.pool_norm()
            out = (out - out.mean()) * last.weight / last.sigma(final)[0]
            out = slow.projection() @ out
        return float(out @ direction / run["embedding"].norm())

    def through_heads(written: dict[int, torch.Tensor]) -> float:
        """Of vectors [token, width], by the residual stream in which a reader sees them."""
        total = 0.0
        for norm, attention, probe, index in slow.readers(-1):
            if index not in written:
                continue
            x = run["residuals"][index]
            normed = norm(x)
            rows = attention.rows(normed[:, :1] if probe is None else probe, normed)[0, :, 0]
            vectors = written[index]
            read = (vectors - vectors.mean(-1, keepdim=True)) * norm.weight / norm.sigma(x)[0][:, None]
            for head in range(attention.heads):
                w_v, w_o = attention.head(head)
                total += to_score(w_o @ w_v @ (rows[head] @ read))
        return total

    parts = {(part.kind, part.through, part.layer): part.value for part in found.parts if part.kind != "bias"}
    readers = [index for *_, index in slow.readers(-1)]
    mlps = [run["activations"][layer][0] @ block.fc2[0].T for layer, block in enumerate(slow.blocks)]
    for layer in double_model.tower.lens_layers:
        phi = second_order(slow, images, layer)[0] @ direction
        torch.testing.assert_close(found.neurons[layer].sum(dim=1), phi, rtol=1e-10, atol=1e-13)
        assert parts["neurons", "heads", layer] == pytest.approx(float(phi.sum()), abs=1e-11)
    if spec.family == "siglip":
        stream = run["residuals"][-1][0] - sum(mlps) - sum(block.fc2[1] for block in slow.blocks)
        assert parts["embedding", "heads", None] == pytest.approx(through_heads({readers[0]: stream}), abs=1e-11)
        return
    start = run["residuals"][0][0]
    assert parts["embedding", "direct", None] == pytest.approx(to_score(start[0]), abs=1e-11)
    assert parts["embedding", "heads", None] == pytest.approx(through_heads(dict.fromkeys(readers, start)), abs=1e-11)
    for layer, block in enumerate(slow.blocks):
        normed = block.ln1(run["residuals"][layer])
        attended = block.attention(normed, normed)[0]
        later = {index: attended for index in readers if index > layer}
        if later:
            assert parts["attention", "heads", layer] == pytest.approx(through_heads(later), abs=1e-11)
        written = mlps[layer][0] + block.fc2[1]
        assert parts["mlp", "direct", layer] == pytest.approx(to_score(written), abs=1e-11)
        direct = torch.stack([to_score(p * w) * torch.ones(()) for p, w in zip(
            run["activations"][layer][0, 0], block.fc2[0].T, strict=True)]).double()  # fmt: skip
        torch.testing.assert_close(found.direct[layer], direct, rtol=1e-5, atol=1e-7)


def test_paths_are_those_of_the_effects(model: LensModel, spec: Spec) -> None:
    images, direction = pixels(1, spec.size), direction_for(model)
    found = explain_score(model, images, direction)
    layer = model.tower.lens_layers[0]
    fx = sl.second_order_effects(model, images, layer)
    assert tuple(found.paths[layer]) == fx.paths
    expected = torch.einsum("nk,nke,e->nk", fx.coefficients[0].double(), fx.writes.double(), direction)
    torch.testing.assert_close(found.neurons[layer], expected, rtol=1e-4, atol=1e-7)
    top = found.top_neurons(5)
    sizes = torch.cat([values.sum(dim=1).abs() for values in found.neurons.values()]).topk(5).values
    assert [abs(value) for *_, value in top] == pytest.approx(sizes.tolist())


def test_a_pair_is_the_difference_and_changes_sign(worded: LensModel) -> None:
    images = pixels(1, 32)
    one, other = explain_texts(worded, images, "bat"), explain_texts(worded, images, "den")
    pair, back = explain_texts(worded, images, "bat", "den"), explain_texts(worded, images, "den", "bat")
    cosine = torch.nn.functional.normalize(worded.encode_images(images), dim=1) @ worded.encode_texts(["bat"])[0]
    assert one.score == pytest.approx(float(cosine), abs=1e-6)
    # Texts are encoded in float32, two at a time or one: measured 3e-8.
    for place, part in enumerate(pair.parts):
        assert part.value == pytest.approx(one.parts[place].value - other.parts[place].value, abs=1e-6)
        assert part.value == pytest.approx(-back.parts[place].value, abs=1e-6)
    with pytest.raises(sl.SecondLensError, match="the same to the model"):
        explain_texts(worded, images, "bat", "bat")
    with pytest.raises(ModelError, match="no classifier"):
        explain_texts(worded, images, "bat", logits=True)
    with pytest.raises(sl.SecondLensError, match="one image"):
        explain_texts(worded, pixels(2, 32), "bat")
    with pytest.raises(sl.SecondLensError, match="dimensions"):
        explain_score(worded, images, torch.ones(3))


def test_logits_are_the_classifier_s(vit: LensModel) -> None:
    images = pixels(1, 64)
    logits = vit.module(images).logits[0].tolist()
    one = explain_texts(vit, images, "dog", logits=True)
    pair = explain_texts(vit, images, "dog", "house cat", logits=True)
    assert one.score == pytest.approx(logits[1], abs=1e-5)
    assert pair.score == pytest.approx(logits[1] - logits[0], abs=1e-5)
    for found in (one, pair):
        assert sum(part.value for part in found.parts) == pytest.approx(found.score, abs=1e-5)
        assert found.parts[-1].label == "bias of the classifier"
    with pytest.raises(ModelError, match="no label 'fish'"):
        explain_texts(vit, images, "fish", logits=True)


def test_command(
    worded_folder: Path,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    picture = pictures / "picture-03.png"
    run = partial(secondlens, monkeypatch, capsys, "explain", f"hf:{worded_folder}", picture)
    out = tmp_path / "why.png"
    result = run("--text", "a bat", "--text", "a den", "--out", out, "--json")
    assert result.returncode == 0, result.stderr
    facts = json.loads(result.stdout)
    assert sum(part["value"] for part in facts["parts"]) + facts["rounding"] == pytest.approx(facts["score"], abs=1e-12)
    assert facts["texts"] == ["a bat", "a den"]
    assert len(facts["heads"]) == 3
    assert {"layer", "neuron", "second_order", "direct", "paths", "words"} == set(facts["neurons"][0])
    assert Image.open(out).size[0] > 800
    assert "other parts" in run("--text", "a bat", "--limit", "4").stdout
    for extra, message in (
        (["--text", "bat", "--text", "den", "--text", "fol"], "once or twice"),
        (["--text", "bat", "--limit", "1"], "--limit of 2"),
        (["--text", "bat", "--atlas", str(tmp_path)], "no atlas"),
    ):
        bad = run(*extra)
        assert bad.returncode == 2
        assert message in bad.stderr
        assert len(bad.stderr.strip().splitlines()) == 1
