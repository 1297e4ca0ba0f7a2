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
from secondlens.models import LensModel
from secondlens.pools import open_pool
from secondlens.viewer.heat import surveyed_images
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


def application(world: World, access: Access | None = None, limits: Limits | None = None) -> Any:
    """The server's application, with the model."""
    analysis = Analysis(world.model, world.atlas, open_pool("things & <i>", world.model))
    files = Site(world.atlas)
    served = Served(files, files.title, world.atlas, analysis, surveyed_images(world.atlas), 6, limits or Limits())
    files.add_heat(world.model, 6)
    files.extra["served"] = served.status()
    return create_app(served, access or Access())


def encoded(picture: Image.Image | None = None, kind: str = "PNG") -> bytes:
    """A picture's file."""
    buffer = io.BytesIO()
    (picture or Image.new("RGB", (40, 30), "teal")).save(buffer, kind)
    return buffer.getvalue()


def save_attack(folder: Path) -> Path:
    """An attack's report with one exhibit, as far as the viewer reads it."""
    gallery = folder / "report/gallery"
    gallery.mkdir(parents=True)
    for name in ("one.png", "one-map.png"):
        (gallery / name).write_bytes(encoded())
    pair = {"shown": "cat", "predicted": "<b>boat</b>", "method": "second-order"}
    summary = {
        "judge": "exact",
        "binary": {"pairs": [{**pair, "success": 0.25, "low": None, "high": None, "pictures": 8}]},
        "gallery": [{"name": "cat--boat/1", "picture": "gallery/one.png", "map": "gallery/one-map.png"}],
    }
    (folder / "report/summary.json").write_text(json.dumps(summary))
    row = {
        "name": "cat--boat/1",
        **pair,
        "prompt": "a cat <script>window.hacked=1</script>",
        "cues": ["violet", "<i>sea</i>"],
        "taken_for": "dog",
        "margin": 0.125,
    }
    pq.write_table(pa.Table.from_pylist([row]), folder / "report/verdicts.parquet")
    return folder


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
