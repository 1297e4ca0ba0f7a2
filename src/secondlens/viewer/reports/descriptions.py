"""A study of descriptions as a JSON object, tables and a picture."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from secondlens.descriptions.store import QUALITY
from secondlens.disk.files import make_folder, write_table, write_text
from secondlens.disk.json_text import json_text
from secondlens.studies.descriptions import DescriptionStudy, LayerStudy, summary
from secondlens.viewer.plots import COLOURS, new_figure, save_figure


def write_report(study: DescriptionStudy, folder: Path) -> list[Path]:
    """summary.json and curve.png in a folder, and a table of neurons beside each description; the files written."""
    make_folder(folder)
    found = summary(study)
    write_text(folder / "summary.json", json_text(found, 2))
    written = [folder / "summary.json", folder / "curve.png"]
    for description in study.described:
        table = pa.concat_tables([_neurons_table(layer, description.name) for layer in study.layers])
        write_table(description.folder / QUALITY, table)
        written.append(description.folder / QUALITY)
    _draw(found, folder / "curve.png")
    return written


def _neurons_table(study: LayerStudy, pool: str) -> pa.Table:
    """One row a neuron: layer, neuron, the figures, and the second opinion's label."""
    figures = study.neurons[pool]
    count = len(study.labels[pool])
    columns: dict[str, Any] = {
        "layer": pa.array([study.layer] * count, pa.int32()),
        "neuron": pa.array(range(count), pa.int32()),
        **{name: pa.array(values.numpy(), pa.float32()) for name, values in figures.items()},
    }
    return pa.table({**columns, "second_opinion": study.labels[pool]})


def _draw(found: dict[str, Any], path: Path) -> None:
    """Accuracy against the number of texts, a panel a layer."""
    layers = found["layers"]
    figure = new_figure("the picture of the accuracy curve", 4 * len(layers) + 1.5, 3.6)
    panels = figure.subplots(1, len(layers), sharey=True, squeeze=False)[0]
    styles = {"baseline": ("black", "-"), "rank_one": ("dimgray", "--"), "without_all": ("dimgray", ":")}
    names = {"baseline": "unchanged", "rank_one": "true directions", "without_all": "all effects at their mean"}
    for panel, layer in zip(panels, layers, strict=True):
        for name, (colour, line) in styles.items():
            panel.axhline(100 * layer[name]["accuracy"], color=colour, linestyle=line, linewidth=1.2, label=names[name])
        pools = list(dict.fromkeys(row["pool"] for row in layer["reconstructed"]))
        for pool, colour in zip(pools, COLOURS * len(pools), strict=False):
            rows = [row for row in layer["reconstructed"] if row["pool"] == pool]
            sizes = [row["texts"] for row in rows]
            for way, marker in (("paper", "o"), ("released", "x")):
                values = [100 * row[way]["accuracy"] for row in rows]
                line = "-" if way == "paper" else "--"
                panel.plot(sizes, values, color=colour, marker=marker, linestyle=line, label=f"{pool} ({way})")
            panel.fill_between(
                sizes,
                [100 * row["paper"]["low"] for row in rows],
                [100 * row["paper"]["high"] for row in rows],
                color=colour,
                alpha=0.15,
                linewidth=0,
            )
        panel.set_xscale("log", base=2)
        panel.set_xticks(sizes, [str(size) for size in sizes])
        panel.set_title(f"layer {layer['layer']}")
        panel.set_xlabel("texts a neuron")
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("accuracy (%)")
    panels[-1].legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False, fontsize=8)
    save_figure(figure, path, 150)
