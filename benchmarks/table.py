"""README.md, made from the JSON files in results/."""

import json
from pathlib import Path
from typing import Any

from benchmarks.report import FOLDER, RESULTS
from benchmarks.table_more import more_sections
from benchmarks.table_more import table as _table

HEAD = """# Benchmarks

Made by `python -m benchmarks` (or `make bench`) from `results/*.json`, each of which holds its command, machine,
versions and commit. Do not edit by hand. Every ratio is between two things done in turn in the same run; medians.

"""

SURVEY_HEAD = """## A survey beside the plain forward pass

The floor is upstream's own forward pass over the same images at the same batch size; decoding is in neither. *A batch*
is the median over batches of the paired ratio. *In all* adds what happens once, before the first batch (write
directions, Gram factors) and after the last (principal components), over this number of images. *5,124 images* is the
paper's survey set: the same figures, with what happens once spread over so many. *Share of roofline*: the time that the
batch's counted operations and bytes would take at the peaks of a large product and a large copy, measured in the same
run, over the time it took (`benchmarks/roofline.py`). *Limit*: where most of a batch's time goes; *at best*: the larger
part of the counted time.

"""

ORACLE_HEAD = """
## Against a straightforward implementation

One that materialises [token, neuron, width] a path: the oracle of the tests, in its float64 and in float32. Ours is
float32, in batches of 32. Seconds an image, forward pass included. What limits it: memory, read and written a path.

"""

ABLATION_HEAD = """
## Ablations beside the plain forward pass

All variants of all layers (unchanged, at the mean, large and small effects at the mean, one, two and four components, a
set of texts) in one pass, beside upstream's forward pass over the same images, in turn. *In all* adds write directions
and Gram factors, made once. What limits it beyond the forward pass: memory, as coefficients and the factors of the
write directions are read several times a batch (counted in `secondlens.studies.ablator`).

"""

RENDERING_HEAD = """
## Drawing scenes of the embedded world

What limits it: one core's drawing, a process.

"""

SPARSE_HEAD = """
## Sparse coding of directions over texts

Orthogonal matching pursuit of 9,216 signals (three layers of ViT-B-32) over 30,000 texts of 512 dimensions, 128 texts
a signal. The floor of a step is one product [signal, embed] x [embed, text] for a block of signals, in the precision in
which the search runs first; *share of floor* is the floor over what a step takes. scikit-learn runs on a few signals
in the same process (its `SparseCoder`, and `orthogonal_mp` without a Gram matrix of the texts); supports are compared.
What limits it: on a CPU that product; on a GPU what is between two of them, small matrices a signal.

"""

DECODING_HEAD = """
## Decoding

A survey of photographs, decoded by worker processes, beside the same survey of the same pixels from memory, in turn.
The limit is whichever of the two is slower alone.

"""

INDIRECT_HEAD = """
## Indirect effects

A neuron at its mean in the running model: upstream's whole forward pass with a hook, once a neuron, beside ours, the
clean pass spread over the neurons. *Counted* is the same ratio in multiplications: the floor. Layers count from 0.
*Of the floor*: the ratio over the counted one; near 1, multiplications are the limit, far below it what is between
them.

"""

VIEWER_HEAD = """
## The viewer

An atlas of random numbers in ViT-B-32's shape: three layers of 3,072 neurons over 5,000 images, 128 of 30,000 texts a
neuron. Pages in headless Chromium, from a plain static server on the same machine; a time ends with the frame in which
everything is drawn, pictures included. *Opened*: neurons far apart, none of whose files were read before.

"""

VIEWER_SERVER_HEAD = """
The server, with a model of ViT-B-32's size. An upload: a photograph of 1280 x 960 pixels, beside decoding it and
upstream's forward pass in this process, in turn. Clients ask for an upload, a file and a neuron, over and over;
*growth* is that of the resident memory after the first third.

"""

HEATMAPS_HEAD = """
## Heat maps beside the plain forward pass

From pixels to maps on the patch grid, with texts that were not seen before, beside upstream's forward pass over the
same images, in turn; medians (quartiles). The neurons' methods read the last three layers that have a later attention.

"""


def write_table() -> None:
    """Write README.md."""
    (FOLDER / "README.md").write_text(table_text())


def table_text(results: Path = RESULTS) -> str:
    """README.md, from the results in a folder."""
    entries = [json.loads(path.read_text()) for path in sorted(results.glob("*.json"))]
    text = HEAD + _machines(entries)
    surveys = [entry for entry in entries if entry["benchmark"] == "survey"]
    text += SURVEY_HEAD + _table(
        ["machine", "precision", "model", "layers", "images", "batch", "plain images/s", "a batch", "in all",
         "5,124 images", "before, after (s)", "certified in one pass", "peak memory", "share of roofline", "limit"],
        [[_chip(entry), *_survey_row(entry["figures"])] for entry in surveys],
    )  # fmt: skip
    oracles = [entry["figures"] for entry in entries if entry["benchmark"] == "oracle"]
    text += ORACLE_HEAD + _table(
        ["model", "layer", "its precision", "straightforward", "ours", "ratio", "relative difference"],
        [
            [f["model"], f["layer"], f["dtype"], f["straightforward_seconds_per_image"], f["ours_seconds_per_image"],
             f"{f['ratio']:,} x", f"{f['relative_difference']:.0e}"]
            for f in oracles
        ],
    )  # fmt: skip
    sparse = [entry for entry in entries if entry["benchmark"] == "sparse"]
    text += SPARSE_HEAD + _table(
        ["machine", "ms a signal", "9,216 signals, minutes", "peak memory", "share of floor", "x SparseCoder",
         "x orthogonal_mp", "supports equal"],
        [[_chip(entry), *_sparse_row(entry["figures"])] for entry in sparse],
    )  # fmt: skip
    decodings = [entry["figures"] for entry in entries if entry["benchmark"] == "decoding"]
    text += DECODING_HEAD + _table(
        ["model", "layers", "images", "workers", "survey images/s", "from memory", "decoding alone", "ratio", "limit"],
        [
            [f["model"], f["layers"], f["images"], f["workers"], f["survey_images_per_second"],
             f["from_memory_images_per_second"], f["decoding_alone_images_per_second"], f["ratio_to_memory"],
             "decoding" if f["decoding_alone_images_per_second"] < f["from_memory_images_per_second"]
             else "the survey, which shares its cores with the decoders"]
            for f in decodings
        ],
    )  # fmt: skip
    ablations = [entry for entry in entries if entry["benchmark"] == "ablation"]
    text += ABLATION_HEAD + _table(
        ["machine", "model", "layers", "variants", "images", "plain images/s", "a batch", "in all", "peak memory"],
        [
            [_chip(entry), f["model"], f["layers"], f["variants"], f["images"], f["plain_images_per_second"],
             f"{f['ratio_per_batch']:.2f} x", f"{f['ratio_in_all']:.2f} x", f"{f['peak_gib']} GiB"]
            for entry in ablations
            for f in [entry["figures"]]
        ],
    )  # fmt: skip
    drawn = [entry["figures"] for entry in entries if entry["benchmark"] == "rendering"]
    if drawn:
        text += RENDERING_HEAD + _table(list(drawn[0]), [list(figures.values()) for figures in drawn])
    indirect = [entry["figures"] for entry in entries if entry["benchmark"] == "indirect"]
    text += INDIRECT_HEAD + _table(
        ["model", "device", "layer", "images", "re-run s/neuron", "ours s/neuron", "ratio", "counted", "of the floor",
         "difference"],
        [
            [f["model"], f["device"], f["layer"], f["images"], f["rerun_seconds_per_neuron"],
             f["ours_seconds_per_neuron"], f"{f['ratio']} x", f"{f['ratio_of_multiplications']} x",
             round(f["ratio"] / f["ratio_of_multiplications"], 2),
             f"{f['largest_difference']:.0e}"]
            for f in indirect
        ],
    )  # fmt: skip
    text += _viewer([entry for entry in entries if entry["benchmark"] == "viewer"])
    maps = [entry for entry in entries if entry["benchmark"] == "heatmaps"]
    text += HEATMAPS_HEAD + _table(
        ["machine", "model", "images", "texts", "method", "ratio"],
        [
            [_chip(entry), f["model"], f["batch_size"], f["texts"], method,
             f"{ratio} x ({f['quartiles'][method][0]} to {f['quartiles'][method][1]})"]
            for entry in maps
            for f in [entry["figures"]]
            for method, ratio in f["ratios"].items()
        ],
    )  # fmt: skip
    text += more_sections(entries)
    text += "\n## Commands\n\n"
    return text + "".join(f"    {entry['command']}\n" for entry in entries)


def _viewer(entries: list[dict[str, Any]]) -> str:
    def of(measure: str) -> list[tuple[str, dict[str, Any]]]:
        return [(_chip(entry), entry["figures"]) for entry in entries if entry["figures"]["measure"] == measure]

    if not entries:
        return ""
    return (
        VIEWER_HEAD
        + _table(
            ["machine", "thumbnails", "export, s", "files", "MB", "first paint, ms", "overview drawn, worst",
             "neuron opened, ms", "worst"],
            [
                [chip, "photographs" if f["photographs"] else "noise", f["export_seconds"], f["files"], f["megabytes"],
                 f["first_paint_ms"], f"{f['overview_drawn_ms']}, {f['overview_drawn_worst_ms']}",
                 f["neuron_opened_ms"], f["neuron_opened_worst_ms"]]
                for chip, f in of("export")
            ],
        )
        + "\n"
        + _table(
            ["machine", "neurons in the grid", "filtered, ms", "worst", "to the frame, ms"],
            [
                [chip, f["neurons"], f["filter_ms"], f["filter_worst_ms"], f["to_the_frame_ms"]]
                for chip, f in of("filter")
            ],
        )
        + VIEWER_SERVER_HEAD
        + _table(
            ["machine", "model", "layers", "forward and decode, ms", "upload, ms", "ratio"],
            [
                [chip, f["model"], f["layers"], f["forward_and_decode_ms"], f["upload_ms"], f"{f['ratio']:.2f} x"]
                for chip, f in of("upload")
            ],
        )
        + "\n"
        + _table(
            ["machine", "clients", "seconds", "answers", "errors", "median, ms", "worst, ms", "most memory", "growth"],
            [
                [chip, f["clients"], f["seconds"], f["answers"], f["errors"], f["median_ms"], f["worst_ms"],
                 f"{f['resident_mib_most']} MiB", f"{f['growth_after_a_third_mib']} MiB"]
                for chip, f in of("load")
            ],
        )
    )  # fmt: skip


def _chip(entry: dict[str, Any]) -> str:
    return entry["machine"].get("gpu") or f"{entry['machine']['threads']} CPU threads"


def _sparse_row(figures: dict[str, Any]) -> list[object]:
    return [
        figures["ms_per_signal"],
        figures["minutes_for_9216"],
        f"{figures['peak_gib']} GiB",
        figures["share_of_floor"],
        f"{figures['times_sparse_coder']:,.0f} x",
        f"{figures['times_orthogonal_mp']:,.0f} x",
        f"{figures['equal_supports']} of {figures['equal_supports']}",
    ]


def _survey_row(figures: dict[str, Any]) -> list[object]:
    once = figures["seconds_before"] + figures["seconds_after"]
    spread = figures["ratio_per_batch"] + once * figures["plain_images_per_second"] / 5124
    return [
        figures.get("dtype", "float32"),
        figures["model"],
        figures["layers"],
        figures["images"],
        figures["batch_size"],
        figures["plain_images_per_second"],
        f"{figures['ratio_per_batch']:.2f} x",
        f"{figures['ratio_in_all']:.2f} x",
        f"{spread:.2f} x",
        f"{figures['seconds_before']:.1f}, {figures['seconds_after']:.1f}",
        # Not measured since certificates are what they are now.
        f"{100 * figures['certified']:.1f} %" if "certified" in figures else "",
        f"{figures['peak_gib']:.1f} GiB",
        *_roofline(figures),
    ]


def _roofline(figures: dict[str, Any]) -> list[object]:
    """The share of the machine's best; which part of a batch is larger, upstream's forward pass or ours beside it."""
    found = figures.get("roofline")
    forward = min(1.0, 1 / figures["ratio_per_batch"])
    limit = f"forward pass, {100 * forward:.0f} %" if forward >= 0.5 else f"the lens, {100 * (1 - forward):.0f} %"
    if found is None:
        return ["", limit]
    return [f"{100 * found['share']:.0f} %", f"{limit}; at best {found['limit']}"]


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def _machines(entries: list[dict[str, Any]]) -> str:
    kinds = {
        f"{entry['machine']['cpu']}, {_threads(entry['machine']['threads'])}, Python {entry['machine']['python']}, "
        f"torch {entry['machine']['torch']}, transformers {entry['machine']['transformers']}"
        for entry in entries
    }
    return "".join(f"Machine: {kind}.\n" for kind in sorted(kinds)) + "\n"
