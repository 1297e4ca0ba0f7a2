"""How far cues push from each class to each other one: a table and a picture."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from secondlens.analysis.audit.matrix import BEST, PairMatrix
from secondlens.disk.files import check_file, make_folder, write_table, write_text
from secondlens.viewer.plots import check_picture, new_figure, save_figure

PICTURED = 30
"""Classes of the picture at most."""


TABLES = (".csv", ".parquet")
"""Endings of the file of pairs."""


def write_matrix(matrix: PairMatrix, path: Path, picture: Path | None = None) -> None:
    """The pairs by falling exploitability, as a .csv or .parquet, and the picture as a PNG.

    Columns: source_class, target_class, exploitability, cues (texts, "; " between), scores. Raises, before anything is
    written, what `check_file` and `check_picture` raise. For JSON see `results`.
    """
    check_file(path, *TABLES)
    check_picture(picture)
    rows = matrix.ranked()
    columns = {
        "source_class": [row["source_class"] for row in rows],
        "target_class": [row["target_class"] for row in rows],
        "exploitability": [row["exploitability"] for row in rows],
        "cues": ["; ".join(cue["text"] for cue in row["cues"]) for row in rows],
        "scores": ["; ".join(f"{cue['score']:.6g}" for cue in row["cues"]) for row in rows],
    }
    make_folder(path.parent)
    if path.suffix.lower() == ".parquet":
        write_table(path, pa.table(columns))
    else:
        import csv
        import io

        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
        write_text(path, text.getvalue())
    if picture is not None:
        draw_matrix(matrix, picture)


def draw_matrix(matrix: PairMatrix, path: Path) -> None:
    """Exploitability as a PNG: a map of the classes that occur in the strongest pairs.

    Raises `MissingExtra` without matplotlib.
    """
    known = np.nan_to_num(matrix.values, nan=0.0)
    strength = np.maximum(known.max(axis=0), known.max(axis=1))
    shown = sorted(np.argsort(-strength, kind="stable")[:PICTURED].tolist())
    values = matrix.values[np.ix_(shown, shown)]
    names = [matrix.classes[row].split(",")[0][:24] for row in shown]
    size = max(4.0, 0.32 * len(shown) + 2.5)
    figure = new_figure("the picture of the matrix", size + 1, size)
    axes = figure.add_subplot()
    # Viridis keeps its order for colour-blind readers and in grey.
    drawn = axes.imshow(values, cmap="viridis", vmin=0)
    axes.set_xticks(range(len(shown)), names, rotation=90)
    axes.set_yticks(range(len(shown)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("shown")
    left_out = len(matrix.classes) - len(shown)
    axes.set_title(
        "How far cues push from a shown to a predicted class"
        + (f"\n(the {len(shown)} classes of the strongest pairs, of {len(matrix.classes)})" if left_out else "")
    )
    bar = figure.colorbar(drawn, ax=axes, shrink=0.7)
    bar.set_label(f"exploitability (the {BEST} best cues)")
    save_figure(figure, path, 130)
