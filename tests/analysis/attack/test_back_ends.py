"""Back ends, really run: an endpoint on this machine, a tiny diffusion pipeline, a tiny chat model, a person's page."""

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from analysis.attack.endpoints import Endpoint, png
from secondlens.analysis.attack import AttackFolder, open_image_maker, open_judge
from secondlens.analysis.attack.image_makers import Made, Order, save_marked
from secondlens.analysis.attack.judges import SecondModelJudge, open_vision_judge, yes_or_no
from secondlens.analysis.attack.judging import all_judgements, judge_pictures
from secondlens.errors import AuditError, LanguageError
from secondlens.lens import LensModel
from secondlens.viewer.judging import PersonPage

KEY = "sk-a-key-that-nobody-may-see"
ORDER = Order("a dog in the snow", 5, "x")


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    pytest.importorskip("openai")
    served = Endpoint()
    monkeypatch.setenv("OPENAI_BASE_URL", served.url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield served
    served.close()


def test_pictures_of_an_endpoint(endpoint: Endpoint) -> None:
    maker = open_image_maker("openai:painter", size=256)
    made = maker.make(ORDER)
    assert made.image.size == (32, 32)
    assert made.image.getpixel((0, 0)) == (255, 0, 0)
    assert endpoint.requests == [
        {"path": "/v1/images/generations", "model": "painter", "prompt": "a dog in the snow", "n": 1,
         "response_format": "b64_json", "size": "256x256"}
    ]  # fmt: skip
    assert KEY not in json.dumps(maker.settings)
    # Newer models refuse to be asked for base64; busy ones are asked again; nonsense too.
    endpoint.refuse(400, "Unknown parameter: 'response_format'.", param="response_format")
    endpoint.refuse(429, "slow down")
    answers = iter([{"created": 1, "data": []}, {"created": 1, "data": [{"b64_json": "no picture"}]},
                    {"created": 1, "data": [{"b64_json": png("blue")}]}])  # fmt: skip
    endpoint.picture = lambda body: next(answers)
    assert maker.make(ORDER).image.getpixel((0, 0)) == (0, 0, 255)
    assert "response_format" not in endpoint.requests[-1]
    endpoint.picture = lambda body: {"created": 1, "data": [{"b64_json": "bm8="}]}
    with pytest.raises(LanguageError, match="no picture in 3 answers"):
        maker.make(ORDER)


def test_a_picture_that_an_endpoint_refuses_is_counted_as_no_test(endpoint: Endpoint, tmp_path: Path) -> None:
    maker = open_image_maker("openai:painter")
    endpoint.refuse(400, "Your request was rejected by the safety system.", code="content_policy_violation")
    made = maker.make(ORDER)
    assert "safety system" in made.metadata["refused"]
    line = {
        "name": "x",
        "prompt": "p",
        "metadata": made.metadata,
        "source_class": "dog",
        "target_class": "cat",
        "seed": 1,
    }
    said = judge_pictures(AttackFolder(tmp_path), [line], open_vision_judge("openai", "eyes"))
    assert said["x"]["valid"] is False
    assert len(endpoint.requests) == 1
    endpoint.refuse(400, f"no model for {KEY}")
    with pytest.raises(LanguageError, match="refused the request") as caught:
        maker.make(ORDER)
    assert KEY not in str(caught.value)


def test_a_vision_model_judges(endpoint: Endpoint, world_model: LensModel, tmp_path: Path) -> None:
    picture = tmp_path / "x.png"
    Image.new("RGB", (8, 8)).save(picture)
    line = {"name": "x", "source_class": "dog", "target_class": "cat", "seed": 1, "metadata": {}}
    endpoint.chat = lambda body: "Yes." if " dog " in body["messages"][0]["content"][0]["text"] else "**No**"
    judge = open_judge("openai:eyes", world_model, [])
    found = judge.judge(line, picture)
    assert (found.shows_source, found.shows_target, found.valid) == (True, False, True)
    sent = endpoint.requests[0]["messages"][0]["content"][1]["image_url"]["url"]
    assert sent.startswith("data:image/png;base64,")
    endpoint.chat = lambda body: "What a lovely picture"
    found = judge.judge(line, picture)
    assert found.valid is None
    assert "no answer" in found.note
    assert len(endpoint.requests) == 2 + 6
    endpoint.refuse(404, "no such model")
    with pytest.raises(LanguageError, match="knows no model 'eyes'"):
        judge.judge(line, picture)


def test_yes_and_no() -> None:
    cases = {"Yes": True, "no.": False, "<think>yes? no</think> No": False, "Yes, no deer here": True, "maybe": None,
             "It is not clear whether yes or no": None, "nothing": None}  # fmt: skip
    assert {text: yes_or_no(text) for text in cases} == cases


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Stable Diffusion of a few thousand weights, saved as a user's folder is."""
    diffusers = pytest.importorskip("diffusers")
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    folder = tmp_path_factory.mktemp("diffusion")
    torch.manual_seed(0)
    vocabulary = {"<|startoftext|>": 0, "<|endoftext|>": 1, **{chr(code): code for code in range(97, 123)},
                  **{f"{chr(code)}</w>": code + 26 for code in range(97, 123)}}  # fmt: skip
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16)
    text = CLIPTextModel(CLIPTextConfig(vocab_size=200, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                                        num_attention_heads=2, max_position_embeddings=16, bos_token_id=0,
                                        eos_token_id=1, pad_token_id=1))  # fmt: skip
    unet = diffusers.UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16, attention_head_dim=4, norm_num_groups=4,
    )  # fmt: skip
    vae = diffusers.AutoencoderKL(
        in_channels=3, out_channels=3, block_out_channels=(8, 8), latent_channels=4, norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, sample_size=16,
    )  # fmt: skip
    scheduler = diffusers.DDIMScheduler(clip_sample=False, steps_offset=1)
    made = diffusers.StableDiffusionPipeline(
        vae=vae, text_encoder=text, tokenizer=tokenizer, unet=unet, scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    made.save_pretrained(folder / "pipeline")
    return folder / "pipeline"


def test_a_diffusion_pipeline_from_its_folder(pipeline: Path) -> None:
    maker = open_image_maker(f"diffusers:{pipeline}", steps=2, size=16)
    first, again, other = (np.asarray(maker.make(Order("a dog", seed, "x")).image, dtype=int) for seed in (1, 1, 2))
    assert first.shape == (16, 16, 3)
    assert (first == again).all()
    assert (first != other).any()
    assert maker.settings == {"steps": 2, "size": 16}


def test_references_that_are_no_image_model(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="did you mean 'diffusers'"):
        open_image_maker("difusers:x")
    with pytest.raises(AuditError, match="no such folder of pictures"):
        open_image_maker(f"folder:{tmp_path / 'none'}")
    pytest.importorskip("diffusers")
    with pytest.raises(AuditError, match="no such folder of a pipeline"):
        open_image_maker(f"diffusers:{tmp_path / 'none'}")
    with pytest.raises(AuditError, match="cannot load the image model"):
        open_image_maker(f"diffusers:{tmp_path}")


def test_a_second_model_judges(world_model: LensModel, tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="three classes or more"):
        SecondModelJudge(world_model, ["cat", "boat"])
    classes = ["cat", "boat", "dog"]
    judge = SecondModelJudge(world_model, classes, ("a {}",))
    Image.effect_noise((40, 40), 90).convert("RGB").save(tmp_path / "x.png")
    found = judge.judge({"source_class": "cat", "target_class": "boat"}, tmp_path / "x.png")
    pixels = world_model.preprocess([Image.open(tmp_path / "x.png")])
    cosines = torch.nn.functional.normalize(world_model.encode_images(pixels), dim=1) @ world_model.encode_texts(
        [f"a {name}" for name in classes]
    ).T  # fmt: skip
    cat, boat, dog = cosines[0].tolist()
    assert (found.shows_source, found.shows_target) == (cat > dog, boat > cat)
    with pytest.raises(AuditError, match="without 'bird'"):
        judge.judge({"source_class": "bird", "target_class": "boat"}, tmp_path / "x.png")
    with pytest.raises(AuditError, match="is the attacked model itself"):
        open_judge(f"model:{world_model.reference}", world_model, classes)
    with pytest.raises(AuditError, match="did you mean 'exact'"):
        open_judge("exct", world_model, classes)


@pytest.fixture
def page(tmp_path: Path) -> Iterator[PersonPage]:
    folder = AttackFolder(tmp_path)
    pair = {"source_class": "dog", "target_class": "<b>cat</b>"}
    images = [{"name": f"a/{seed}", "prompt": f"p{seed}", "seed": seed, **pair} for seed in (3, 1, 2)]
    for line in images:
        path = folder.images / f"{line['name']}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_marked(Made(Image.new("RGB", (4, 4), (line["seed"], 0, 0))), path, ORDER, "test")
    served = PersonPage(folder, images)
    thread = threading.Thread(target=served.serve)
    thread.start()
    yield served
    served.stop()
    thread.join()
    served.close()


def ask(url: str, body: Any = None, host: str | None = None) -> bytes:
    request = urllib.request.Request(url, data=None if body is None else json.dumps(body).encode())
    if host is not None:
        request.add_header("Host", host)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
        return answer.read()


def test_a_person_judges_on_a_page(page: PersonPage, tmp_path: Path) -> None:
    assert b"<kbd>a</kbd> accept" in ask(page.url)
    state = json.loads(ask(page.url + "state"))
    assert [picture["judgement"] for picture in state["images"]] == [None] * 3
    # In the order of the seeds, whatever the order of the lines.
    assert ask(page.url + "image/0") == (tmp_path / "images" / "a" / "1.png").read_bytes()
    ask(page.url + "judgement", {"number": 0, "judgement": "accept"})
    ask(page.url + "judgement", {"number": 1, "judgement": "reject"})
    ask(page.url + "judgement", {"number": 1, "judgement": "skip"})
    said = all_judgements(AttackFolder(tmp_path))["person"]
    assert {name: line["valid"] for name, line in said.items()} == {"a/1": True, "a/2": None}
    plain = {"source_class": "dog", "target_class": "cat"}
    images = [{"name": "a/1", "prompt": "p1", "seed": 1, **plain}, {"name": "a/2", "prompt": "new", "seed": 2, **plain}]
    again = PersonPage(AttackFolder(tmp_path), images)
    assert [picture["judgement"] for picture in again.state()["images"]] == ["accept", None]
    again.close()


@pytest.mark.parametrize(
    ("path", "body", "host", "status"),
    [
        ("image/9", None, None, 404),
        ("image/../../attack.json", None, None, 404),
        ("state", None, "evil.example:80", 404),
        ("judgement", {"number": 7, "judgement": "accept"}, None, 400),
        ("judgement", {"number": 0, "judgement": "<b>"}, None, 400),
        ("judgement", ["x"], None, 400),
    ],
)
def test_the_page_refuses(page: PersonPage, path: str, body: Any, host: str | None, status: int) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        ask(page.url + path, body, host)
    assert caught.value.code == status
    root = page.url.split("/", 3)[:3]
    with pytest.raises(urllib.error.HTTPError):
        ask("/".join(root) + "/state")
