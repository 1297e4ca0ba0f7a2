"""The registry of metrics: what reads it, and a metric that is added to it."""

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import secondlens as sl
from secondlens.atlas import Atlas, AtlasLayer, metrics
from secondlens.atlas.metrics import METRICS, Metric, markdown_table, metrics_in, stored_metrics
from secondlens.cli.app import app
from secondlens.errors import AtlasError
from secondlens.lens import LensModel
from secondlens.lens.layer import LayerResult
from secondlens.viewer.card import neuron_card
from secondlens.viewer.export import export

DOCS = Path(__file__).parents[2] / "docs" / "atlas.md"
PEAK = Metric(
    "peak_ratio",
    "the largest norm over the root mean square",
    compute=lambda layer: layer.top_norms[:, 0] / layer.variance.sqrt(),
    card=9,
    listed=9,
    drawn=9,
    title="Peak ratio",
    is_log=True,
)


@pytest.fixture
def atlas(clip: LensModel, pictures: Path, tmp_path: Path) -> Atlas:
    return sl.survey(clip, pictures, out=tmp_path / "atlas", layers=[1], top=4, workers=0, progress=False)


def test_stored_metrics_are_the_survey_s_tensors_with_their_shapes(atlas: Atlas) -> None:
    layer = atlas.layer(1)
    names = [metric.name for metric in stored_metrics()]
    assert names == [field.name for field in fields(LayerResult)]
    assert sorted(names) == layer.names
    sizes: dict[metrics.Dimension, int] = {
        "path": len(layer.paths),
        "embed": atlas.manifest.model.embed_dim,
        "component": layer.spectrum.shape[1],
        "top": 4,
        "bin": 96,
    }
    for metric in stored_metrics():
        values = metric.values(layer)
        assert isinstance(getattr(AtlasLayer, metric.name), property), metric.name
        assert values.dtype == metric.dtype, metric.name
        assert list(values.shape) == [48, *(sizes[dimension] for dimension in metric.shape)], metric.name
        assert values.nbytes == 48 * metric.bytes_per_unit(sizes), metric.name
    for view in (metrics_in("card"), metrics_in("listed"), metrics_in("drawn")):
        assert all(metric.values(layer).shape == (48,) for metric in view)


def test_views_keep_their_order() -> None:
    """Cards, lists and exported columns are read by others: their keys and order stay."""
    assert [metric.name for metric in metrics_in("card")] == [
        "explained_variance", "participation", "threshold", "selectivity", "top_fraction", "root_mean_square",
    ]  # fmt: skip
    assert [metric.name for metric in metrics_in("listed")] == [
        "explained_variance", "top_norm", "threshold", "selectivity", "top_fraction", "participation",
    ]  # fmt: skip
    assert [metric.name for metric in metrics_in("drawn")] == [
        "explained_variance", "selectivity", "top_norm", "threshold", "root_mean_square", "top_fraction",
        "participation",
    ]  # fmt: skip


def test_the_tables_of_the_docs_are_the_registry_s() -> None:
    text = DOCS.read_text(encoding="utf-8")
    computed = [metric for metric in METRICS if not metric.is_stored]
    assert f"<!-- stored metrics -->\n{markdown_table(stored_metrics())}<!-- end -->" in text
    assert f"<!-- computed metrics -->\n{markdown_table(computed)}<!-- end -->" in text


def test_an_added_metric_is_found_everywhere(atlas: Atlas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "METRICS", (*METRICS, PEAK))
    layer = atlas.layer(1)
    expected = layer.top_norms[:, 0] / layer.variance.sqrt()
    torch.testing.assert_close(layer.metric("peak_ratio"), expected, rtol=0, atol=0)
    with pytest.raises(AtlasError, match="did you mean 'peak_ratio'"):
        layer.metric("peak_rato")

    assert neuron_card(atlas, 1, 7)["peak_ratio"] == float(expected[7])
    run = CliRunner()
    folder = str(atlas.folder)
    shown = run.invoke(app, ["neurons", "show", folder, "1", "7", "--json"])
    assert json.loads(shown.stdout)["peak_ratio"] == float(expected[7])
    assert "peak ratio" in run.invoke(app, ["neurons", "show", folder, "1", "7"]).stdout
    listed = run.invoke(app, ["neurons", "list", folder, "--sort", "peak_ratio", "--limit", "1", "--json"])
    assert json.loads(listed.stdout)["neurons"][0]["peak_ratio"] == float(expected.max())

    export(atlas, tmp_path / "site")
    site = json.loads((tmp_path / "site" / "data" / "site.json").read_text())
    assert site["metrics"][-1] == {
        "name": "peak_ratio", "title": "Peak ratio", "short": "Peak ratio", "about": PEAK.description,
        "format": "number", "log": True, "table": False, "card": True,
    }  # fmt: skip
    columns = np.fromfile(tmp_path / "site" / "data" / "layers" / "01" / "columns.bin", "<f4").reshape(-1, 48)
    assert np.array_equal(columns[site["columns"].index("peak_ratio")], expected.numpy())
