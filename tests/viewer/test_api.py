"""The JSON API: against its own description, against the atlas and the model, and against attempts to leave it."""

import json
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import schemathesis
import torch
from hypothesis import HealthCheck, given, settings
from PIL import Image
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance
from viewer_world import HOSTILE_TEXTS, World, application, encoded, new_picture, row_of

from secondlens.analysis.concepts import ConceptFinder
from secondlens.descriptions import Descriptions, search_neurons
from secondlens.lens import patch_contributions, second_order_effects
from secondlens.viewer.card import full_card
from secondlens.viewer.server.guard import Access

PNG = {"content-type": "image/png"}


@pytest.fixture(scope="module")
def described(world: World) -> Any:
    access = Access(hosts=frozenset({"testserver"}))
    return schemathesis.openapi.from_asgi("/api/openapi.json", application(world, access))


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
def test_the_api_does_what_its_description_says(described: Any, mode: GenerationMode) -> None:
    """Random requests inside and outside the description: only answers that it names, of the shapes that it gives."""
    operations = [found.ok() for found in described.get_all_operations()]
    assert len(operations) == 8
    for operation in operations:
        # /api/status takes no parameters: nothing can be wrong.
        if mode == GenerationMode.POSITIVE or operation.path != "/api/status":
            ask_at_random(operation, mode)


def ask_at_random(operation: Any, mode: GenerationMode) -> None:
    # Two texts of the right form can be the same to the model, as all words are that this tiny one does not know.
    allowed = [positive_data_acceptance] if operation.path.endswith("waterfall") else []

    @settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case: schemathesis.Case) -> None:
        case.call_and_validate(excluded_checks=allowed)

    check()


def test_a_neuron_is_the_atlass(client: Any, world: World) -> None:
    answer = client.get("/api/neurons/1/40").json()
    assert answer == json.loads(json.dumps(full_card(world.atlas, 1, 40)))
    other = client.get("/api/neurons/1/40?pool=things-i").json()
    assert {text["text"] for text in other["texts"]} != {text["text"] for text in answer["texts"]}


def test_search_is_the_models(client: Any, world: World) -> None:
    text = HOSTILE_TEXTS[1]
    answer = client.get("/api/search", params={"text": text, "limit": 7, "absolute": True}).json()
    expected = search_neurons(world.atlas, world.model, text, limit=7, absolute=True)
    assert answer == {"text": text, "neurons": json.loads(json.dumps(expected))}


def test_a_picture_is_what_the_model_says(client: Any, world: World) -> None:
    picture = new_picture()
    answer = client.post("/api/image", content=encoded(picture), headers=PNG).json()
    pixels = world.model.preprocess([picture])
    active = {}
    for index in world.atlas.layers:
        layer = world.atlas.layer(index)
        fx = second_order_effects(world.model, pixels, index)
        # The oracle: dense effects in float64, less the survey's mean. Of 40 images the 98th percentile is the largest.
        centred = fx.dense()[0].double() - layer.mean_effects.double()
        norms, x = centred.norm(dim=1), (centred * layer.directions.double()).sum(dim=1)
        thresholds = layer.top_norms[:, 0].double()
        for neuron in (norms > thresholds).nonzero()[:, 0].tolist():
            active[index, neuron] = (float(norms[neuron]), float(x[neuron]), float(norms[neuron] / thresholds[neuron]))
    assert answer["active"] == len(active) > 0
    found = {(row["layer"], row["neuron"]): row for row in answer["neurons"]}
    assert len(found) == min(40, len(active))
    for place, row in found.items():
        # float32 sums over paths of effects that are an order of magnitude larger than what is left of them.
        assert row["norm"] == pytest.approx(active[place][0], rel=1e-3, abs=1e-6)
        assert row["projection"] == pytest.approx(active[place][1], rel=1e-3, abs=1e-6)
        assert row["norm"] > row["threshold"]
    ratios = [row["norm"] / row["threshold"] for row in answer["neurons"]]
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[0] == pytest.approx(max(ratio for *_, ratio in active.values()), rel=1e-3)


def test_a_texts_heat_map_is_the_layers_contribution(client: Any, world: World) -> None:
    picture = Image.open(world.pictures / "picture-07.png").convert("RGB")
    params = {"text": HOSTILE_TEXTS[0], "layer": 1}
    answer = client.post("/api/image/heat", params=params, content=encoded(picture), headers=PNG).json()
    pixels = world.model.preprocess([picture])
    vector = world.model.encode_texts([HOSTILE_TEXTS[0]])
    tokens = patch_contributions(world.model, pixels, 1, vector)[0, 0]
    assert np.allclose(answer["values"], tokens[1:].numpy(), rtol=1e-4, atol=1e-8)
    assert answer["through_layer"] == pytest.approx(float(tokens.sum()), rel=1e-4)
    assert (answer["rows"], answer["columns"]) == (2, 2)
    unit = torch.nn.functional.normalize(world.model.encode_images(pixels), dim=1)
    assert answer["cosine"] == pytest.approx(float(unit[0] @ vector[0]), abs=1e-6)


def test_concepts_and_the_parts_of_a_score(client: Any, world: World) -> None:
    picture = Image.open(world.pictures / "picture-07.png").convert("RGB")
    content = encoded(picture)
    assert client.get("/api/status").json()["waterfall"] is True
    params = {"text": HOSTILE_TEXTS[0], "against": "den"}
    answer = client.post("/api/image/waterfall", params=params, content=content, headers=PNG).json()
    vectors = world.model.encode_texts([HOSTILE_TEXTS[0], "den"])
    unit = torch.nn.functional.normalize(world.model.encode_images(world.model.preprocess([picture])), dim=1)[0]
    assert answer["score"] == pytest.approx(float(unit @ (vectors[0] - vectors[1])), abs=1e-5)
    assert sum(part["value"] for part in answer["parts"]) == pytest.approx(answer["score"], abs=1e-9)
    same = client.post("/api/image/waterfall", params={"text": "den", "against": "den"}, content=content, headers=PNG)
    assert (same.status_code, "the same to the model" in same.json()["detail"]) == (400, True)
    concepts = client.post("/api/image/concepts?limit=3", content=content, headers=PNG).json()["concepts"]
    finder = ConceptFinder(world.model, world.atlas, Descriptions.open(world.atlas))
    expected = finder.find(world.model.preprocess([picture]), 3).concepts
    assert [(row["text"], row["score"]) for row in concepts] == [(one.text, one.score) for one in expected]


def test_heat_maps_of_a_neuron_come_as_one_row(client: Any, world: World) -> None:
    fields = client.get("/data/site.json").json()["heat"]["fields"]
    row = row_of(client.get("/api/heat/1/40").content, fields, 0, 1)
    layer = world.atlas.layer(1)
    expected = layer.top_projections[40, :6] + layer.mean_effects[40] @ layer.directions[40]
    assert np.allclose(row["total"], expected.numpy(), atol=1e-5 * float(layer.top_norms[40, 0]))


def test_what_is_not_there_is_404_with_the_reason(client: Any) -> None:
    for path, reason in {
        "/api/neurons/9/0": "layer 9 is not in this atlas",
        "/api/neurons/1/48": "neurons 0 to 47",
        "/api/neurons/1/0?pool=none": "no descriptions over 'none'",
        "/api/heat/1/48": "neurons 0 to 47",
        "/api/search?text=x&layer=7": "layer 7 is not in this atlas",
        "/api/nothing": "no such file",
    }.items():
        answer = client.get(path)
        assert (answer.status_code, reason in answer.json()["detail"]) == (404, True), path


def test_a_text_that_the_model_cannot_encode_is_400(client: Any) -> None:
    answer = client.get("/api/search", params={"text": "bat " * 75})
    assert answer.status_code in (200, 400)
    too_long = client.get("/api/search", params={"text": "a" * 301})
    assert too_long.status_code == 422


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt", "/..%2fsecret.txt", "/%2e%2e/secret.txt", "/data/../../secret.txt", "//etc/passwd",
        "/data/..%5c..%5csecret.txt", "/etc/passwd", "/data/site.json%00.html", "/data//site.json",
        "/./index.html/../app.py", "/server/app.py", "/__init__.py", "/atlas.json", "/%ff%fe", "/data/site.json/",
    ],
)  # fmt: skip
def test_no_path_leaves_the_site(served: str, world: World, path: str) -> None:
    secret = world.atlas.folder.parent / "secret.txt"
    secret.write_text("secret")
    # A plain connection: clients tidy such paths up before they send them.
    connection = HTTPConnection(urlsplit(served).netloc, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    assert answer.status == 404
    assert b"secret" not in content


def test_every_file_of_the_site_is_served(client: Any, world: World, site: Path) -> None:
    for name in (
        "index.html",
        "app.js",
        "style/base.css",
        "data/layers/01/neurons-0001.bin",
        "data/images/ids-0000.json",
    ):
        answer = client.get(f"/{name}")
        assert answer.content == (site / name).read_bytes(), name
    assert client.get("/").text.startswith("<!doctype html>")
    assert client.get("/app.js").headers["content-type"].startswith("text/javascript")


def clearly_active(answer: dict[str, Any]) -> set[tuple[int, int]]:
    """Neurons above their threshold by more than rounding: some norms of the survey's own pictures *are* thresholds."""
    assert answer["active"] == len(answer["neurons"]), "the tiny model has few enough neurons to list all"
    return {(row["layer"], row["neuron"]) for row in answer["neurons"] if row["norm"] > row["threshold"] * (1 + 1e-4)}


def test_many_at_once_get_each_their_own(served: str, world: World) -> None:
    from urllib.request import Request, urlopen

    names = [f"picture-{number:02d}.png" for number in range(12)]

    def ask(name: str) -> dict[str, Any]:
        content = (world.pictures / name).read_bytes()
        with urlopen(Request(f"{served}api/image", content, PNG), timeout=30) as answer:
            return json.load(answer)

    alone = [ask(name) for name in names]
    with ThreadPoolExecutor(12) as pool:
        together = list(pool.map(ask, names))
    for one, other in zip(alone, together, strict=True):
        assert clearly_active(one) == clearly_active(other)
        assert one["predictions"][0]["text"] == other["predictions"][0]["text"]
        # Batches of other sizes round float32 differently.
        assert one["predictions"][0]["value"] == pytest.approx(other["predictions"][0]["value"], abs=1e-5)
