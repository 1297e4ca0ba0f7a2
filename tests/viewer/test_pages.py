"""Every page of an exported and of a served atlas in a real browser: numbers, hostile texts, a clean console."""

import json
import re
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from viewer_world import HOSTILE_NAMES, HOSTILE_TEXTS, World, encoded, go, new_picture

from secondlens.analysis.concepts import ConceptFinder
from secondlens.atlas import metrics
from secondlens.atlas.metrics import Metric
from secondlens.descriptions import Descriptions
from secondlens.viewer.card import full_card
from secondlens.viewer.export import export


class Quiet(SimpleHTTPRequestHandler):
    """A static server that prints nothing."""

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(params=["exported", "served"])
def address(request: pytest.FixtureRequest) -> str:
    return request.getfixturevalue(request.param)


def number(text: str) -> float:
    """A number as the pages write it: 1,234 or 56.7% or 8.2E-4."""
    found = re.search(r"-?[\d,]*\.?\d+(?:E-?\d+)?%?", text.replace("−", "-"))
    assert found, text
    value = found.group().replace(",", "")
    return float(value.rstrip("%")) / (100 if value.endswith("%") else 1)


def test_overview(page: Any, address: str, world: World) -> None:
    go(page, address, "")
    assert "40 images" in page.locator(".lead").inner_text()
    assert world.atlas.manifest.model.weights_sha256[:12] in page.locator("main").inner_text()
    page.get_by_label("Show").select_option("top_norm")
    bars = page.locator(".bar-link")
    sizes = [number(label) for label in bars.evaluate_all("all => all.map(bar => bar.getAttribute('aria-label'))")]
    assert sum(sizes) == 96
    place = int(np.argmax(sizes[:24]))
    bars.nth(place).click()
    page.get_by_role("heading", name="Layer 0").wait_for()
    # A bar leads to just the neurons that it counts.
    assert number(page.get_by_role("status").inner_text()) == sizes[place]


def test_an_added_metric_on_the_pages(page: Any, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A metric in the registry alone: the front end knows its title, format and scale from site.json."""
    added = Metric(
        "peak_ratio", "largest norm over the root mean square", title="Peak ratio", drawn=9, in_table=True,
        compute=lambda layer: layer.top_norms[:, 0] / layer.variance.sqrt(),
    )  # fmt: skip
    monkeypatch.setattr(metrics, "METRICS", (*metrics.METRICS, added))
    export(world.atlas, tmp_path / "site")
    values = world.atlas.layer(1).metric("peak_ratio")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "site"))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        go(page, address, "")
        page.get_by_label("Show").select_option(label="Peak ratio")
        page.locator(".bar-link").first.wait_for()
        middle = float(values.median())
        go(page, f"{address}#/layer/1?peak_ratio={middle}..", "Layer 1")
        kept = int((values >= middle).sum())
        assert page.get_by_role("status").inner_text().startswith(f"{kept} of 48 neurons")
        assert page.get_by_role("button", name="Peak ratio").count() == 1
        go(page, f"{address}#/neuron/1/7", "Layer 1, neuron 7")
        assert number(page.locator("[data-figure=peak_ratio]").inner_text()) == pytest.approx(
            float(values[7]), rel=5e-3
        )
        server.shutdown()


def test_an_ablation_study_on_the_overview(page: Any, exported: str) -> None:
    go(page, exported, "")
    rows = page.get_by_role("region", name="Accuracies").locator("tbody tr").all_inner_texts()
    assert [re.split(r"\s*\t\s*", row.strip()) for row in rows] == [
        ["Unchanged", "75%", "75%"],
        ["All effects at their mean", "50%", "60%"],
        ["<b>bold</b>", "60%", "60%"],
    ]


def test_an_attacks_gallery(page: Any, exported: str) -> None:
    go(page, f"{exported}#/attack", "Semantic adversarial images")
    assert "<b>boat</b>" in page.get_by_role("region", name="Rates").inner_text()
    assert page.locator(".exhibits figcaption").inner_text().startswith("a cat <script>window.hacked=1</script>")
    widths = "all => Promise.all(all.map(one => one.decode().then(() => one.naturalWidth)))"
    assert page.locator(".exhibits img").evaluate_all(widths) == [40, 40]


def test_the_grid_sorts_and_filters(page: Any, address: str, world: World) -> None:
    go(page, f"{address}#/layer/1", "Layer 1")
    values = world.atlas.layer(1).explained_variance

    def first() -> str:
        return page.locator("[data-place='0'] a").inner_text()

    page.get_by_role("button", name="Explained").click()
    assert first() == f"1/{int(values.argmax())}"
    page.get_by_role("button", name="Explained").click()
    assert first() == f"1/{int(values.argmin())}"
    assert page.get_by_role("columnheader", name="Explained").get_attribute("aria-sort") == "ascending"
    page.get_by_role("button", name="Filter by a figure").click()
    page.get_by_label("At least").fill("0.5")
    assert number(page.get_by_role("status").inner_text()) == int((values >= 0.5).sum())
    assert "explained_variance=0.5.." in page.url
    page.reload()
    page.get_by_role("heading", name="Layer 1").wait_for()
    assert page.get_by_label("At least").input_value() == "0.5"
    page.get_by_role("button", name="Remove this filter").click()
    described = Descriptions.open(world.atlas)
    page.get_by_label("Words", exact=True).fill("DEN")
    shown = {
        neuron for neuron in range(48)
        if any("den" in text["text"] for text in described.neuron(1, neuron)["texts"][:6])
    }  # fmt: skip
    if shown:
        assert number(page.get_by_role("status").inner_text()) == len(shown)
    page.get_by_label("Words", exact=True).fill("no such word at all")
    page.get_by_text("No neuron passes").wait_for()
    page.get_by_role("button", name="Remove the filters").click()
    page.locator("[data-place='11']").wait_for()
    assert "words" not in page.url


def test_the_grids_order_is_the_values_order(page: Any, exported: str) -> None:
    """Sorting and filtering alone, on values that are hard to sort, against numpy."""
    go(page, exported, "")
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(size=400), [0.0, -0.0, 1e-40, -1e-40, np.inf, -np.inf, 3.0, 3.0, -3.0, -3.0]])
    values = values.astype(np.float32)
    given = [None if not np.isfinite(value) else float(value) for value in values]
    given[404:406] = ["inf", "-inf"]  # type: ignore[list-item]
    for down in (False, True):
        found = page.evaluate(
            """async ([given, down]) => {
              const { select } = await import(new URL("filters.js", location.href).href);
              const read = (value) => value === "inf" ? Infinity : value === "-inf" ? -Infinity : value;
              const values = { x: Float32Array.from([...given.map(read), NaN]) };
              const table = { count: values.x.length, values, headline: null, perNeuron: 0 };
              return Array.from(select(table, { ranges: [], sort: "x", down }, null));
            }""",
            [given, down],
        )
        order = np.lexsort((np.arange(len(values)), -values if down else values)).tolist()
        assert found == [*order, len(values)]


def test_the_grid_by_keyboard(page: Any, exported: str) -> None:
    go(page, f"{exported}#/layer/all?sort=neuron", "All neurons")
    page.locator("[data-place='0']").focus()
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.dataset.place") == "95"
    page.keyboard.press("ArrowUp")
    page.keyboard.press("PageUp")
    place = int(page.evaluate("document.activeElement.dataset.place"))
    assert 50 < place < 94
    page.keyboard.press("Enter")
    page.get_by_role("heading", name=f"Layer 1, neuron {place - 48}", exact=True).wait_for()
    # The heading has the focus, so that a screen reader says where one is.
    assert page.evaluate("document.activeElement.tagName") == "H1"
    page.go_back()
    page.get_by_role("heading", name="All neurons").wait_for()


@pytest.mark.parametrize("neuron", [3, 40])
def test_a_neuron(page: Any, address: str, world: World, neuron: int) -> None:
    go(page, f"{address}#/neuron/1/{neuron}?pool=things-i&m=12", f"Layer 1, neuron {neuron}")
    card = full_card(world.atlas, 1, neuron, "things-i")
    for name in ("explained_variance", "selectivity", "threshold", "participation", "polysemy", "root_mean_square"):
        # Three digits are shown.
        shown = number(page.locator(f"[data-figure={name}]").inner_text())
        assert shown == pytest.approx(card[name], rel=5e-3), name
    while page.get_by_role("button", name="Show all").count():
        page.get_by_role("button", name="Show all").first.click()
    words = page.locator(".wordtable tbody tr")
    said = {text["text"]: text for text in card["texts"]}
    assert words.count() == len(said)
    for place in range(words.count()):
        cells = words.nth(place).locator("th, td").all_inner_texts()
        assert number(cells[2]) == pytest.approx(said[cells[0].strip()]["coefficient"], rel=5e-3)
    pictures = page.locator(".pictures [role=img]")
    assert pictures.evaluate_all("all => all.map(one => one.getAttribute('aria-label'))") == [
        image["id"] for image in card["top_images"]
    ]
    cells = page.locator(".paths tbody td").all_inner_texts()
    assert [number(cell) for cell in cells] == [round(100 * path["fraction"]) for path in card["paths"]]
    directions = torch.cat([world.atlas.layer(index).directions for index in (0, 1)])
    cosines = directions @ directions[48 + neuron]
    cosines[48 + neuron] = -2
    nearest = page.locator(".neurons tbody tr").first.inner_text()
    best = int(cosines.argmax())
    assert nearest.startswith(f"{best // 48}/{best % 48}")
    assert number(nearest.split("\t")[1]) == pytest.approx(float(cosines.max()), rel=5e-3)


def test_the_slider_is_in_the_address(page: Any, address: str) -> None:
    go(page, f"{address}#/neuron/1/40?pool=things-i&m=12", "Layer 1, neuron 40")
    slider = page.get_by_label("Length")
    assert slider.get_attribute("aria-valuetext") == "12 texts"
    slider.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert "m=4" in page.url
    assert page.locator(".wordtable tbody tr").count() == 4
    page.reload()
    page.locator(".wordtable").first.wait_for()
    assert page.locator(".wordtable tbody tr").count() == 4


def test_a_neuron_is_fetched_while_the_pointer_rests_on_its_link(page: Any, exported: str) -> None:
    go(page, f"{exported}#/layer/1?sort=neuron", "Layer 1")
    with page.expect_request("**/layers/01/neurons-0000.bin"), page.expect_request("**/images/sprite-*.jpg"):
        page.locator("[data-place='3']").hover()
    page.wait_for_load_state("networkidle")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.locator("[data-place='3']").click()
    page.get_by_role("heading", name="Layer 1, neuron 3", exact=True).wait_for()
    assert [url for url in asked if "/neurons-" in url] == []


def test_heat_maps_are_drawn(page: Any, address: str) -> None:
    go(page, f"{address}#/neuron/0/20", "Layer 0, neuron 20")
    page.get_by_role("radio", name="Effect").check()
    canvases = page.locator("canvas.heat:visible")
    canvases.first.wait_for()
    assert canvases.count() == 6
    pixels = canvases.first.evaluate("c => Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)")
    assert len(pixels) == 2 * 2 * 4
    # The strongest patch of an image has full colour.
    assert max(pixels[3::4]) == 230
    page.get_by_role("radio", name="Images").check()
    assert canvases.count() == 0


def test_the_json_is_the_command_lines(page: Any, address: str, world: World) -> None:
    go(page, f"{address}#/neuron/1/40?pool=things-i", "Layer 1, neuron 40")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="JSON").click()
    found = json.loads(Path(waiting.value.path()).read_text())
    expected = json.loads(json.dumps(full_card(world.atlas, 1, 40, "things-i")))
    for card in (found, expected):
        for sense in card["senses"]:
            # A sum of float32 numbers, in one order or another.
            sense["fraction"] = pytest.approx(sense["fraction"], rel=1e-6)
    assert expected["held_out"]["second_opinion"] == HOSTILE_TEXTS[0]
    assert number(page.locator("[data-held-out=auc]").inner_text()) == pytest.approx(expected["held_out"]["auc"])
    # The atlas's own is float64, the site's float32.
    expected["selectivity"] = pytest.approx(expected["selectivity"], rel=1e-6)
    assert expected == found


def test_a_word_leads_to_its_neurons(page: Any, address: str, world: World) -> None:
    go(page, f"{address}#/search?pool=things-i", "Search")
    page.get_by_role("searchbox").last.fill("script")
    page.get_by_role("link", name=HOSTILE_TEXTS[0]).first.wait_for()
    page.get_by_role("searchbox").last.fill("no such word")
    page.get_by_text("No such word").wait_for()


@pytest.mark.parametrize("place", [0, 1, 2, 4])
def test_hostile_words_are_text(page: Any, exported: str, world: World, place: int) -> None:
    from urllib.parse import quote

    text = " ".join(HOSTILE_TEXTS[place].split())
    go(page, f"{exported}#/search?pool=things-i&q={quote(text)}", "Search")
    page.get_by_role("heading", name="Described by it").wait_for()
    assert page.get_by_role("searchbox").last.input_value() == text
    assert page.locator("main script, main b, main img").count() == 0


def test_hostile_names_are_text(page: Any, exported: str, world: World) -> None:
    layer = world.atlas.layer(1)
    position = world.atlas.source_ids.index(HOSTILE_NAMES[0])
    neuron = int((layer.top_positions == position).nonzero()[0, 0])
    go(page, f"{exported}#/neuron/1/{neuron}", f"Layer 1, neuron {neuron}")
    page.get_by_role("button", name=re.compile("Show all 25")).click()
    assert page.get_by_role("img", name=HOSTILE_NAMES[0], exact=True).count() == 1
    assert page.locator("main img, header b").count() == 0
    assert page.locator("#brand").inner_text() == "A <b>title</b> & more"


def test_comparisons(page: Any, exported: str, world: World) -> None:
    go(page, f"{exported}#/compare/neurons?a=0/3&b=1/40", "Compare neurons")
    directions = [world.atlas.layer(layer).directions[neuron].double() for layer, neuron in ((0, 3), (1, 40))]
    # Half precision on the site, three digits on the page.
    assert number(page.locator("#cosine").inner_text()) == pytest.approx(float(directions[0] @ directions[1]), abs=2e-3)
    tops = [set(world.atlas.layer(a).top_positions[b].tolist()) for a, b in ((0, 3), (1, 40))]
    assert f"{len(tops[0] & tops[1])} of 25" in page.locator("main").inner_text()
    page.get_by_role("link", name="Layers").click()
    page.get_by_role("heading", name="Compare layers").wait_for()
    median = float(world.atlas.layer(1).explained_variance.median())
    assert page.get_by_text("median").nth(1).inner_text().strip()
    assert 0 < median <= 1
    page.get_by_role("link", name="Atlases").click()
    page.get_by_role("heading", name="Compare atlases").wait_for()
    page.get_by_label("Neuron", exact=True).fill("1/5")
    page.get_by_role("button", name="Find").click()
    page.get_by_role("link", name="1/5").first.wait_for()
    page.locator("a[href^='comparison/#/neuron']").first.click()
    page.get_by_role("heading", name=re.compile("Layer 1, neuron")).wait_for()
    page.get_by_text("Not described yet").wait_for()


def test_a_picture_of_ones_own(page: Any, served: str, world: World, tmp_path: Path) -> None:
    go(page, f"{served}#/image", "Image")
    mine = tmp_path / HOSTILE_NAMES[0]
    mine.write_bytes(encoded(new_picture()))
    page.set_input_files("#file", mine)
    page.get_by_role("heading", name="Active neurons").wait_for()
    assert HOSTILE_NAMES[0] in page.locator("main").inner_text()
    assert page.locator("main table").first.locator("tr").count() == 5
    finder = ConceptFinder(world.model, world.atlas, Descriptions.open(world.atlas))
    active = finder.find(world.model.preprocess([new_picture()])).neurons
    row = page.locator(".neurons tbody tr").first.locator("th, td").all_inner_texts()
    assert row[0] == f"{active[0].layer}/{active[0].neuron}"
    shown = [number(cell) for cell in row[1:4]]
    assert shown == pytest.approx([active[0].norm, active[0].threshold, active[0].projection], rel=5e-3)
    page.get_by_label("Where is").fill(HOSTILE_TEXTS[0])
    page.get_by_role("button", name="Show").click()
    page.get_by_text("comes through the neurons of layer 1").wait_for()
    assert page.locator("canvas.heat:visible").count() == 1
    page.get_by_label("Why").fill(HOSTILE_TEXTS[0])
    page.get_by_label("rather than").fill("den")
    page.get_by_role("button", name="Explain").click()
    steps = page.locator(".waterfall tbody tr")
    steps.first.wait_for()
    parts = [number(row.split("\t")[-1]) for row in steps.all_inner_texts()]
    # The last row is the score; each part is rounded to three digits.
    assert sum(parts[:-1]) == pytest.approx(parts[-1], abs=5e-3 * max(map(abs, parts)) * len(parts))
    boxes = "all => all.map(one => [parseFloat(one.style.left), parseFloat(one.style.width)])"
    bars = page.locator(".waterfall .fall > :not(.zero)").evaluate_all(boxes)
    # A bar begins or ends where the one before it ended.
    for (left, width), (next_left, next_width) in pairwise(bars[:-1]):
        assert min(abs(a - b) for a in (left, left + width) for b in (next_left, next_left + next_width)) < 0.01
    other = tmp_path / "not-a-picture.txt"
    other.write_text("text")
    page.set_input_files("#file", other)
    page.get_by_role("alert").get_by_text("no JPEG, PNG or WebP").wait_for()


def test_a_broken_picture_says_why(browser: Any, served: str, tmp_path: Path) -> None:
    page = browser.new_page()
    go(page, f"{served}#/image", "Image")
    broken = tmp_path / "broken.png"
    broken.write_bytes(encoded()[:60])
    page.set_input_files("#file", broken)
    page.get_by_role("alert").get_by_text("the picture").wait_for()
    page.close()


def test_search_by_any_text(page: Any, served: str) -> None:
    go(page, f"{served}#/search?q=bat+den+fip", "Search")
    page.get_by_role("heading", name="By the model’s own text tower").wait_for()
    assert page.locator(".neurons tbody tr").count() == 40


def test_what_is_not_there_is_said(page: Any, address: str) -> None:
    for path, reason in {
        "#/neuron/1/48": "neurons 0 to 47",
        "#/neuron/7/1": "Layer 7 is not in this atlas",
        "#/neuron/1/-1": "neurons 0 to 47",
        "#/layer/x": "Layer x is not in this atlas",
        "#/nothing": "There is no page",
        "#/compare/<b>": "can be compared",
    }.items():
        page.goto(address + path)
        page.get_by_role("alert").get_by_text(reason).wait_for()
    page.get_by_role("link", name="Overview").last.click()
    page.get_by_role("heading", name="The survey").wait_for()


def test_a_file_that_cannot_be_read_can_be_tried_again(browser: Any, exported: str) -> None:
    page = browser.new_page()
    page.route("**/layers/01/neurons-*", lambda route: route.abort())
    page.goto(f"{exported}#/neuron/1/40")
    page.get_by_role("alert").get_by_text("Could not reach").wait_for()
    page.unroute("**/layers/01/neurons-*")
    page.get_by_role("button", name="Try again").click()
    page.get_by_role("heading", name="Layer 1, neuron 40").wait_for()
    page.close()


def test_from_the_disk_it_says_what_to_do(browser: Any, site: Path) -> None:
    page = browser.new_page()
    page.goto(f"file://{site}/index.html")
    page.get_by_text("secondlens view FOLDER").wait_for()
    page.close()


def test_nothing_is_loaded_from_elsewhere(browser: Any, exported: str) -> None:
    page = browser.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for path in ("", "#/layer/1", "#/neuron/1/40", "#/search?q=bat", "#/compare/layers"):
        page.goto(exported + path)
        page.wait_for_load_state("networkidle")
    assert len(asked) > 20
    assert [url for url in asked if not url.startswith(exported)] == []
    page.close()
