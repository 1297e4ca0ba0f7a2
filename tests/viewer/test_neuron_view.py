"""A neuron in a notebook, and the commands `export` and `view`."""

import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from viewer_world import HOSTILE_NAMES, HOSTILE_TEXTS, World

from secondlens.atlas import Atlas
from secondlens.errors import AtlasError
from secondlens.viewer.card import NeuronView

SECONDLENS = [sys.executable, "-m", "secondlens.cli.app"]


class Tags(HTMLParser):
    """Names of tags, attributes that are not plain styling, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_card_is_html_in_which_texts_stay_texts(world: World) -> None:
    layer = world.atlas.layer(1)
    found = set()
    for neuron in range(48):
        view = NeuronView(world.atlas, 1, neuron, pool="things & <i>")
        parser = Tags()
        parser.feed(view._repr_html_())
        assert parser.tags <= {"div", "span", "small", "b", "ul", "li", "img", "figure", "figcaption"}
        assert {name for name, _ in parser.attributes} <= {"style", "alt", "title", "src"}
        assert f"Layer 1, neuron {neuron}" in parser.text
        assert f"{100 * float(layer.explained_variance[neuron]):.0f} %" in parser.text
        found |= {text for text in HOSTILE_TEXTS if " ".join(text.split()) in parser.text}
        found |= {name for name in HOSTILE_NAMES if ("alt", name) in parser.attributes}
    # Between them the neurons show hostile texts and names, as they are.
    assert found & set(HOSTILE_TEXTS)
    assert found & set(HOSTILE_NAMES)


def test_the_data_is_what_the_command_prints(world: World) -> None:
    view = NeuronView(world.atlas, 0, 7)
    command = [
        sys.executable,
        "-m",
        "secondlens.cli.app",
        "neurons",
        "show",
        str(world.atlas.folder),
        "0",
        "7",
        "--json",
    ]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert json.loads(printed.stdout) == json.loads(json.dumps(view.data))
    assert repr(view).startswith("<neuron 7 of layer 0: ")
    with pytest.raises(AtlasError, match="neurons 0 to 47"):
        NeuronView(world.atlas, 0, 48)


def test_an_atlas_without_words_and_thumbnails(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "bare"
    folder.mkdir()
    for path in world.atlas.folder.iterdir():
        if path.is_file() and path.name != "thumbnails.parquet":
            (folder / path.name).write_bytes(path.read_bytes())
    html = NeuronView(Atlas.open(folder), 0, 0)._repr_html_()
    assert "Not described yet" in html
    assert "<img" not in html
    assert len(NeuronView(Atlas.open(folder), 0, 0).figure().axes) >= 2


def test_the_figure_shows_words_norms_and_images(world: World) -> None:
    view = NeuronView(world.atlas, 1, 40, pool="things & <i>")
    figure = view.figure(words=6, images=4)
    panels = figure.axes
    assert len(panels) == 2 + 4
    widths = [bar.get_width() for bar in panels[0].patches]
    assert widths == [text["coefficient"] for text in view.data["texts"][:6]]
    figure.savefig("/dev/null", format="png")


@pytest.fixture
def running(site: Path, world: World) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    command = [
        sys.executable,
        "-m",
        "secondlens.cli.app",
        "view",
        str(site),
        "--port",
        "0",
        "--token",
        "secret-of-tests",
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    line = process.stderr.readline()
    found = re.search(r"http://\S+", line)
    assert found, line
    yield found.group(), process
    process.kill()
    process.wait()
    process.stderr.close()


def test_view_serves_an_exported_site_until_interrupted(running: tuple[str, subprocess.Popen[str]]) -> None:
    address, process = running
    assert address.startswith("http://127.0.0.1:")
    base = address.split("?")[0]
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(base, timeout=10)
    assert caught.value.code == 401
    request = urllib.request.Request(f"{base}api/status", headers={"authorization": "Bearer secret-of-tests"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        status = json.load(answer)
    assert (status["model"], status["title"]) == (False, "A <b>title</b> & more")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) in (0, 130)


def test_export_from_the_command_line(world: World, tmp_path: Path) -> None:
    out = tmp_path / "site"
    command = [*SECONDLENS, "export", str(world.atlas.folder), str(out), "--json"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    facts = json.loads(printed.stdout)
    assert facts["files"] == sum(path.is_file() for path in out.rglob("*"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").write_text("x")
    command[5] = str(tmp_path / "full")
    refused = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "something else" in refused.stderr
