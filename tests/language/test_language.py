"""Language models: the real client against a real server, a real (tiny, random) local model, and scripts."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from secondlens.errors import LanguageError
from secondlens.language import LanguageModel, ScriptedModel, open_language_model
from secondlens.language.endpoint import EndpointModel

KEY = "a-secret-key"


class Server(ThreadingHTTPServer):
    """Answers chat completions; `faults` are statuses to give first."""

    faults: list[int]
    seen: list[dict[str, Any]]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append(asked)
        answer = f"you said: {asked['messages'][0]['content']}"
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": answer}}
        if self.server.faults:
            self.give(self.server.faults.pop(0), {"error": {"message": "not now"}})
        elif self.headers["Authorization"] != f"Bearer {KEY}":
            self.give(401, {"error": {"message": "no"}})
        elif asked["model"] == "odd":
            self.give(200, {"hello": "there"})
        elif asked["model"] == "good":
            self.give(200, {"id": "1", "object": "chat.completion", "created": 0, "model": "good", "choices": [choice]})
        else:
            self.give(404, {"error": {"message": "no such model"}})

    def give(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    running = Server(("127.0.0.1", 0), Handler)
    running.faults, running.seen = [], []
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{running.server_port}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    yield running
    running.shutdown()
    running.server_close()
    thread.join()


def test_endpoint_answers(server: Server) -> None:
    model = open_language_model("openai:good", max_tokens=9, temperature=0.5)
    assert isinstance(model, LanguageModel)
    assert model.name == "openai:good"
    assert model.complete("hello", seed=4) == "you said: hello"
    assert server.seen[0].items() >= {"max_tokens": 9, "temperature": 0.5, "seed": 4}.items()


def test_endpoint_tries_again(server: Server) -> None:
    server.faults = [429, 503]
    assert open_language_model("openai:good").complete("hello", 0) == "you said: hello"
    assert len(server.seen) == 3


@pytest.mark.parametrize(
    ("model", "faults", "message"),
    [("none", [], "knows no none"), ("odd", [], "no chat answer"), ("good", [500] * 3, "failed")],
)
def test_endpoint_errors(server: Server, model: str, faults: list[int], message: str) -> None:
    server.faults = faults
    with pytest.raises(LanguageError, match=message):
        open_language_model(f"openai:{model}").complete("hello", 0)


def test_endpoint_without_access(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "wrong")
    with pytest.raises(LanguageError, match="refuses the key") as caught:
        open_language_model("openai:good").complete("hello", 0)
    assert "wrong" not in str(caught.value)
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(LanguageError, match="set OPENAI_API_KEY"):
        open_language_model("openai:good")


def test_endpoint_that_is_not_there(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.shutdown()
    server.server_close()
    with pytest.raises(LanguageError, match=r"cannot reach|in time"):
        EndpointModel("good", 9, 0.5, timeout=2.0).complete("hello", 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = {
        word: number for number, word in enumerate(["<pad>", "<unk>", "a", "dog", "runs", "on", "grass", "user", ":"])
    }
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(words), n_embd=16, n_layer=2, n_head=2, n_positions=64, bos_token_id=0, eos_token_id=0
    )
    place = tmp_path_factory.mktemp("language")
    GPT2LMHeadModel(config).save_pretrained(place)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>")
    fast.chat_template = "{% for m in messages %}{{ m.role }} : {{ m.content }}{% endfor %}"
    fast.save_pretrained(place)
    return place


def test_local_model(folder: Path) -> None:
    model = open_language_model(f"hf:{folder}", max_tokens=12, temperature=1.0)
    before = torch.get_rng_state()
    first = model.complete("a dog", seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert first == model.complete("a dog", seed=1)
    assert len({model.complete("a dog", seed=seed) for seed in range(5)}) > 1
    greedy = open_language_model(f"hf:{folder}", max_tokens=12, temperature=0.0)
    assert greedy.complete("a dog", 1) == greedy.complete("a dog", 2)


def test_scripted(tmp_path: Path) -> None:
    path = tmp_path / "script.json"
    path.write_text(json.dumps({"dog": ["one", "two"], "": ["rest"]}))
    model = open_language_model(f"scripted:{path}")
    assert [model.complete("a dog?", 0), model.complete("a cat?", 0), model.complete("dog", 0)] == [
        "one",
        "rest",
        "two",
    ]
    with pytest.raises(LanguageError, match="no answer left"):
        model.complete("dog", 0)
    scripted = ScriptedModel({})
    with pytest.raises(LanguageError, match="no answer for the prompt"):
        scripted.complete("dog", 0)
    scripted.enqueue("dog", "three")
    assert scripted.complete("dog", 0) == "three"
    assert scripted.prompts == ["dog", "dog"]
    path.write_text("[1]")
    with pytest.raises(LanguageError, match="JSON object of lists"):
        open_language_model(f"scripted:{path}")


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("gpt", "expected a language model"),
        ("opnai:x", "did you mean 'openai'"),
        ("hf:/no/such/folder", "cannot load the language model"),
        ("scripted:/no/such.json", "cannot read the script"),
    ],
)
def test_references(reference: str, message: str) -> None:
    with pytest.raises(LanguageError, match=message):
        open_language_model(reference)
    with pytest.raises(LanguageError, match="max_tokens"):
        open_language_model("scripted:x", max_tokens=0)
