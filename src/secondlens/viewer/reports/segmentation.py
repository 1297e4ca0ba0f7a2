"""The report of an evaluation of segmentation: summary.json, a document, curves and a grid of images and methods."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image

from secondlens.analysis.heatmaps import HeatMapMethod, SharedPass
from secondlens.analysis.heatmaps.fit import fit_images
from secondlens.analysis.segmentation.evaluate import Evaluation, Plan
from secondlens.analysis.segmentation.metrics import unit_range
from secondlens.analysis.segmentation.targets import Targets
from secondlens.analysis.segmentation.views import fit_mask, pixel_maps, views_of
from secondlens.data.masks import MaskedImages
from secondlens.disk.files import make_folder, write_text
from secondlens.disk.json_text import json_text
from secondlens.lens.model import LensModel
from secondlens.viewer.document import Document, Figure, Section, Table, write_document
from secondlens.viewer.plots import COLOURS, new_figure, save_figure

STYLES = ("-", "--", ":", "-.")


@dataclass(frozen=True)
class Panel:
    """One row of the grid: an image on the model's square, its mask, its target's text, maps in [0, 1] by method."""

    image: Image.Image
    mask: Bool[np.ndarray, "y x"]
    target: str
    maps: dict[str, Float[np.ndarray, "y x"]]


PURPOSE = "the pictures of the report"


def make_panels(
    model: LensModel,
    images: MaskedImages,
    methods: Sequence[HeatMapMethod],
    targets: Targets,
    evaluation: Evaluation,
    plan: Plan,
    rows: int = 8,
) -> list[Panel]:
    """Rows for images spread evenly over those evaluated: chosen by position, not by how good they look."""
    usable = [image["position"] for image in evaluation.done.images if image["skipped"] is None]
    chosen = [usable[index] for index in np.linspace(0, len(usable) - 1, min(rows, len(usable))).round().astype(int)]
    size, views = model.tower.image_size, views_of(plan.views, model.tower.patch)
    panels = []
    for position in chosen:
        item = images.read(position)
        shared = SharedPass.of(model, fit_images(model, [item.image]), methods)
        texts, vectors = targets.of(shared.embeddings, [images.names[position]])
        maps = pixel_maps(model, methods, shared, vectors[:, None], views)
        panels.append(
            Panel(
                item.image.resize(size[::-1]),
                fit_mask(item, size, "model")[0],
                texts[0],
                {name: unit_range(found[0, 0].cpu().numpy()) for name, found in maps.items()},
            )
        )
    return panels


def draw_grid(panels: Sequence[Panel], path: Path) -> None:
    """Images down, methods across; the mask's outline in white on every map."""
    names = list(panels[0].maps)
    width, height = len(names) + 2, len(panels)
    figure = new_figure(PURPOSE, 1.5 * width, 1.62 * height + 0.5)
    axes = figure.subplots(height, width, squeeze=False)
    for panel, line in zip(panels, axes, strict=True):
        for axis in line:
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(False)
        line[0].imshow(panel.image)
        line[0].set_xlabel(_short(panel.target.split(",")[0]), fontsize=8)
        line[1].imshow(panel.mask, cmap="gray", vmin=0, vmax=1)
        for axis, name in zip(line[2:], names, strict=True):
            axis.imshow(panel.maps[name], cmap="inferno", vmin=0, vmax=1)
            if panel.mask.any() and not panel.mask.all():
                axis.contour(panel.mask, levels=[0.5], colors="white", linewidths=0.7)
    for axis, name in zip(axes[0], ["image", "mask", *names], strict=True):
        axis.set_title(name.replace("-", "\n", 1), fontsize=9)
    save_figure(figure, path, 110)


def draw_curves(found: dict[str, Any], path: Path) -> None:
    """Mean IoU of the data set against the threshold, the best method first in the legend."""
    figure = new_figure(PURPOSE, 8, 4.4)
    axis = figure.subplots()
    order = sorted(found["curves"], key=lambda name: -max(value or 0 for value in found["curves"][name]["miou"]))
    for index, name in enumerate(order):
        values = [np.nan if value is None else 100 * value for value in found["curves"][name]["miou"]]
        colour, style = COLOURS[index % len(COLOURS)], STYLES[index // len(COLOURS) % len(STYLES)]
        axis.plot(found["thresholds"], values, color=colour, linestyle=style, linewidth=1.6, label=name)
    axis.axvline(0.5, color="dimgray", linewidth=0.8)
    axis.set_xlabel("threshold on the map in [0, 1]")
    axis.set_ylabel("mIoU (%)")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False, fontsize=8)
    save_figure(figure, path, 130)


def _short(text: str) -> str:
    return text if len(text) <= 22 else text[:21] + "…"


SUMMARY, CURVES, GRID = "summary.json", "curves.png", "grid.png"
SHOWN = ("pixel_accuracy", "miou", "map", "map_foreground", "miou_at_mean")


def write_report(found: dict[str, Any], panels: Sequence[Panel], folder: str | Path) -> list[Path]:
    """Write numbers, report and pictures, and return the files; `panels` are the rows of the grid (none: no grid)."""
    folder = Path(folder)
    make_folder(folder)
    written = [folder / SUMMARY, folder / "report.md", folder / "report.html", folder / CURVES]
    write_text(written[0], json_text(found, 2))
    for path in written[1:3]:
        write_document(report(found, bool(panels)), path)
    draw_curves(found, written[3])
    if panels:
        written.append(folder / GRID)
        draw_grid(panels, written[-1])
    return written


def report(found: dict[str, Any], grid: bool = False) -> Document:
    """Return tables of methods, differences and classes, and the pictures, as a document."""
    settings, counted, titles = found["settings"], found["counted"], found["metrics"]
    lead = [
        f"{counted['images']} images of {settings['images']['location']}, from number {settings['images']['first']}; "
        f"model {settings['model']}. Target: {_target(settings['target'])}. Scored at the "
        f"{'model square' if settings['resolution'] == 'model' else 'size of the image'}, {settings['views']} "
        f"view{'s' if settings['views'] > 1 else ''} per image.",
        f"Left out: {counted['skipped']}. Without a foreground: {counted['without_foreground']}. "
        f"Maps without contrast, of all methods: {counted['constant_maps']}{_constant(found['methods'])}.",
    ]
    note = (
        "In per cent, with 95 % bootstrap intervals over images. Threshold 0.5 where none is named; the last column is "
        "the threshold that would have been best on these very images, so an upper bound."
    )
    rows = [
        [
            name,
            *(_interval(values, key) for key in SHOWN),
            f"{_percent(values['miou_best'])} ({values['threshold_best']:.2f})",
        ]
        for name, values in sorted(found["methods"].items(), key=lambda item: -(item[1]["miou"] or 0))
    ]
    header = ["method", *(titles[key] for key in SHOWN), "best mIoU (threshold)"]
    sections = [Section("Methods", paragraphs=[note], tables=[Table("", header, rows)])]
    if found["compared"]:
        sections.append(_compared(found))
    if len(found["by_class"]) > 1:
        methods = list(found["methods"])
        rows = [
            [name, str(values["images"]), *(_percent(values[method]["miou"]) for method in methods)]
            for name, values in found["by_class"].items()
        ]
        table = Table("", [found["class_key"], "images", *methods], rows)
        sections.append(Section(f"mIoU by {found['class_key']}", tables=[table]))
    if found["skipped"]:
        items = [f"{image['id']}: {image['reason']}" for image in found["skipped"][:100]]
        if len(found["skipped"]) > 100:
            items.append(f"and {len(found['skipped']) - 100} more")
        sections.append(Section("Left out", items=items))
    figures = [Figure([(CURVES, "mean IoU against the threshold")], ["Mean IoU against the threshold."])]
    if grid:
        figures.append(Figure([(GRID, "images and maps")], ["Images spread evenly over those evaluated, with maps."]))
    return Document("Segmentation", lead, sections=[*sections, Section("Pictures", figures=figures)])


def _compared(found: dict[str, Any]) -> Section:
    keys = list(dict.fromkeys(row["metric"] for row in found["compared"]))
    others = list(dict.fromkeys(row["other"] for row in found["compared"]))
    cells = {(row["other"], row["metric"]): row for row in found["compared"]}
    rows = [[other, *(_difference(cells[other, key]) for key in keys)] for other in others]
    return Section(
        f"{found['reference']} against each other method",
        paragraphs=[
            "Differences in points, 95 % paired bootstrap interval, and Holm-corrected p-value of the paired sign-flip "
            "test over images."
        ],
        tables=[Table("", ["against", *(found["metrics"][key] for key in keys)], rows)],
    )


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _interval(values: dict[str, Any], key: str) -> str:
    return f"{_percent(values[key])} ({_percent(values[f'{key}_low'])} to {_percent(values[f'{key}_high'])})"


def _difference(row: dict[str, Any]) -> str:
    if row["difference"] is None:
        return "-"
    low, high = (_percent(row[side]) for side in ("low", "high"))
    return f"{100 * row['difference']:+.1f} ({low} to {high}), p {row['p_holm']:.4f}"


def _constant(methods: dict[str, dict[str, Any]]) -> str:
    some = [f"{name} {values['constant_maps']}" for name, values in methods.items() if values["constant_maps"]]
    return f" ({', '.join(some)})" if some else ""


def _target(kind: str) -> str:
    return "the class that the model predicts" if kind == "predicted" else "the given name"
