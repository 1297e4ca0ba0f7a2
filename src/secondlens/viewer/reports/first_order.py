"""The study of first-order effects as a JSON object, tables and a picture."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from secondlens.disk.files import make_folder, write_table, write_text
from secondlens.disk.json_text import json_text
from secondlens.studies.first_order import FirstOrderStudy, summary
from secondlens.viewer.plots import COLOURS, new_figure, save_figure


def write_report(study: FirstOrderStudy, folder: Path) -> list[Path]:
    """summary.json, parts.parquet, neurons.parquet and first-order.png in a folder; the files written."""
    make_folder(folder)
    found = summary(study)
    write_text(folder / "summary.json", json_text(found, 2))
    write_table(folder / "parts.parquet", _parts_table(study))
    write_table(folder / "neurons.parquet", _neurons_table(study))
    _draw(study, found, folder / "first-order.png")
    return [folder / name for name in ("summary.json", "parts.parquet", "neurons.parquet", "first-order.png")]


def _parts_table(study: FirstOrderStudy) -> pa.Table:
    """One row a head (of a reader) and an MLP: |mean|, spread, and for a head the accuracy without it alone."""
    heads, mlps = study.moments.mean("heads").norm(dim=-1), study.moments.mean("mlps").norm(dim=-1)
    spreads = study.moments.spread("heads")
    alone = study.heads.float().mean(dim=2)
    rows = [
        ("head", reader, head, float(heads[reader, head]), float(spreads[reader, head]), float(alone[reader, head]))
        for reader in range(heads.shape[0])
        for head in range(heads.shape[1])
    ]
    layers = list(study.neurons)
    rows += [
        ("MLP", layer, -1, float(mlps[place]), float(study.moments.spread("mlps")[place]), float("nan"))
        for place, layer in enumerate(layers)
    ]
    names = ("kind", "layer", "head", "mean_norm", "spread", "accuracy_without")
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    types = {"layer": pa.int32(), "head": pa.int32(), "mean_norm": pa.float32(), "spread": pa.float32()}
    return pa.table({name: pa.array(values, types.get(name)) for name, values in columns.items()})


def _neurons_table(study: FirstOrderStudy) -> pa.Table:
    """One row a neuron: |mean| and spread of its direct effect, in units of the unit-norm embedding."""
    layers = [layer for layer, (mean, _) in study.neurons.items() for _ in range(len(mean))]
    return pa.table(
        {
            "layer": pa.array(layers, pa.int32()),
            "neuron": pa.array([n for mean, _ in study.neurons.values() for n in range(len(mean))], pa.int32()),
            "mean_norm": torch.cat([mean for mean, _ in study.neurons.values()]).numpy(),
            "spread": torch.cat([spread for _, spread in study.neurons.values()]).numpy(),
        }
    )


def _draw(study: FirstOrderStudy, found: dict[str, Any], path: Path) -> None:
    """Accuracy against the number of layers held, and heads by their spread."""
    figure = new_figure("the picture of first-order effects", 9.5, 3.6)
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    markers = ("o", "s", "^")
    for (name, steps), colour, marker in zip(found["curves"].items(), COLOURS, markers, strict=False):
        held = [step["held"] for step in steps]
        left.plot(held, [100 * s["accuracy"] for s in steps], color=colour, marker=marker, markersize=4, label=name)
        low, high = ([100 * step[key] for step in steps] for key in ("low", "high"))
        left.fill_between(held, low, high, color=colour, alpha=0.15, linewidth=0)
    left.axhline(100 * found["baseline"]["accuracy"], color="black", linewidth=1, linestyle=":", label="unchanged")
    left.set_xlabel("layers held at their mean, from the last down")
    left.set_ylabel("accuracy (%)")
    left.set_ylim(bottom=0)
    left.legend(frameon=False, fontsize=8)
    left.spines[["top", "right"]].set_visible(False)
    spreads = study.moments.spread("heads").cpu().numpy()
    shown = right.imshow(spreads, aspect="auto", cmap="cividis", origin="lower")
    right.set_xlabel("head")
    right.set_ylabel("reader (attention layer)")
    for axis, count in ((right.xaxis, spreads.shape[1]), (right.yaxis, spreads.shape[0])):
        axis.set_ticks(range(0, count, max(1, count // 8)))
    right.set_title("spread of the direct contribution", fontsize=10)
    figure.colorbar(shown, ax=right)
    save_figure(figure, path, 150)
