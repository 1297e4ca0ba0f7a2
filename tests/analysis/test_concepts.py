"""Concepts: the percentile rule, scores against a float64 oracle, completeness of what stands behind a word."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import secondlens as sl
from builders import Spec, build
from oracle import SlowTower, second_order
from secondlens.analysis.concepts import ConceptFinder, norm_thresholds
from secondlens.analysis.concepts.activity import LayerMeter
from secondlens.analysis.concepts.compare import survey_rows
from secondlens.analysis.concepts.words import check_rule
from secondlens.atlas import AtlasLayer
from secondlens.descriptions import Descriptions, describe
from secondlens.descriptions.pools import described_pool, open_pool
from secondlens.errors import AtlasError, TextError
from secondlens.lens import LensModel
from secondlens.lens.capture import capture
from secondlens.numerics.histogram import NormHistogram, norm_above, share_above

RULES = ("alignment", "signed", "paper")
LABELS = ("a bat", "a den", "fip", "photo of a gol", "hum", "jat", "ken", "lip", "mol", "num", "bip")


def synthetic_layer(norms: torch.Tensor, top: int) -> AtlasLayer:
    """The part of an atlas's layer that the percentile rule reads, of norms [neuron, image]."""
    histogram = NormHistogram(len(norms))
    histogram.update(norms)
    layer = AtlasLayer.__new__(AtlasLayer)
    layer._read = {"top_norms": norms.topk(top, dim=1).values, "histogram": histogram.counts}
    layer.atlas = SimpleNamespace(manifest=SimpleNamespace(images=SimpleNamespace(count=norms.shape[1])))  # type: ignore[assignment]
    return layer


def lognormal(neurons: int, images: int, seed: int = 0) -> torch.Tensor:
    noise = torch.randn(neurons, images, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return torch.exp2(noise - 5)


@pytest.mark.parametrize(("images", "percentile"), [(500, 98.0), (337, 97.3), (99, 98.0), (50, 90.0), (10, 99.0)])
def test_thresholds_are_exact_where_enough_top_images_are_kept(images: int, percentile: float) -> None:
    norms = lognormal(6, images)
    needed = images - int((images + 1) * percentile / 100) + 1
    found = norm_thresholds(synthetic_layer(norms, max(needed, 1)), percentile)
    assert found.exact
    expected = np.quantile(norms.numpy(), percentile / 100, axis=1, method="weibull")
    np.testing.assert_allclose(found.norms.numpy(), expected, rtol=1e-12)
    if needed > 1:
        assert not norm_thresholds(synthetic_layer(norms, needed - 1), percentile).exact


def test_thresholds_from_the_histogram_are_near_and_never_above_the_smallest_top_norm() -> None:
    norms = lognormal(8, 5124)
    for percentile, top, tolerance in ((98.0, 100, 0.02), (95.0, 100, 0.03), (50.0, 10, 0.01)):
        layer = synthetic_layer(norms, top)
        found = norm_thresholds(layer, percentile)
        assert not found.exact
        assert bool((found.norms <= layer.top_norms[:, -1]).all())
        expected = np.quantile(norms.numpy(), percentile / 100, axis=1, method="weibull")
        # Bins are a quarter octave, 19 %, wide; the share is put right at the smallest top norm. Measured: 0.9 %,
        # 1.3 % and 0.3 %.
        np.testing.assert_allclose(found.norms.numpy(), expected, rtol=tolerance)


def test_a_new_image_is_active_as_often_as_the_percentile_says() -> None:
    """2 % of images that were not surveyed are above: not so for the quantile that numpy takes by default."""
    norms = lognormal(400, 100)
    found = norm_thresholds(synthetic_layer(norms, 20), 90.0).norms
    new = lognormal(400, 500, seed=1)
    # 200,000 images on 400 thresholds of 100 images each: standard error 0.0015. Measured 0.099, and 0.107 by
    # numpy's default quantile.
    assert float((new > found[:, None]).double().mean()) == pytest.approx(0.1, abs=0.005)


def test_norm_above_is_the_inverse_of_share_above() -> None:
    histogram = NormHistogram(5)
    histogram.update(lognormal(5, 2000))
    for share in (0.003, 0.02, 0.4, 0.97):
        norm = norm_above(histogram.counts, torch.full((5,), share))
        torch.testing.assert_close(
            share_above(histogram.counts, norm).double(), torch.full((5,), share).double(), rtol=1e-5, atol=1e-6
        )
    assert float(norm_above(torch.zeros(1, 96, dtype=torch.int32), torch.tensor([0.5]))) == 0


def test_percentiles_out_of_range() -> None:
    layer = synthetic_layer(lognormal(3, 50), 10)
    everything = norm_thresholds(layer, 0.0)
    assert everything.exact
    assert float(everything.norms.abs().max()) == 0
    for percentile in (-1.0, 100.0, 101.0, float("nan")):
        with pytest.raises(sl.SecondLensError, match="percentile from 0"):
            norm_thresholds(layer, percentile)


def opened(pictures: Path, count: int) -> list[Image.Image]:
    return [Image.open(path).convert("RGB") for path in sorted(pictures.iterdir())[:count]]


def test_norms_and_projections_equal_the_oracle(model: LensModel, spec: Spec, pictures: Path, tmp_path: Path) -> None:
    atlas = sl.survey(model, pictures, tmp_path / "atlas", layers=[0], top=7)
    layer = atlas.layer(0)
    pixels = model.preprocess(opened(pictures, 3))
    meter = LayerMeter(model, layer, 90.0)
    seen = meter.measure(capture(model.tower, pixels, [0]))
    phi = second_order(SlowTower(build(spec), spec.family), pixels, 0)
    centred = phi - layer.mean_effects.double()
    # float32 forward passes, and a mean stored in float32.
    torch.testing.assert_close(seen.norms, centred.norm(dim=2), rtol=1e-4, atol=1e-6)
    projections = torch.einsum("bne,ne->bn", centred, layer.directions.double())
    torch.testing.assert_close(seen.projections, projections, rtol=1e-4, atol=1e-6)
    # Around the mean, both weights are linear in the coefficients.
    some = torch.tensor([0, 5, 11])
    for rule in RULES:
        q = meter.sensitivity(seen.centred[0, some], some, rule)
        weights = seen.norms[0, some] if rule == "paper" else seen.projections[0, some]
        torch.testing.assert_close((q * seen.centred[0, some]).sum(dim=1), weights, rtol=1e-9, atol=1e-12)


@pytest.fixture
def described(worded: LensModel, pictures: Path, tmp_path: Path, cache: Path) -> tuple[sl.Atlas, Descriptions]:
    atlas = sl.survey(worded, pictures, tmp_path / "atlas", layers=[0, 1], top=14)
    return atlas, describe(atlas, open_pool(LABELS, worded, name="few"), 4, null_draws=0)


@pytest.mark.parametrize("rule", RULES)
def test_scores_and_what_stands_behind_them(
    worded: LensModel, described: tuple[sl.Atlas, Descriptions], pictures: Path, rule: Any
) -> None:
    atlas, descriptions = described
    finder = ConceptFinder(worded, atlas, descriptions, percentile=70.0, rule=rule)
    assert finder.exact
    pixels = worded.preprocess(opened(pictures, 1))
    found = finder.find(pixels, limit=len(LABELS))

    pool = open_pool("few", worded)
    texts = pool.embeddings.double() - pool.embeddings.double().mean(dim=0)
    texts = texts / texts.norm(dim=1, keepdim=True)
    scores, active = dict.fromkeys(pool.texts, 0.0), set()
    for index in atlas.layers:
        layer = atlas.layer(index)
        phi = sl.second_order_effects(worded, pixels, index).dense()[0].double() - layer.mean_effects.double()
        norms = phi.norm(dim=1)
        thresholds = np.quantile(_norms(worded, layer, pictures), 0.7, axis=0, method="weibull")
        for neuron in np.flatnonzero(norms.numpy() > thresholds).tolist():
            active.add((index, neuron))
            x = float(phi[neuron] @ layer.directions[neuron].double())
            weight = float(norms[neuron]) if rule == "paper" else x
            if rule == "alignment":
                for row, text in enumerate(pool.texts):
                    scores[text] += weight * float(layer.directions[neuron].double() @ texts[row])
            else:
                for row in descriptions.table(index, neuron).to_pylist():
                    scores[row["text"]] += weight * row["coefficient"]
    assert {(one.layer, one.neuron) for one in found.neurons} == active
    assert len(active) > 3
    expected = sorted((text for text in scores if scores[text] > 1e-9), key=lambda text: -scores[text])
    assert [concept.text for concept in found.concepts] == expected
    for concept in found.concepts:
        assert concept.score == pytest.approx(scores[concept.text], rel=1e-3, abs=1e-7)
        # Complete in each of the three ways.
        assert sum(term.contribution for term in concept.neurons) == pytest.approx(concept.score, abs=1e-12)
        assert sum(value for _, value in concept.paths) == pytest.approx(concept.score, abs=1e-12)
        assert float(concept.tokens.sum()) + concept.constant == pytest.approx(concept.score, abs=1e-12)
    # The same list in a batch, without what stands behind it; -1 where fewer texts score above zero.
    rows = finder.rows(finder.measure(worded.preprocess(opened(pictures, 3))), 3)
    assert rows[0].tolist() == [*(concept.row for concept in found.concepts), -1, -1, -1][:3]


def _norms(model: LensModel, layer: sl.AtlasLayer, pictures: Path) -> np.ndarray:
    fx = sl.second_order_effects(model, model.preprocess(opened(pictures, 40)), layer.index)
    return (fx.dense().double() - layer.mean_effects.double()).norm(dim=2).numpy()


@pytest.mark.parametrize("rule", RULES)
def test_the_atlas_knows_the_concepts_of_surveyed_images(
    worded: LensModel, described: tuple[sl.Atlas, Descriptions], pictures: Path, rule: Any
) -> None:
    """What the top images alone say is what a pass over all images says."""
    atlas, descriptions = described
    finder = ConceptFinder(worded, atlas, descriptions, percentile=92.0, rule=rule).within_top()
    theirs, counts = survey_rows(finder, 4)
    activity = finder.measure(worded.preprocess(opened(pictures, 40)))
    assert atlas.source_ids == [path.name for path in sorted(pictures.iterdir())]
    for index, seen in activity.items():
        # An image at its neuron's threshold is above it or not by rounding: at most one a neuron.
        assert int(np.abs(counts[index] - seen.active.sum(dim=0).numpy()).max()) <= 1
    assert float((theirs == finder.rows(activity, 4)).double().mean()) > 0.95


def test_mistakes(
    worded: LensModel, clip: LensModel, described: tuple[sl.Atlas, Descriptions], pictures: Path, cache: Path
) -> None:
    atlas, descriptions = described
    with pytest.raises(AtlasError, match="not of"):
        ConceptFinder(clip, atlas, descriptions)
    with pytest.raises(sl.SecondLensError, match="did you mean 'paper'"):
        check_rule("papers")
    finder = ConceptFinder(worded, atlas, descriptions)
    images = worded.preprocess(opened(pictures, 2))
    with pytest.raises(sl.SecondLensError, match="expected one image"):
        finder.find(images)
    with pytest.raises(sl.SecondLensError, match="at least one concept"):
        finder.find(images[:1], limit=0)
    # Another pool under the name of the descriptions' own, beside it and in its place.
    import shutil

    open_pool(LABELS[:7], worded, name="few")
    for model in (worded, None):
        assert described_pool(model, descriptions).card.key == descriptions.card.settings.pool_key
    shutil.rmtree(cache)
    open_pool(LABELS[:7], worded, name="few")
    with pytest.raises(TextError, match="not the one that"):
        described_pool(worded, descriptions)
    # The paper's rule needs the descriptions alone.
    assert ConceptFinder(worded, atlas, descriptions, percentile=70.0, rule="paper").find(images[:1], 2).concepts


def test_an_image_without_active_neurons_shows_nothing(
    worded: LensModel, described: tuple[sl.Atlas, Descriptions], pictures: Path
) -> None:
    finder = ConceptFinder(worded, *described)
    for meter in finder.meters.values():
        meter.thresholds = type(meter.thresholds)(torch.full_like(meter.thresholds.norms, 1e9), exact=True)
    found = finder.find(worded.preprocess(opened(pictures, 1)))
    assert found.neurons == []
    assert found.concepts == []
