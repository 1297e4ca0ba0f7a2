"""Table 1 as a JSON object, a table of neurons, directions and a picture."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from secondlens.disk.files import make_folder, write_table, write_tensors, write_text
from secondlens.disk.json_text import json_text
from secondlens.studies.indirect import Table1, summary
from secondlens.viewer.plots import COLOURS, new_figure, save_figure


def write_report(study: Table1, folder: Path) -> list[Path]:
    """summary.json, neurons.parquet, directions.safetensors and table1.png in a folder; the files written."""
    make_folder(folder)
    found = summary(study)
    write_text(folder / "summary.json", json_text(found, 2))
    write_table(folder / "neurons.parquet", _neurons_table(study))
    write_tensors(
        folder / "directions.safetensors",
        {
            "neurons": study.neurons,
            "directions": study.indirect.directions.contiguous(),
            "mean_effects": study.indirect.mean_effects.contiguous(),
        },
    )
    _draw(study, found, folder / "table1.png")
    return [folder / name for name in ("summary.json", "neurons.parquet", "directions.safetensors", "table1.png")]


def _neurons_table(study: Table1) -> pa.Table:
    """One row a sampled neuron. rms: root mean square of |effect - mean|; cosine: of the two effects' directions."""
    second, rows = study.second_order, study.neurons
    columns = {
        "indirect_explained_variance": study.indirect.explained_variance,
        "second_order_explained_variance": second.explained_variance[rows],
        "indirect_rms": study.indirect.root_mean_square,
        "second_order_rms": second.variance[rows].sqrt(),
        "cosine": (study.indirect.directions * second.directions[rows].cpu()).sum(dim=1),
    }
    count = len(rows)
    return pa.table(
        {
            "layer": pa.array([study.layer] * count, pa.int32()),
            "neuron": pa.array(rows.tolist(), pa.int32()),
            **{name: pa.array(values.cpu().numpy(), pa.float32()) for name, values in columns.items()},
        }
    )


def _draw(study: Table1, found: dict[str, Any], path: Path) -> None:
    """Accuracies with intervals, and explained variances over the sampled neurons."""
    figure = new_figure("the picture of table 1", 8, 3.4)
    left, right = figure.subplots(1, 2)
    bars = [("unchanged", found["baseline"], "dimgray")]
    bars += [(row["effect"], row, colour) for row, colour in zip(found["rows"], COLOURS, strict=False)]
    for place, (_, row, colour) in enumerate(bars):
        value = 100 * row["accuracy"]
        interval = [[value - 100 * row["low"]], [100 * row["high"] - value]]
        left.bar(place, value, color=colour, yerr=interval, capsize=4, width=0.65)
        left.annotate(f"{value:.1f}", (place, 100 * row["high"]), (0, 3), textcoords="offset points", ha="center")
    left.set_xticks(range(len(bars)), [name for name, _, _ in bars])
    left.set_ylabel("accuracy (%)")
    left.margins(y=0.12)
    left.set_title(f"layer {study.layer} held at its mean", fontsize=10)
    bins = [step / 40 for step in range(41)]
    for (name, values), colour in zip(study.explained().items(), COLOURS, strict=False):
        mean = float(values.mean())
        right.hist(values.cpu().numpy(), bins=bins, color=colour, alpha=0.6, label=f"{name}: mean {100 * mean:.1f} %")
        right.axvline(mean, color=colour, linewidth=1.5)
    right.set_xlabel("variance explained by the first component")
    right.set_ylabel(f"neurons (of {len(study.neurons)})")
    right.set_xlim(0, 1)
    right.yaxis.get_major_locator().set_params(integer=True)
    right.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    for panel in (left, right):
        panel.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path, 150)
