"""An ablation study as a JSON object, a table of predicted classes and a picture like the paper's figure 3."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from secondlens.disk.files import make_folder, write_table, write_text
from secondlens.disk.json_text import json_text
from secondlens.studies.ablation import AblationStudy, LayerAblation, summary
from secondlens.studies.ablation_progress import AblationCheckpoints
from secondlens.studies.ablator import BASELINE
from secondlens.viewer.plots import new_figure, save_figure

SUMMARY, TABLE, PICTURE = "ablations.json", "ablations.parquet", "ablations.png"

# Okabe and Ito's palette: told apart by colour-blind readers. Name in the legend, colour, marker, line.
STYLES = {
    BASELINE: ("unchanged", "black", None, "-"),
    "without_all": ("all effects at their mean", "#D55E00", "o", "-"),
    "without_large": ("large effects at their mean", "#E69F00", "v", "-"),
    "without_small": ("small effects at their mean", "#0072B2", "^", "-"),
    "rank_one": ("first component", "#009E73", "s", "-"),
    "rank_two": ("two components", "#009E73", "s", "--"),
    "rank_four": ("four components", "#009E73", "s", ":"),
}
TEXTS = ("#CC79A7", "#56B4E9", "#999999")


def write_study(study: AblationStudy, folder: Path) -> list[Path]:
    """Write ablations.json, ablations.parquet and ablations.png into a folder; the files written.

    The table has a row an image and layer: id, label, surveyed, layer, and the class that each variant predicts.
    """
    make_folder(folder)
    found = summary(study)
    write_text(folder / SUMMARY, json_text(found, 2))
    # Layers with few paths have fewer ranks: empty there.
    tables = [_table(study, layer) for layer in study.layers]
    write_table(folder / TABLE, pa.concat_tables(tables, promote_options="default"))
    draw(found["layers"], folder / PICTURE)
    AblationCheckpoints.done(folder)
    return [folder / name for name in (SUMMARY, TABLE, PICTURE)]


def _table(study: AblationStudy, layer: LayerAblation) -> pa.Table:
    ids = study.images.source.ids
    images = len(study.positions)
    return pa.table(
        {
            "id": pa.array([ids[position] for position in study.positions.tolist()], pa.string()),
            "label": pa.array(study.labels.numpy(), pa.int32()),
            "surveyed": pa.array(study.surveyed.numpy()),
            "layer": pa.array([layer.layer] * images, pa.int32()),
            **{name: pa.array(values.numpy(), pa.int32()) for name, values in layer.predicted.items()},
        }
    )


def draw(layers: Sequence[dict[str, Any]], path: Path) -> None:
    """Accuracy against the layer, a line a variant. Band: 95 % interval of the baseline; bars: of the difference to it,
    over the same images.
    """
    figure = new_figure("the picture of accuracies", 8.5, 4.2)
    from matplotlib.ticker import MaxNLocator

    panel = figure.subplots()
    known = dict.fromkeys(name for layer in layers for name in layer["intervals"])
    others = [name for name in known if name not in STYLES]
    styles = STYLES | {
        name: (name, TEXTS[number % len(TEXTS)], "x", ("-", "--", ":")[number // len(TEXTS) % 3])
        for number, name in enumerate(others)
    }
    shown = {name: style for name, style in styles.items() if name in known}
    for number, (name, (title, colour, marker, line)) in enumerate(shown.items()):
        # A layer with fewer paths than four has no rank four.
        rows = [layer for layer in layers if name in layer["intervals"]]
        values = [100 * row[name] for row in rows]
        style = {"color": colour, "marker": marker, "markersize": 4, "linestyle": line, "linewidth": 1.4}
        if name == BASELINE:
            at = [row["layer"] for row in rows]
            low, high = ([100 * row["intervals"][name][end] for row in rows] for end in (0, 1))
            panel.fill_between(at, low, high, color=colour, alpha=0.08, linewidth=0)
            panel.plot(at, values, label=title, **style)
            continue
        # Side by side, so that bars do not hide each other.
        at = [row["layer"] + 0.35 * (number / len(shown) - 0.5) for row in rows]
        paired = [row["differences"][name] for row in rows]
        below = [100 * max(0.0, found["difference"] - found["low"]) for found in paired]
        above = [100 * max(0.0, found["high"] - found["difference"]) for found in paired]
        panel.errorbar(at, values, yerr=[below, above], elinewidth=0.8, label=title, **style)
    panel.set_xlabel("layer")
    panel.set_ylabel("accuracy (%)")
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.spines[["top", "right"]].set_visible(False)
    panel.set_title("band: 95 % interval of unchanged; bars: 95 % interval of the difference to it", fontsize=8)
    panel.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False, fontsize=8)
    save_figure(figure, path, 150)
