"""Selectivity and rank on neurons whose answers are known, and against the dense effects."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import secondlens as sl
from secondlens.cli.app import app
from secondlens.data.sources import open_source
from secondlens.errors import ImageError
from secondlens.lens import LensModel
from secondlens.numerics.histogram import NormHistogram, norm_above, share_above
from secondlens.numerics.largest import LargestEffects
from secondlens.numerics.rank_one import rank_one
from secondlens.progress import Running
from secondlens.studies.selectivity import distribution, neuron_figures, path_figures
from secondlens.studies.shuffles import figures, permuted, shuffle_test, shuffle_tests


def test_quantiles_of_a_histogram() -> None:
    norms = torch.rand(5, 4000, generator=torch.Generator().manual_seed(0)).exp()
    histogram = NormHistogram(5)
    histogram.update(norms)
    for share in (0.1, 0.5, 0.9):
        found = norm_above(histogram.counts, torch.full((5,), 1 - share))
        # Within a bin, a quarter of an octave, interpolated.
        torch.testing.assert_close(found, norms.double().quantile(share, dim=1), rtol=0.04, atol=0)
        torch.testing.assert_close(1 - share_above(histogram.counts, found), torch.full_like(found, share))


def test_figures_of_an_atlas(clip: LensModel, pictures: Path, tmp_path: Path) -> None:
    atlas = sl.survey(clip, pictures, tmp_path / "atlas", layers=[1], top=8)
    layer = atlas.layer(1)
    found = neuron_figures(layer)
    pixels = clip.preprocess([Image.open(path).convert("RGB") for path in sorted(pictures.iterdir())])
    phi = sl.second_order_effects(clip, pixels, 1).dense().double()
    norms = (phi - phi.mean(dim=0)).norm(dim=2)
    # The histogram is interpolated within a bin and blurred by the drift of the reference: a few of 40 images.
    for name, threshold in {
        "above_half_of_largest": norms.amax(dim=0) / 2,
        "above_2_medians": 2 * norms.median(dim=0).values,
        "above_2_rms": 2 * norms.square().mean(dim=0).sqrt(),
    }.items():
        true = (norms >= threshold).double().mean(dim=0)
        assert float((found[name] - true).abs().mean()) < 0.05, name
    assert float((found["above_threshold"] - 8 / 40).abs().mean()) < 0.05
    shares = layer.path_fractions.double().abs()
    neuron = 5
    weights = (shares[neuron] / shares[neuron].sum()).sort(descending=True).values
    assert float(found["largest_path_fraction"][neuron]) == pytest.approx(float(weights[0]))
    assert float(found["effective_paths"][neuron]) == pytest.approx(1 / float(weights.square().sum()))
    needed = int(found["paths_for_nine_tenths"][neuron])
    assert weights[:needed].sum() >= 0.9 > weights[: needed - 1].sum()
    paths = path_figures(layer)
    assert [(path["readout"], path["head"]) for path in paths] == [tuple(path) for path in layer.paths]
    assert sum(path["mean_fraction"] for path in paths) == pytest.approx(1, abs=1e-4)
    assert sum(path["largest_for"] for path in paths) == pytest.approx(1)
    assert distribution(torch.arange(101.0)) == {"mean": 50, "q05": 5, "q25": 25, "q50": 50, "q75": 75, "q95": 95}


def test_figures_are_the_surveys() -> None:
    generator = torch.Generator().manual_seed(0)
    held, root = torch.randn(6, 60, 5, generator=generator), torch.randn(6, 5, 5, generator=generator).tril()
    statistics = LargestEffects(root, 60)
    statistics.update(held, torch.arange(60))
    for top in (3, 10):
        expected = rank_one(statistics.result(top), root)
        centred = held.double() - held.double().mean(dim=1, keepdim=True)
        found = figures(centred, root, top)
        torch.testing.assert_close(found["explained_variance"], expected.spectrum[:, 0].float())
        torch.testing.assert_close(found["participation"], expected.participation.float())
        norms = (centred @ root.double()).norm(dim=2)
        true = (norms >= norms.amax(dim=1, keepdim=True) / 2).double().mean(dim=1).float()
        torch.testing.assert_close(found["above_half_of_largest"], true)


def test_permutations_keep_each_path() -> None:
    generator = torch.Generator().manual_seed(0)
    centred = torch.randn(3, 50, 4, generator=generator, dtype=torch.float64)
    moved = permuted(centred, generator)
    assert torch.equal(moved.sort(dim=1).values, centred.sort(dim=1).values)
    assert not torch.equal(moved, centred)


def test_paths_that_act_together_are_told_from_paths_that_do_not() -> None:
    """Sixty neurons whose five paths fire on the same images, and sixty whose paths fire on images of their own."""
    generator = torch.Generator().manual_seed(0)
    neurons, images, paths = 60, 200, 5
    fires = (torch.rand(neurons, images, 1, generator=generator) < 0.05).float()
    together = fires * (1 + 0.1 * torch.randn(neurons, images, paths, generator=generator))
    apart = torch.randn(neurons, images, paths, generator=generator)
    root = torch.eye(paths, dtype=torch.float64).expand(neurons, -1, -1)
    number = torch.arange(neurons)
    first = shuffle_test(0, number, together, root, 99, generator)
    second = shuffle_test(0, number, apart, root, 99, generator)
    for name in ("explained_variance", "participation"):
        assert float((first.p_values[name] < 0.05).float().mean()) > 0.95, name
        # Under the null p is uniform: of 60 at most 9 below 0.05 with a probability of 0.998 if they were independent;
        # they share their permutations, not their images.
        assert float((second.p_values[name] <= 0.05).float().mean()) <= 0.15, name
        assert 0.3 < float(second.p_values[name].mean()) < 0.7, name
    assert float(first.observed["explained_variance"].median()) > 0.8
    assert first.pairs.shape == (neurons, paths)


def test_shuffles_of_a_model(clip: LensModel, pictures: Path, tmp_path: Path) -> None:
    atlas = sl.survey(clip, pictures, tmp_path / "atlas", layers=[0, 2], top=8)
    tests = shuffle_tests(clip, atlas, open_source(pictures), neurons=10, draws=9, running=Running(7))
    again = shuffle_tests(clip, atlas, open_source(pictures), neurons=10, draws=9)
    assert [test.layer for test in tests] == [0, 2]
    for one, other in zip(tests, again, strict=True):
        assert torch.equal(one.neurons, other.neurons)
        for name, values in one.observed.items():
            torch.testing.assert_close(values, other.observed[name], rtol=1e-4, atol=1e-5)
        assert bool(((one.p_values["participation"] * 10).round() >= 1).all())
    pixels = clip.preprocess([Image.open(path).convert("RGB") for path in sorted(pictures.iterdir())])
    phi = sl.second_order_effects(clip, pixels, 2).dense().double()
    norms = (phi - phi.mean(dim=0)).norm(dim=2)[:, tests[1].neurons]
    true = (norms >= norms.amax(dim=0) / 2).double().mean(dim=0).float()
    torch.testing.assert_close(tests[1].observed["above_half_of_largest"], true)
    with pytest.raises(ImageError, match="at least 20 images"):
        shuffle_tests(clip, atlas, open_source(pictures), limit=10)


def test_command(clip: LensModel, pictures: Path, tmp_path: Path) -> None:
    atlas, out = tmp_path / "atlas", tmp_path / "out"
    sl.survey(clip, pictures, atlas, layers=[1, 2], top=8)
    command = ["study", "selectivity", str(atlas)]
    shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 0, shown.output
    assert "explained" in shown.stdout
    options = ["--images", str(pictures), "--neurons", "6", "--draws", "9", "--workers", "0", "--out", str(out)]
    result = CliRunner().invoke(app, [*command, *options, "--layers", "2", "--json"])
    assert result.exit_code == 0, result.output
    (layer,) = json.loads(result.stdout)["layers"]
    assert layer["layer"] == 2
    assert 0 <= layer["shuffled"]["explained_variance"]["significant"] <= 1
    neurons = pq.read_table(out / "neurons.parquet").to_pandas()
    assert len(neurons) == clip.neurons
    assert int(neurons["p_participation"].notna().sum()) == 6
    pairs = pq.read_table(out / "pairs.parquet").to_pandas()
    assert len(pairs) == clip.neurons * 4
    assert pairs.groupby("neuron")["fraction"].sum().to_numpy() == pytest.approx(1, abs=1e-3)
    assert Image.open(out / "selectivity.png").size[0] > 1000
