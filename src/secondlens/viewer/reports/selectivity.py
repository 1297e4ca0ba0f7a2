"""Selectivity and rank as a JSON object, tables and a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from secondlens.atlas.store import Atlas, AtlasLayer
from secondlens.disk.files import make_folder, write_table, write_text
from secondlens.disk.json_text import json_text
from secondlens.studies.selectivity import distribution, neuron_figures, selectivity_summary
from secondlens.studies.shuffles import STATISTICS, ShuffleTest
from secondlens.viewer.plots import new_figure, save_figure

SUMMARY, NEURONS, PAIRS, PICTURE = "selectivity.json", "neurons.parquet", "pairs.parquet", "selectivity.png"
PANELS = {
    "above_half_of_largest": "share of images with at least\nhalf of the largest norm",
    "above_4_medians": "share of images with more than\nfour times the median norm",
    "explained_variance": "variance of top effects\nexplained by one component",
    "participation": "participation ratio\nof top effects",
    "effective_paths": "effective number of paths\n(neuron-head pairs)",
}


def write_selectivity(
    atlas: Atlas, folder: Path, layers: Sequence[int] | None = None, tests: Sequence[ShuffleTest] = ()
) -> list[Path]:
    """Write selectivity.json, neurons.parquet (a row a neuron), pairs.parquet (a row a neuron and path) and
    selectivity.png into a folder; the files written.
    """
    make_folder(folder)
    chosen = [atlas.layer(index) for index in (atlas.layers if layers is None else sorted(set(layers)))]
    by_layer = {test.layer: test for test in tests}
    write_text(folder / SUMMARY, json_text(selectivity_summary(atlas, layers, tests), 2))
    neurons = [_neurons(layer, by_layer.get(layer.index)) for layer in chosen]
    write_table(folder / NEURONS, pa.concat_tables(neurons, promote_options="default"))
    pairs = [_pairs(layer, by_layer.get(layer.index)) for layer in chosen]
    write_table(folder / PAIRS, pa.concat_tables(pairs, promote_options="default"))
    _draw(chosen, folder / PICTURE)
    return [folder / name for name in (SUMMARY, NEURONS, PAIRS, PICTURE)]


def _neurons(layer: AtlasLayer, test: ShuffleTest | None) -> pa.Table:
    figures = neuron_figures(layer)
    count = len(figures["participation"])
    columns: dict[str, Any] = {
        "layer": pa.array([layer.index] * count, pa.int32()),
        "neuron": pa.array(range(count), pa.int32()),
        **{name: pa.array(values.numpy(), pa.float32()) for name, values in figures.items()},
    }
    if test is not None:
        for name in STATISTICS:
            spread: list[float | None] = [None] * count
            for neuron, value in zip(test.neurons.tolist(), test.p_values[name].tolist(), strict=True):
                spread[neuron] = value
            columns[f"p_{name}"] = pa.array(spread, pa.float32())
    return pa.table(columns)


def _pairs(layer: AtlasLayer, test: ShuffleTest | None) -> pa.Table:
    """Rows neuron by neuron, path by path."""
    count, paths = layer.path_fractions.shape
    columns: dict[str, Any] = {
        "layer": pa.array([layer.index] * (count * paths), pa.int32()),
        "neuron": pa.array([neuron for neuron in range(count) for _ in range(paths)], pa.int32()),
        "readout": pa.array([path.reader for path in layer.paths] * count, pa.int32()),
        "head": pa.array([path.head for path in layer.paths] * count, pa.int32()),
        "fraction": pa.array(layer.path_fractions.flatten().numpy(), pa.float32()),
    }
    if test is not None:
        spread: list[list[float | None]] = [[None] * paths for _ in range(count)]
        for neuron, values in zip(test.neurons.tolist(), test.pairs.tolist(), strict=True):
            spread[neuron] = values
        columns["above_half_of_largest"] = pa.array([value for row in spread for value in row], pa.float32())
    return pa.table(columns)


def _draw(layers: Sequence[AtlasLayer], path: Path) -> None:
    """Distributions over neurons by layer: the median, and bands that hold half and nine tenths of them."""
    figure = new_figure("the picture of selectivity", 3.1 * len(PANELS), 3.4)
    from matplotlib.ticker import MaxNLocator

    figures = {layer.index: neuron_figures(layer) for layer in layers}
    for panel, (name, title) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
        shown = {index: distribution(found[name]) for index, found in figures.items()}
        at = list(shown)
        for low, high, width in (("q05", "q95", 2), ("q25", "q75", 6)):
            panel.vlines(
                at, [row[low] for row in shown.values()], [row[high] for row in shown.values()],
                color="#0072B2", alpha=0.35, linewidth=width,
            )  # fmt: skip
        panel.plot(at, [row["q50"] for row in shown.values()], color="#0072B2", marker="o", markersize=5)
        panel.set_title(title, fontsize=9)
        panel.set_xlabel("layer")
        panel.set_ylim(bottom=0)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.spines[["top", "right"]].set_visible(False)
    figure.suptitle("median over neurons, and the ranges of half and nine tenths of them", fontsize=9)
    save_figure(figure, path, 150)
