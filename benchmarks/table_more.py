"""Further sections of README.md: precision, growth, the cluster, others' implementations."""

from typing import Any

Entries = list[dict[str, Any]]

PRECISION_HEAD = """
## Precision

The model in a precision beside the same model in float64: surveys of the same pictures, and the ablation study on as
many others. *Directions*: 1 - |cos| where the first component is clear; *norms*: relative, of the top images;
*explained*: absolute. Medians (99 % of neurons below). *Top images kept*: that float64 has too. *Swaps beyond error*:
places where an image took another's although their norms, computed apart from the survey, are further apart than the
measured errors of the two. *Accuracy*: mean (largest) difference in points over all layers and variants.
What limits it: 8 bits of a significand in bfloat16, 11 in float16, in the forward pass; the lens itself sums in float32
and float64.

"""

GROWTH_HEAD = """
## Growth

Slopes on logarithmic axes, with standard errors, beside those of the counted costs over the same sizes (formulas in
docs/scale.md, picture in docs/images/growth.png). CPU seconds of one thread; memory beyond what the process had before.

"""

CLUSTER_HEAD = """
## The cluster beside plain processes

Ray's workers on one machine beside as many plain processes; what Ray takes to start is in neither. What limits it: the
workers' own forward passes; shards' statistics that come back.

"""

BESIDE_HEAD = """
## Another implementation, beside ours

A command of theirs and a survey of ours over the same images, in turn, start and loading of the model included.

"""


def table(names: list[str], rows: list[list[object]]) -> str:
    lines = [names, ["---"] * len(names), *rows]
    return "".join("| " + " | ".join(map(str, line)) + " |\n" for line in lines)


def more_sections(entries: Entries) -> str:
    """Those of which there are results."""
    text = ""
    for name, made in (("precision", _precision), ("growth", _growth), ("cluster", _cluster), ("beside", _beside)):
        mine = [entry for entry in entries if entry["benchmark"] == name]
        text += made(mine) if mine else ""
    return text


def _precision(entries: Entries) -> str:
    rows: list[list[object]] = []
    for entry in entries:
        figures = entry["figures"]
        for dtype, found in figures["dtypes"].items():
            start = [figures["model"], figures["layers"], f"{figures['images']}, {figures['top']}", dtype]
            if "cannot" in found:
                rows.append([*start, found["cannot"], *[""] * 6])
                continue
            rows.append(
                [
                    *start,
                    _spread(found["clear_directions"]),
                    _spread(found["norms"]),
                    _spread(found["explained_variance"]),
                    f"{100 * found['top_overlap']:.2f} %",
                    f"{found['swaps_beyond_error']} of {found['swaps']}",
                    f"{found['accuracy_points_mean']:.2f} ({found['accuracy_points']:.1f})",
                    f"{100 * found['predictions_changed']:.2f} %",
                ]
            )
    return PRECISION_HEAD + table(
        ["model", "layers", "pictures, top", "precision", "directions", "norms", "explained", "top images kept",
         "swaps beyond error", "accuracy", "predictions changed"],
        rows,
    )  # fmt: skip


def _spread(found: dict[str, float]) -> str:
    return f"{found['median']:.0e} ({found['99 %']:.0e})"


def _growth(entries: Entries) -> str:
    text = GROWTH_HEAD
    for entry in entries:
        rows: list[list[object]] = []
        for series in entry["figures"]["series"]:
            for name, fit in series["fits"].items():
                rows.append(
                    [
                        series["title"],
                        f"{series['sizes'][0]:,} to {series['sizes'][-1]:,}",
                        name,
                        f"{fit['exponent']:.2f} ± {fit['standard_error']:.2f}",
                        f"{fit['counted_exponent']:.2f}",
                        fit["order"],
                    ]
                )
        text += table(["raised", "from, to", "cost", "measured", "counted", "in the limit"], rows)
        alone = entry["figures"]["statistics"]
        text += (
            f"\nStatistics alone, coefficients given, no model ({alone['neurons']} neurons, {alone['paths']} paths, "
            f"top {alone['top']}, one thread); limited by selecting the largest norms:\n\n"
        )
        text += table(
            ["images", "images / CPU second since the line above", "peak memory", "state"],
            [
                [f"{p['images']:,}", f"{p['images_per_cpu_second']:,.0f}", f"{p['memory_peak'] / 2**20:.1f} MiB",
                 f"{p['state'] / 2**20:.1f} MiB"]
                for p in alone["points"]
            ],
        )  # fmt: skip
    return text


def _cluster(entries: Entries) -> str:
    return CLUSTER_HEAD + table(
        ["model", "layers", "images", "workers", "plain processes, s", "cluster, s", "ratio", "start, s"],
        [
            [f["model"], f["layers"], f["images"], f["workers"], min(f["processes_seconds"]),
             min(f["cluster_seconds"]), f"{f['ratio']:.2f} x", f["start_seconds"]]
            for f in (entry["figures"] for entry in entries)
        ],
    )  # fmt: skip


def _beside(entries: Entries) -> str:
    return BESIDE_HEAD + table(
        ["other", "model", "layers", "images", "ours, images/s", "theirs, images/s", "their time over ours",
         "our memory", "their memory"],
        [
            [f["name"], f["model"], f["layers"], f["images"], f["ours_images_per_second"],
             f["theirs_images_per_second"], f"{f['ratio']} x", f"{f['ours_peak_gib']} GiB",
             f"{f['theirs_peak_gib']} GiB"]
            for f in (entry["figures"] for entry in entries)
        ],
    )  # fmt: skip
