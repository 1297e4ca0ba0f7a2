"""A laboratory's findings as plain data, tables and a picture."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from secondlens.disk.files import make_folder, write_table, write_text
from secondlens.disk.json_text import json_text
from secondlens.studies.laboratory.run import Laboratory, LayerLaboratory, summary
from secondlens.viewer.plots import COLOURS, new_figure, save_figure
from secondlens.world.phrases import CONCEPT_KINDS, CONCEPTS

SUMMARY, CONCEPT_TABLE, CUE_TABLE, PICTURE = "laboratory.json", "concepts.parquet", "cues.parquet", "laboratory.png"


def write_laboratory(found: Laboratory, folder: Path) -> list[Path]:
    """Write laboratory.json, concepts.parquet (a row a neuron and concept), cues.parquet (a row a planted cue of a
    pair, where audited) and laboratory.png; the files written.
    """
    make_folder(folder)
    facts = summary(found)
    write_text(folder / SUMMARY, json_text(facts, 2))
    write_table(folder / CONCEPT_TABLE, pa.concat_tables([_concepts(layer) for layer in found.layers]))
    written = [folder / SUMMARY, folder / CONCEPT_TABLE]
    rows = [
        {"scoring": scoring, **{name: value for name, value in vars(rank).items() if name != "chance"}}
        for scoring, ranks in found.cues.items()
        for rank in ranks
    ]
    if rows:
        write_table(folder / CUE_TABLE, pa.Table.from_pylist(rows))
        written.append(folder / CUE_TABLE)
    draw(facts, folder / PICTURE)
    return [*written, folder / PICTURE]


def _concepts(layer: LayerLaboratory) -> pa.Table:
    neurons, count = layer.truth.auc.shape
    kinds, values = zip(*CONCEPTS, strict=True)
    return pa.table(
        {
            "layer": pa.array(np.full(neurons * count, layer.layer), pa.int32()),
            "neuron": pa.array(np.repeat(np.arange(neurons), count), pa.int32()),
            "kind": pa.array(list(kinds) * neurons),
            "concept": pa.array(list(values) * neurons),
            "auc": _flat(layer.truth.auc),
            "correlation": _flat(layer.truth.correlation),
            **{name: _flat(weights) for name, weights in layer.weights.items()},
        }
    )


def _flat(values: torch.Tensor) -> pa.Array:
    return pa.array(values.flatten().float().numpy(), pa.float32())


def draw(facts: dict[str, Any], path: Path) -> None:
    """Three panels: which kind of concept neurons tell best; words against truth; recall of planted cues."""
    layers = facts["layers"]
    at = np.array([layer["layer"] for layer in layers])
    cues = facts["cues"]
    figure = new_figure("the laboratory's picture", 13 if cues else 9, 3.8)
    from matplotlib.ticker import MaxNLocator

    panels = figure.subplots(1, 3 if cues else 2)
    below = np.zeros(len(layers))
    for kind, colour in zip(CONCEPT_KINDS, COLOURS, strict=False):
        share = np.array([100 * layer["best_kind"][kind] for layer in layers])
        panels[0].bar(at, share, bottom=below, color=colour, width=0.7, label=kind)
        below += share
    panels[0].set_ylabel("neurons (%)")
    panels[0].set_title("what a neuron tells best", fontsize=10)
    panels[0].legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), frameon=False, fontsize=8, ncols=4)
    styles = {"words": (COLOURS[0], "o", "description"), "cosine": (COLOURS[1], "s", "direction alone")}
    for name, (colour, marker, title) in styles.items():
        rows = [layer for layer in layers if layer[name]]
        for figure_name, line, what in (("observed", "-", ""), ("chance", ":", ", another neuron's")):
            values = [100 * layer[name]["precision@1"][figure_name] for layer in rows]
            style = {"color": colour, "marker": marker, "linestyle": line, "markersize": 4}
            panels[1].plot([layer["layer"] for layer in rows], values, label=title + what, **style)
    panels[1].set_ylabel("first concept right (%)")
    panels[1].set_ylim(bottom=0)
    panels[1].set_title("what its words name, against the truth", fontsize=10)
    panels[1].legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), frameon=False, fontsize=8, ncols=2)
    for panel in panels[:2]:
        panel.set_xlabel("layer")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    if cues:
        _draw_cues(panels[2], cues)
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path, 150)


def _draw_cues(panel: Any, cues: dict[str, Any]) -> None:
    for (scoring, groups), colour in zip(cues.items(), COLOURS, strict=False):
        sizes = [int(name.partition("@")[2]) for name in groups["all"] if name.startswith("recall@")]
        values = [100 * groups["all"][f"recall@{size}"] for size in sizes]
        ends = [groups["all"][f"interval@{size}"] for size in sizes]
        low, high = ([100 * end[side] for end in ends] for side in (0, 1))
        chance = [100 * groups["all"][f"chance@{size}"] for size in sizes]
        panel.plot(sizes, values, color=colour, marker="o", markersize=4, label=f"scoring: {scoring}")
        panel.fill_between(sizes, low, high, color=colour, alpha=0.15, linewidth=0)
        panel.plot(sizes, chance, color=colour, linestyle=":", label="the same where not planted")
    panel.set_xlabel("first phrases of the audit")
    panel.set_ylabel("planted cues found (%)")
    panel.set_ylim(0, 100)
    panel.set_title("recall of planted cues", fontsize=10)
    panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), frameon=False, fontsize=8, ncols=2)
