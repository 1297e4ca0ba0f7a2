"""Language models: a real endpoint on this machine, a tiny random model of `transformers`, a script."""

import json
import shutil
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from secondlens.data.language import LanguageModel, ScriptedModel, open_language_model
from secondlens.data.language.base import whole_lines
from secondlens.errors import EmptyAnswer, LanguageError, MissingExtra

KEY = "sk-a-key-that-nobody-may-see"


class Endpoint:
    """A chat-completions endpoint: answers with what is queued, else with `text`."""

    def __init__(self) -> None:
        self.queue: list[tuple[int, Any]] = []
        self.text: str | None = "a red beak\na wet lawn"
        self.reason = "stop"
        self.pause = 0.0
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                endpoint.requests.append({"path": self.path, **body})
                endpoint.keys.append(self.headers["Authorization"])
                time.sleep(endpoint.pause)
                status, found = endpoint.queue.pop(0) if endpoint.queue else (200, endpoint.answer(body["model"]))
                content = found.encode() if isinstance(found, str) else json.dumps(found).encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/html" if isinstance(found, str) else "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *arguments: None  # a client that gave up is no news
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"

    def answer(self, model: str) -> dict[str, Any]:
        message = {"role": "assistant", "content": self.text}
        choice = {"index": 0, "message": message, "finish_reason": self.reason}
        return {"id": "1", "object": "chat.completion", "created": 1, "model": model, "choices": [choice]}

    def refuse(self, status: int, message: str, **more: object) -> None:
        self.queue.append((status, {"error": {"message": message, **more}}))


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    pytest.importorskip("openai")
    served = Endpoint()
    thread = threading.Thread(target=served.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("OPENAI_BASE_URL", served.url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield served
    served.server.shutdown()
    served.server.server_close()
    thread.join()


def test_an_endpoint_is_asked_with_all_settings(endpoint: Endpoint) -> None:
    model = open_language_model("openai:some/model", max_tokens=77, temperature=0.5)
    assert isinstance(model, LanguageModel)
    assert model.complete("Describe a bird.", 3) == "a red beak\na wet lawn"
    assert endpoint.requests == [
        {
            "path": "/v1/chat/completions",
            "model": "some/model",
            "messages": [{"role": "user", "content": "Describe a bird."}],
            "temperature": 0.5,
            "max_tokens": 77,
            "seed": 3,
        }
    ]
    assert endpoint.keys == [f"Bearer {KEY}"]
    assert model.name == "openai:some/model"
    assert KEY not in json.dumps(model.settings)


def test_a_busy_endpoint_is_asked_again(endpoint: Endpoint) -> None:
    endpoint.refuse(429, "slow down")
    endpoint.refuse(503, "starting")
    assert open_language_model("openai:m").complete("Hello", 0).startswith("a red beak")
    assert len(endpoint.requests) == 3


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, "refused the request"),
        (401, "refused the key in OPENAI_API_KEY"),
        (403, "may not use openai:m"),
        (404, "knows no model 'm'"),
        (429, "busy or the account has no more quota"),
        (500, "failed"),
    ],
)
def test_what_an_endpoint_refuses_is_said_without_the_key(endpoint: Endpoint, status: int, expected: str) -> None:
    from secondlens.data.language.endpoint import EndpointModel

    endpoint.refuse(status, f"no: {KEY}")
    with pytest.raises(LanguageError, match=expected) as caught:
        EndpointModel("m", retries=0).complete("Hello", 0)
    assert KEY not in str(caught.value)
    assert len(endpoint.requests) == 1


def test_options_that_an_endpoint_does_not_know_are_left_out(endpoint: Endpoint) -> None:
    model = open_language_model("openai:m", max_tokens=9)
    endpoint.refuse(400, "Unsupported: 'max_tokens'. Use 'max_completion_tokens' instead.", param="max_tokens")
    endpoint.refuse(422, "extra field: seed")
    with pytest.warns(UserWarning, match="takes no seed"):
        model.complete("Hello", 0)
    model.complete("Hello", 0)
    assert len(endpoint.requests) == 4
    assert endpoint.requests[-1]["max_completion_tokens"] == 9
    assert not {"seed", "max_tokens"} & set(endpoint.requests[-1])


def test_no_endpoint_a_slow_one_and_one_that_is_none(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    from secondlens.data.language.endpoint import EndpointModel

    endpoint.queue.append((200, "<html>welcome</html>"))
    with pytest.raises(LanguageError, match="end in /v1"):
        EndpointModel("m", retries=0).complete("Hello", 0)
    endpoint.pause = 0.5
    with pytest.raises(LanguageError, match=r"no answer within 0\.1 seconds"):
        EndpointModel("m", timeout=0.1, retries=0).complete("Hello", 0)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://user:password@127.0.0.1:9/v1")
    with pytest.raises(LanguageError, match="cannot reach") as caught:
        EndpointModel("m", retries=0).complete("Hello", 0)
    assert "password" not in str(caught.value)


def test_an_empty_and_a_cut_answer(endpoint: Endpoint) -> None:
    model = open_language_model("openai:m")
    endpoint.reason = "length"
    assert model.complete("Hello", 0) == "a red beak"
    endpoint.text = None
    with pytest.raises(EmptyAnswer, match="--max-tokens"):
        model.complete("Hello", 0)


def test_no_key_and_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openai")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(LanguageError, match="OPENAI_API_KEY, which is not set"):
        open_language_model("openai:m")
    monkeypatch.setenv("OPENAI_API_KEY", "two words")
    with pytest.raises(LanguageError, match="white space") as caught:
        open_language_model("openai:m")
    assert "two words" not in str(caught.value)
    monkeypatch.setitem(__import__("sys").modules, "openai", None)
    with pytest.raises(MissingExtra, match=r"secondlens\[llm\]"):
        open_language_model("openai:m")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of 40 words with a context of 32."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("language") / "gpt"
    vocabulary = {"[END]": 0, "[UNK]": 1, "Describe": 2, "user": 3, **{f"word{row}": row for row in range(4, 40)}}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="[END]", unk_token="[UNK]")
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 2, "bos_token_id": 0, "eos_token_id": 0}
    # Weights of the usual .02 would answer every prompt with nearly the same, flat distribution.
    model = GPT2LMHeadModel(GPT2Config(vocab_size=40, initializer_range=0.5, **sizes))
    model.generation_config.suppress_tokens = [0, 1]  # it never ends and never says nothing
    model.save_pretrained(folder)
    return folder


def test_a_local_model_obeys_its_seed_and_leaves_the_others_alone(folder: Path) -> None:
    model = open_language_model(f"hf:{folder}", max_tokens=12)
    assert isinstance(model, LanguageModel)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    answers = [model.complete("Describe word7", seed) for seed in (1, 1, 2)]
    assert torch.equal(torch.rand(3), expected)
    assert answers[0] == answers[1] != answers[2]
    assert len(answers[0].split()) <= 12
    greedy = open_language_model(f"hf:{folder}", max_tokens=12, temperature=0.0)
    assert greedy.complete("Describe word7", 1) == greedy.complete("Describe word7", 2)


def test_a_local_model_stays_within_its_context(folder: Path) -> None:
    model = open_language_model(f"hf:{folder}")
    assert len(model.complete(" ".join(["word9"] * 30), 0).split()) <= 2
    with pytest.raises(LanguageError, match="32 tokens, the context of"):
        model.complete(" ".join(["word9"] * 32), 0)


def test_a_chat_template_is_used(folder: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}word5"
    tokenizer.save_pretrained(shutil.copytree(folder, tmp_path / "chat"))
    plain, chat = (open_language_model(f"hf:{path}", max_tokens=8) for path in (folder, tmp_path / "chat"))
    for seed in range(3):
        assert chat.complete("word8", seed) == plain.complete("user word8 word5", seed) != plain.complete("word8", seed)


def test_a_folder_that_holds_no_model(tmp_path: Path) -> None:
    with pytest.raises(LanguageError, match="no such folder"):
        open_language_model(f"hf:{tmp_path / 'none'}")
    with pytest.raises(LanguageError, match="cannot load"):
        open_language_model(f"hf:{tmp_path}")


def test_a_script_says_what_it_was_told(tmp_path: Path) -> None:
    file = tmp_path / "script.json"
    file.write_text(json.dumps({"cat": ["one", "two"], "catfish": ["three"]}))
    model = open_language_model(f"scripted:{file}")
    assert [model.complete(prompt, 0) for prompt in ("a cat", "a catfish", "a cat")] == ["one", "three", "two"]
    with pytest.raises(LanguageError, match="no more answers to 'cat'"):
        model.complete("a cat", 0)
    with pytest.raises(LanguageError, match="no answer to the prompt 'a dog'"):
        model.complete("a dog", 0)
    assert isinstance(model, ScriptedModel)
    assert model.prompts == ["a cat", "a catfish", "a cat", "a cat", "a dog"]
    assert ScriptedModel(["x"]).complete("anything", 0) == "x"


@pytest.mark.parametrize("content", ["no json", "3", '{"cat": "one"}', "[1]"])
def test_a_script_of_another_kind(tmp_path: Path, content: str) -> None:
    file = tmp_path / "script.json"
    file.write_text(content)
    with pytest.raises(LanguageError, match=r"script\.json"):
        open_language_model(f"scripted:{file}")


@pytest.mark.parametrize(
    ("reference", "options", "expected"),
    [
        ("gpt", {}, "such as 'openai:MODEL'"),
        ("openai:", {}, "such as 'openai:MODEL'"),
        ("opnai:m", {}, "did you mean 'openai'"),
        ("openai:m", {"max_tokens": 0}, "got 0 and 1"),
        ("openai:m", {"temperature": -1.0}, "2048 and -1"),
        ("scripted:/no/such/file.json", {}, "no such file"),
    ],
)
def test_references_that_are_none(reference: str, options: dict[str, Any], expected: str) -> None:
    with pytest.raises(LanguageError, match=expected):
        open_language_model(reference, **options)


def test_whole_lines() -> None:
    assert whole_lines("a\nb\nc") == "a\nb"
    assert whole_lines("a b") == "a b"
