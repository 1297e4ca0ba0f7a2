"""The report of an evaluation: summary.json, report.md and two pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from secondlens.applications.segmentation.pictures import Panel, draw_curves, draw_grid
from secondlens.disk.files import make_folder, write_text
from secondlens.disk.json_text import json_text

SUMMARY, REPORT, CURVES, GRID = "summary.json", "report.md", "curves.png", "grid.png"
SHOWN = ("pixel_accuracy", "miou", "map", "map_foreground", "miou_at_mean")


def write_report(found: dict[str, Any], panels: Sequence[Panel], folder: str | Path) -> list[Path]:
    """Write all four files; `panels` are the rows of the grid (none: no grid). The files written."""
    folder = Path(folder)
    make_folder(folder)
    written = [folder / SUMMARY, folder / REPORT, folder / CURVES]
    write_text(written[0], json_text(found, 2))
    write_text(written[1], markdown(found, bool(panels)))
    draw_curves(found, written[2])
    if panels:
        written.append(folder / GRID)
        draw_grid(panels, written[3])
    return written


def markdown(found: dict[str, Any], grid: bool = False) -> str:
    """Tables of methods, differences and classes as Markdown."""
    settings, counted = found["settings"], found["counted"]
    lines = [
        "# Segmentation",
        "",
        f"{counted['images']} images of {_text(settings['images']['location'])}, from number "
        f"{settings['images']['first']}; model {_text(settings['model'])}. Target: {_target(settings['target'])}. "
        f"Scored at the {'model square' if settings['resolution'] == 'model' else 'size of the image'}, "
        f"{settings['views']} view{'s' if settings['views'] > 1 else ''} an image.",
        "",
        f"Left out: {counted['skipped']}. Without a foreground: {counted['without_foreground']}. "
        f"Maps without contrast, of all methods: {counted['constant_maps']}{_constant(found['methods'])}.",
        "",
        "In per cent, with 95 % bootstrap intervals over images. Threshold 0.5 where none is named; the last column is "
        "the threshold that would have been best on these very images, so an upper bound.",
        "",
    ]
    titles = found["metrics"]
    header = ["method", *(titles[key] for key in SHOWN), "best mIoU (threshold)"]
    rows = [
        [
            _text(name),
            *(_interval(values, key) for key in SHOWN),
            f"{_percent(values['miou_best'])} ({values['threshold_best']:.2f})",
        ]
        for name, values in sorted(found["methods"].items(), key=lambda item: -(item[1]["miou"] or 0))
    ]
    lines += _table(header, rows)
    if found["compared"]:
        lines += ["", f"## {_text(found['reference'])} against each other method", ""]
        lines += [
            "Differences in points, 95 % paired bootstrap interval, and Holm-corrected p-value of the paired sign-flip "
            "test over images.",
            "",
        ]
        keys = list(dict.fromkeys(row["metric"] for row in found["compared"]))
        others = list(dict.fromkeys(row["other"] for row in found["compared"]))
        cells = {(row["other"], row["metric"]): row for row in found["compared"]}
        lines += _table(
            ["against", *(titles[key] for key in keys)],
            [[_text(other), *(_difference(cells[other, key]) for key in keys)] for other in others],
        )
    if len(found["by_class"]) > 1:
        lines += ["", f"## mIoU by {found['class_key']}", ""]
        methods = list(found["methods"])
        lines += _table(
            [found["class_key"], "images", *map(_text, methods)],
            [
                [_text(name), str(values["images"]), *(_percent(values[method]["miou"]) for method in methods)]
                for name, values in found["by_class"].items()
            ],
        )
    if found["skipped"]:
        lines += ["", "## Left out", ""]
        lines += [f"- {_text(image['id'])}: {_text(image['reason'])}" for image in found["skipped"][:100]]
        if len(found["skipped"]) > 100:
            lines.append(f"- and {len(found['skipped']) - 100} more")
    lines += ["", f"![mean IoU against the threshold]({CURVES})", ""]
    if grid:
        lines += [f"![images and maps]({GRID})", ""]
    return "\n".join(lines)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]


def _text(value: object) -> str:
    """Safe in a cell of a Markdown table."""
    return " ".join(str(value).split()).replace("|", "\\|").replace("<", "&lt;")


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
    some = [f"{_text(name)} {values['constant_maps']}" for name, values in methods.items() if values["constant_maps"]]
    return f" ({', '.join(some)})" if some else ""


def _target(kind: str) -> str:
    return "the class that the model predicts" if kind == "predicted" else "the given name"
