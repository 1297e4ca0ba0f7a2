"""An atlas with hostile names and texts, exported and served, and a real browser to look at both."""

import json
import os
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient
from viewer_world import (
    ABLATIONS,
    ARGUMENTS,
    HOSTILE_NAMES,
    HOSTILE_TEXTS,
    World,
    application,
    chromium,
    save_attack,
    save_audits,
    save_quality,
)

from builders import WORDS, save_worded
from secondlens.atlas import Atlas
from secondlens.data.sources import open_source
from secondlens.descriptions import describe
from secondlens.descriptions.pools import open_pool
from secondlens.lens import load_model
from secondlens.surveys.run import survey
from secondlens.viewer.export import export


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Two layers of a tiny CLIP, surveyed on 40 pictures of several shapes, described over hostile texts."""
    folder = tmp_path_factory.mktemp("viewer")
    before = os.environ.get("SECONDLENS_CACHE")
    os.environ["SECONDLENS_CACHE"] = str(folder / "cache")
    torch.set_num_threads(1)
    pictures = folder / "pictures"
    pictures.mkdir()
    rng = np.random.default_rng(0)
    names = HOSTILE_NAMES + [f"picture-{number:02d}.png" for number in range(35)]
    for number, name in enumerate(names):
        coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        coarse.resize((70, 50 if number % 2 else 90), Image.Resampling.BICUBIC).save(pictures / name)
    model = load_model(f"hf:{save_worded(folder / 'model')}")
    atlas = survey(model, pictures, out=folder / "atlas <b>&", layers=[0, 1], top=25, workers=0, progress=False)
    words = [*HOSTILE_TEXTS, *WORDS[3:43]]
    describe(atlas, open_pool(words, model, name="things & <i>"), 12, null_draws=10)
    save_quality(atlas, "things-i")
    describe(atlas, open_pool(WORDS[3:33], model, name="second"), 5, null_draws=5)
    yield World(Atlas.open(atlas.folder), model, pictures, folder / "cache")
    if before is None:
        os.environ.pop("SECONDLENS_CACHE", None)
    else:
        os.environ["SECONDLENS_CACHE"] = before


@pytest.fixture(scope="session")
def site(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exported site, with heat maps and a second atlas beside it."""
    folder = tmp_path_factory.mktemp("site") / "site"
    other = survey(
        world.model, world.pictures, out=folder.parent / "other", layers=[1], top=20, workers=0, progress=False
    )
    (folder.parent / "ablations.json").write_text(json.dumps(ABLATIONS))
    save_attack(folder.parent / "attack")
    save_audits(folder.parent / "audits", world.atlas)
    export(
        world.atlas, folder, title="A <b>title</b> & more", model=world.model, source=open_source(world.pictures),
        heat_images=6, beside=other, ablations=folder.parent / "ablations.json",
        attack=folder.parent / "attack", audit=folder.parent / "audits",
    )  # fmt: skip
    return folder


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="session")
def exported(site: Path) -> Iterator[str]:
    """The exported site's address on a plain static server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(site))) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, driven by Playwright; skipped where there is none, but never in continuous integration."""
    path = chromium()
    if path is None:
        assert not os.environ.get("CI"), "continuous integration must install chromium"
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    sync_playwright = pytest.importorskip("playwright.sync_api").sync_playwright
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page whose console must stay clean and on which no hostile text may have run."""
    context = browser.new_context(viewport={"width": 1200, "height": 800}, locale="en-US")
    page = context.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(f"console {message.type}: {message.text}"))
    page.on("pageerror", lambda error: problems.append(f"error: {error}"))
    page.set_default_timeout(10_000)
    page.problems = problems
    yield page
    assert page.evaluate("window.hacked") is None
    context.close()
    assert problems == []


@pytest.fixture(scope="session")
def served(world: World) -> Iterator[str]:
    """The address of a running server with the model."""
    uvicorn = pytest.importorskip("uvicorn")
    server = uvicorn.Server(uvicorn.Config(application(world), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    server.should_exit = True
    thread.join(timeout=20)


@pytest.fixture
def client(world: World) -> Iterator[Any]:
    """A client in this process, without a socket."""
    with TestClient(application(world), base_url="http://localhost") as client:
        yield client
