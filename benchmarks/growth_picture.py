"""The picture of how a survey grows: a column for what is raised, a row for what it costs."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's palette: told apart by colour-blind readers.
MEASURED, COUNTED = "#0072B2", "#D55E00"
ROWS = {"time": ("CPU seconds", 1.0), "memory": ("memory, MiB", 2.0**20), "disk": ("disk, MiB", 2.0**20)}


def draw(figures: dict[str, Any], path: Path) -> None:
    """Small multiples on logarithmic axes; in the last column memory and rate of the statistics alone."""
    series = figures["series"]
    columns = len(series) + 1
    figure = Figure(figsize=(2.15 * columns, 6.6), layout="constrained")
    panels = figure.subplots(len(ROWS), columns, squeeze=False)
    for column, some in enumerate(series):
        for row, (name, (label, unit)) in enumerate(ROWS.items()):
            panel = panels[row][column]
            if name not in some["fits"]:
                panel.axis("off")
                continue
            _panel(panel, some["sizes"], some["fits"][name], unit)
            if row == 0:
                panel.set_title(some["title"], fontsize=9)
            if column == 0:
                panel.set_ylabel(label)
    _statistics(panels[:, -1], figures["statistics"])
    figure.suptitle("How a survey grows: points measured, line fitted (exponent ± standard error), dashes counted",
                    fontsize=11)  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def _panel(panel: Axes, sizes: list[int], fit: dict[str, Any], unit: float) -> None:
    values = [value / unit for value in fit["measured"]]
    middle_x, middle_y = _middle(sizes), _middle(values)
    for exponent, colour, line in ((fit["exponent"], MEASURED, "-"), (fit["counted_exponent"], COUNTED, "--")):
        panel.plot(sizes, [middle_y * (size / middle_x) ** exponent for size in sizes], line, color=colour, lw=1.2)
    panel.plot(sizes, values, "o", color=MEASURED, ms=4)
    _axes(panel, sizes)
    # At least a factor of ten high, so that what is flat looks flat.
    low, high = min(values), max(values)
    if high < 10 * low:
        panel.set_ylim(middle_y / 10**0.6, middle_y * 10**0.6)
    panel.text(
        0.04, 0.96, f"{fit['exponent']:.2f} ± {fit['standard_error']:.2f}", color=MEASURED, fontsize=8, va="top",
        transform=panel.transAxes,
    )  # fmt: skip
    panel.text(
        0.96, 0.04, f"counted {fit['counted_exponent']:.2f}", color=COUNTED, fontsize=8, ha="right",
        transform=panel.transAxes,
    )  # fmt: skip


def _statistics(panels: Any, found: dict[str, Any]) -> None:
    points = found["points"]
    images = [point["images"] for point in points]
    rate, memory, rest = panels
    rate.plot(images, [point["images_per_cpu_second"] for point in points], "o-", color=MEASURED, ms=4, lw=1.2)
    rate.set_title("statistics alone", fontsize=9)
    rate.set_ylabel("images / CPU second", fontsize=8)
    memory.plot(images, [point["memory_peak"] / 2**20 for point in points], "o-", color=MEASURED, ms=4, lw=1.2)
    memory.set_ylabel("peak memory, MiB", fontsize=8)
    memory.set_xlabel("images", fontsize=8)
    for panel in (rate, memory):
        _axes(panel, images)
        low, high = panel.get_ylim()
        panel.set_ylim(min(low, high / 20), high * 2)
    rest.axis("off")
    rest.text(0.0, 0.9, f"{found['neurons']} neurons, {found['paths']} paths,\ntop {found['top']}: coefficients\n"
              "given, no model", fontsize=8, va="top")  # fmt: skip


def _axes(panel: Axes, sizes: list[int]) -> None:
    panel.set_xscale("log")
    panel.set_yscale("log")
    shown = sizes if len(sizes) < 6 else sizes[::2]
    panel.set_xticks(shown, [_short(size) for size in shown], fontsize=7)
    panel.minorticks_off()
    panel.tick_params(labelsize=7)
    panel.spines[["top", "right"]].set_visible(False)


def _short(size: int) -> str:
    return f"{size // 10**6}M" if size >= 10**6 else f"{size // 1000}k" if size >= 1000 else str(size)


def _middle(values: list[float]) -> float:
    """Geometric mean."""
    product = 1.0
    for value in values:
        product *= value ** (1 / len(values))
    return product
