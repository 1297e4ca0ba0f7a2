"""What the viewer's tests share: hostile names and texts, and ways to look at a page and a file."""

import io
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from secondlens.atlas import Atlas
from secondlens.atlas.surveyed import surveyed_images
from secondlens.descriptions.pools import open_pool
from secondlens.lens import LensModel
from secondlens.viewer.server.analysis import Analysis
from secondlens.viewer.server.app import Served, create_app
from secondlens.viewer.server.guard import Access
from secondlens.viewer.server.uploads import Limits
from secondlens.viewer.site import Site

HOSTILE_NAMES = [
    "<img src=x onerror=window.hacked=1>.png",
    "\"quotes' & ampersands &lt;b&gt;.png",
    "שלום‮ right to left.png",
    f"{'very-long-' * 20}.png",
    "`${window.hacked=1}` #?%2e%2e.png",
]
HOSTILE_TEXTS = [
    "bat <script>window.hacked=1</script>",
    "den \"quotes' & &amp; <b>bold</b>",
    "fip مرحبا ‮ right to left",
    "gol " + "long " * 60,
    "hum javascript:window.hacked=1 ../../etc/passwd %3Cb%3E",
]
ABLATIONS = {
    "images": 60,
    "layers": [
        {
            "layer": layer,
            "baseline": 0.75,
            "without_all": 0.5 + layer / 10,
            "<b>bold</b>": 0.6,
            "intervals": {"baseline": [0.7, 0.8], "without_all": [0.4, 0.7], "<b>bold</b>": [0.5, 0.7]},
        }
        for layer in (0, 1)
    ],
}
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


def chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@dataclass(frozen=True)
class World:
    """One atlas with everything around it."""

    atlas: Atlas
    model: LensModel
    pictures: Path
    cache: Path


def application(
    world: World, access: Access | None = None, limits: Limits | None = None, files: Site | None = None
) -> Any:
    """The server's application, with the model."""
    analysis = Analysis(world.model, world.atlas, open_pool("things & <i>", world.model))
    files = files or Site(world.atlas)
    served = Served(files, files.title, world.atlas, analysis, surveyed_images(world.atlas), 6, limits or Limits())
    files.add_heat(world.model, 6)
    files.extra["served"] = served.status()
    return create_app(served, access or Access())


def encoded(picture: Image.Image | None = None, kind: str = "PNG") -> bytes:
    """A picture's file."""
    buffer = io.BytesIO()
    (picture or Image.new("RGB", (40, 30), "teal")).save(buffer, kind)
    return buffer.getvalue()


def new_picture() -> Image.Image:
    """A picture unlike those of the survey, so that no effect lies at its threshold by a rounding."""
    rows = np.indices((64, 64)).sum(axis=0) // 8 % 2 * 255
    return Image.fromarray(np.stack([rows, 255 - rows, np.full_like(rows, 20)], axis=2).astype(np.uint8))


def save_attack(folder: Path) -> Path:
    """An attack's report with one exhibit, as far as the viewer reads it."""
    gallery = folder / "report/gallery"
    gallery.mkdir(parents=True)
    for name in ("one.png", "one-map.png"):
        (gallery / name).write_bytes(encoded())
    pair = {"source_class": "cat", "target_class": "<b>boat</b>", "method": "second-order"}
    summary = {
        "judge": "exact",
        "binary": {"pairs": [{**pair, "success": 0.25, "low": None, "high": None, "images": 8}]},
        "gallery": [{"name": "cat--boat/1", "image": "gallery/one.png", "map": "gallery/one-map.png"}],
    }
    (folder / "report/summary.json").write_text(json.dumps(summary))
    row = {
        "name": "cat--boat/1",
        **pair,
        "prompt": "a cat <script>window.hacked=1</script>",
        "cues": ["violet", "<i>sea</i>"],
        "prediction": "dog",
        "margin": 0.125,
    }
    pq.write_table(pa.Table.from_pylist([row]), folder / "report/predictions.parquet")
    return folder


def save_audits(folder: Path, atlas: Atlas) -> Path:
    """Audits of every kind, with hostile texts where texts stand; and a JSON file that is none."""
    folder.mkdir()
    marked = {"atlas": atlas.manifest.created}
    pair = {"source_class": "cat", "target_class": "<b>boat</b>"}
    evidence = {"weight": 0.5, "coefficient": 0.5, "images": [*HOSTILE_NAMES[:2], "picture-07.png"]}
    cues = [
        {
            "text": text,
            "score": 0.5 / (place + 1),
            "p_value": 0.01,
            "q_value": 0.02,
            "p_family": 0.03,
            "similarity": 0.25,
            "neurons": 7,
            "evidence": [
                {**evidence, "layer": 1, "neuron": 40 - place, "contribution": 0.125, "sense": [text, "-" + text]},
                {**evidence, "layer": 0, "neuron": place, "contribution": 0.0625, "sense": []},
            ],
            "also": ["<i>also</i>"] if place == 0 else [],
        }
        for place, text in enumerate(HOSTILE_TEXTS)
    ]
    audits: dict[str, dict[str, Any]] = {
        "pair": {
            **pair, "source": "second order", "pool": "things & <i>", "scoring": "paper", "similarity": "name",
            "n_resamples": 50, "length": 1.0, "cues": cues, "synonyms": {"<u>ship</u>": 0.9}, "chosen": [[1, 40, 0.5]],
        },
        "matrix": {
            "classes": ["cat", "<b>boat</b>", "dog"],
            "pairs": [
                {**pair, "exploitability": 0.5, "cues": [{"text": HOSTILE_TEXTS[0], "score": 1.0}]},
                {"source_class": "dog", "target_class": "cat", "exploitability": 0.25, "cues": []},
            ],
        },
        "folder": {
            "images": 60, "accuracy": 0.75, "presence": "captions", "pairs": [{**pair, "images": 20, "errors": 5}],
            "explained": [
                {
                    **pair, "cue": HOSTILE_TEXTS[0], "images_with": 8, "images_without": 12, "errors_with": 4,
                    "errors_without": 1, "difference": 4 / 8 - 1 / 12, "p_value": 0.04, "q_value": 0.05,
                }
            ],
        },
        "removal": {
            **pair, "cues": HOSTILE_TEXTS[:1], "scoring": "paper", "clean_images": 50, "adversarial_images": 4,
            "curve": [removed(0, 0.9, 1.0), removed(5, 0.875, 0.25)], "best": removed(5, 0.875, 0.25),
            "projection": {"clean_accuracy": 0.8, "adversarial_success": 0.0}, "neurons": [[1, 40]],
        },
    }  # fmt: skip
    for kind, facts in audits.items():
        (folder / f"{kind}.json").write_text(json.dumps({"audit": kind, **marked, **facts}))
    (folder / "package.json").write_text("{}")
    return folder


def removed(neurons: int, clean: float, success: float) -> dict[str, Any]:
    """A row of a removal's curve."""
    intervals = {"clean_accuracy_interval": [clean - 0.1, clean], "adversarial_success_interval": [success, success]}
    return {"neurons": neurons, "clean_accuracy": clean, "adversarial_success": success, **intervals}


def save_quality(atlas: Atlas, description: str) -> None:
    """Figures on held-out images, as `secondlens evaluate descriptions` writes them."""
    rows = [
        {"layer": layer, "neuron": neuron, "auc": 0.5 + neuron / 100, "second_opinion": HOSTILE_TEXTS[0]}
        for layer in atlas.layers
        for neuron in range(48)
    ]
    table = pa.Table.from_pylist(rows)
    table = table.set_column(2, "auc", table["auc"].cast(pa.float32()))
    pq.write_table(table, atlas.folder / "descriptions" / description / "quality.parquet")


def go(page: Any, address: str, heading: str) -> None:
    """Open an address and wait for its page's heading."""
    page.goto(address)
    page.wait_for_selector("html[data-ready]")
    page.get_by_role("heading", level=1, name=heading, exact=False).wait_for()


def facts_of(site: Path) -> dict[str, Any]:
    return json.loads((site / "data/site.json").read_text())


def row_of(content: bytes, fields: list[dict[str, Any]], place: int, rows: int) -> dict[str, np.ndarray]:
    """A row of a slice as a reader of docs/viewer.md would get it, without any of the viewer's code."""
    start, found = 0, {}
    for field in fields:
        kind = np.dtype(field["type"]).newbyteorder("<")
        count = rows * int(np.prod(field["shape"]))
        values = np.frombuffer(content, kind, count, start).reshape(rows, *field["shape"])
        found[field["name"]] = values[place]
        start += count * kind.itemsize
    assert start == len(content)
    return found


def neuron_row(site: Path, base: str, fields: list[dict[str, Any]], neuron: int, neurons: int) -> dict[str, np.ndarray]:
    """A neuron's row of its slice of 32."""
    number = neuron // 32
    content = (site / f"{base}-{number:04d}.bin").read_bytes()
    return row_of(content, fields, neuron % 32, min(32, neurons - number * 32))
