"""The viewer: an export of the paper's size, pages in headless Chromium, and a server under load.

    python -m benchmarks.viewer export        three layers of 3,072 neurons over 5,000 images; pages of the result
    python -m benchmarks.viewer filter        36,864 neurons in one grid
    python -m benchmarks.viewer upload        an upload beside the plain forward pass and decoding, one client
    python -m benchmarks.viewer load          50 clients for a minute, on this machine's own loopback address

Chromium is Debian's. Random weights of ViT-B-32's size; random numbers in the atlas. A page's time runs from the click
to the frame after everything is drawn, pictures included.
"""

import argparse
import functools
import http.server
import os
import shutil
import statistics
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.report import record, timed
from benchmarks.viewer_atlas import random_atlas
from secondlens.viewer.export import export
from secondlens.viewer.site import Site

ROUNDS = 7
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
# Resolves in the frame after the pictures' sprites have come and are decoded.
DRAWN = """async () => {
  const sprites = [...document.querySelectorAll(".photo")].map((photo) => /url\\("(.*)"\\)/.exec(photo.style.backgroundImage)[1]);
  await Promise.all([...new Set(sprites)].map((address) => { const image = new Image(); image.src = address; return image.decode(); }));
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
}"""  # noqa: E501
OPENED = (
    """async (address) => {
  const started = performance.now();
  location.hash = address;
  const title = address.split("/").at(-1);
  const there = () => document.querySelector("h1")?.textContent.endsWith(`neuron ${title}`);
  while (!there()) await new Promise(requestAnimationFrame);
  await ("""
    + DRAWN
    + """)();
  return performance.now() - started;
}"""
)
TYPED = """async (text) => {
  const input = document.querySelector("#word-filter");
  const started = performance.now();
  input.value = text;
  input.dispatchEvent(new Event("input", { bubbles: true }));
  const worked = performance.now() - started;
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  return [worked, performance.now() - started];
}"""


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def static_server(folder: Path) -> Iterator[str]:
    """Address of a plain web server of a folder."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@contextmanager
def application_server(app: Any) -> Iterator[str]:
    """Address of a running ASGI application."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    server.should_exit = True
    thread.join(timeout=20)


@contextmanager
def pages(count: int = 1) -> Iterator[list[Any]]:
    """Fresh pages of a headless Chromium, each with a cache of its own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        yield [browser.new_context(viewport={"width": 1280, "height": 900}).new_page() for _ in range(count)]
        browser.close()


def measure_export(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    atlas = random_atlas(
        folder / "atlas", [8, 9, 10], neurons=arguments.neurons, images=arguments.images, texts=arguments.texts,
        photos=arguments.photos,
    )  # fmt: skip
    seconds, facts = timed(lambda: export(atlas, folder / "site"))
    paints, ready = [], []
    with static_server(folder / "site") as address, pages(ROUNDS) as fresh:
        for page in fresh:
            page.goto(address)
            page.wait_for_selector("html[data-ready]")
            paints.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
            ready.append(page.evaluate(f"({DRAWN})().then(() => performance.now())"))
        # Neurons far apart: every one reads its own slices and sprites.
        far = [(number * 397 + 11) % arguments.neurons for number in range(ROUNDS)]
        opened = [fresh[0].evaluate(OPENED, f"#/neuron/9/{number}") for number in far]
    return {
        "neurons": 3 * arguments.neurons,
        "images": arguments.images,
        "texts": arguments.texts,
        "photographs": arguments.photos is not None,
        "export_seconds": round(seconds, 1),
        "files": facts["files"],
        "megabytes": round(facts["bytes"] / 1e6, 1),
        "first_paint_ms": round(statistics.median(paints)),
        "overview_drawn_ms": round(statistics.median(ready)),
        "overview_drawn_worst_ms": round(max(ready)),
        "neuron_opened_ms": round(statistics.median(opened)),
        "neuron_opened_worst_ms": round(max(opened)),
    }


def measure_filter(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    from secondlens.viewer.server.app import Served, create_app
    from secondlens.viewer.server.guard import Access

    layers = list(range(11))
    neurons = 36_864 // len(layers) + 1 if arguments.neurons == 3072 else arguments.neurons
    atlas = random_atlas(folder / "atlas", layers, neurons=neurons, images=200, texts=arguments.texts)
    site = Site(atlas)
    worked, drawn = [], []
    with application_server(create_app(Served(site, site.title, atlas), Access())) as address, pages() as (page,):
        page.goto(f"{address}#/layer/all?sort=-explained_variance&selectivity=0.01..")
        page.wait_for_selector("[data-place]")
        for text in ["w", "wo", "word 1", "word 12", "word 123", "7", "77", "no such word", ""] * 3:
            work, frame = page.evaluate(TYPED, text)
            worked.append(work)
            drawn.append(frame)
    return {
        "neurons": len(layers) * neurons,
        "texts": arguments.texts,
        "filter_ms": round(statistics.median(worked), 1),
        "filter_worst_ms": round(max(worked), 1),
        "to_the_frame_ms": round(statistics.median(drawn), 1),
    }


def serving(folder: Path) -> tuple[Any, Any, bytes]:
    """A model of ViT-B-32's size with its application over a small atlas of it, and a photograph's file."""
    import torch

    from benchmarks.survey import random_model
    from secondlens.lens.preprocessing import from_processor
    from secondlens.surveys.run import survey
    from secondlens.viewer.server.analysis import Analysis
    from secondlens.viewer.server.app import Served, create_app
    from secondlens.viewer.server.guard import Access

    transformers = __import__("transformers")
    model = random_model("vit-b-32", "cpu", "float32")
    processor = transformers.models.clip.image_processing_pil_clip.CLIPImageProcessorPil()
    model.preprocessing = from_processor(processor)
    pictures = folder / "pictures"
    pictures.mkdir()
    rng = np.random.default_rng(0)
    for number in range(24):
        coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        coarse.resize((1280, 960), Image.Resampling.BICUBIC).save(pictures / f"{number}.jpg", quality=90)
    torch.set_num_threads(os.cpu_count() or 1)
    atlas = survey(model, pictures, out=folder / "atlas", layers=[8, 9, 10], top=5, workers=0, progress=False)
    site = Site(atlas)
    served = Served(site, site.title, atlas, Analysis(model, atlas))
    return model, create_app(served, Access()), (pictures / "0.jpg").read_bytes()


def measure_upload(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    from secondlens.data.decode import decode

    model, app, content = serving(folder)
    request = functools.partial(urllib.request.Request, method="POST", headers={"content-type": "image/jpeg"})
    plain, answered = [], []
    with application_server(app) as address:
        for _ in range(arguments.rounds):
            plain.append(timed(lambda: model.encode_images(model.preprocess([decode(content)])))[0])
            asked = request(f"{address}api/image", content)
            answered.append(timed(lambda asked=asked: urllib.request.urlopen(asked, timeout=60).read())[0])
    return {
        "model": "vit-b-32",
        "layers": "8-10",
        "forward_and_decode_ms": round(1000 * statistics.median(plain), 1),
        "upload_ms": round(1000 * statistics.median(answered), 1),
        "ratio": round(statistics.median(b / a for a, b in zip(plain, answered, strict=True)), 2),
    }


def measure_load(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    _, app, content = serving(folder)
    done: list[float] = []
    errors: list[str] = []
    memory: list[float] = []

    def client(address: str, number: int, until: float) -> None:
        requests = [
            urllib.request.Request(f"{address}api/image", content, {"content-type": "image/jpeg"}),
            urllib.request.Request(f"{address}data/layers/09/neurons-{number % 96:04d}.bin"),
            urllib.request.Request(f"{address}api/neurons/9/{number}"),
        ]
        while time.monotonic() < until:
            for request in requests:
                started = time.monotonic()
                try:
                    with urllib.request.urlopen(request, timeout=120) as answer:
                        answer.read()
                except OSError as error:
                    errors.append(str(error))
                done.append(time.monotonic() - started)

    with application_server(app) as address:
        until = time.monotonic() + arguments.seconds
        threads = [
            threading.Thread(target=client, args=(address, number, until)) for number in range(arguments.clients)
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            memory.append(_resident())
            time.sleep(1)
    settled = memory[len(memory) // 3 :]
    return {
        "clients": arguments.clients,
        "seconds": arguments.seconds,
        "answers": len(done),
        "errors": len(errors),
        "median_ms": round(1000 * statistics.median(done)),
        "worst_ms": round(1000 * max(done)),
        "resident_mib_first": round(memory[0]),
        "resident_mib_most": round(max(memory)),
        "growth_after_a_third_mib": round(settled[-1] - settled[0]),
    }


def _resident() -> float:
    pages_held = int(Path("/proc/self/statm").read_text().split()[1])
    return pages_held * os.sysconf("SC_PAGE_SIZE") / 2**20


MEASURES = {"export": measure_export, "filter": measure_filter, "upload": measure_upload, "load": measure_load}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=MEASURES)
    parser.add_argument("--neurons", type=int, default=3072, help="neurons a layer")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--texts", type=int, default=30_000)
    parser.add_argument("--photos", type=Path, help="a folder of JPEGs for the thumbnails")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SECONDLENS_CACHE"] = str(Path(folder) / "cache")
        figures = {"measure": arguments.what, **MEASURES[arguments.what](Path(folder), arguments)}
    record("viewer", figures, places=("--photos",))


if __name__ == "__main__":
    main()
