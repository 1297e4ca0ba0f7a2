"""A tiny random chat model of `transformers` and a real openai client as caption writers, through whole stages."""

from pathlib import Path

import pytest
import torch

from analysis.attack.endpoints import Endpoint
from secondlens.analysis.attack import AttackFolder, Cell, make_settings
from secondlens.analysis.attack.descriptions import write_descriptions
from secondlens.data.language import open_language_model
from secondlens.errors import LanguageError

KEY = "sk-a-key-that-nobody-may-see"
CELL = Cell("dog", "deer", "second-order", 1)
CUES = {CELL: [{"text": "snow", "score": 1.0}]}


def chat_folder(folder: Path, served: bool = False) -> Path:
    """It only knows how to say "dog" and a few things around it. served: with what a
    server needs: a template of chats, and that it samples."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    vocabulary = {"[END]": 0, "[UNK]": 1, "dog": 2, **{f"thing{row}": row for row in range(3, 24)}}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="[END]", unk_token="[UNK]")
    if served:
        tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }} {% endfor %}"
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"n_positions": 256, "n_embd": 16, "n_layer": 1, "n_head": 2, "bos_token_id": 0, "eos_token_id": 0}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=24, **sizes))
    model.generation_config.suppress_tokens = [0, 1]
    model.generation_config.do_sample = served
    model.save_pretrained(folder)
    return folder


def test_a_random_chat_model_is_asked_within_a_bound(tmp_path: Path) -> None:
    model = open_language_model(f"hf:{chat_folder(tmp_path / 'gpt')}", max_tokens=40)
    settings = make_settings("smallest", chosen=1)
    found = write_descriptions(AttackFolder(tmp_path / "attack"), CUES, model, settings)[CELL]
    # Forty of its words, one of twenty-two being "dog": some answer has it.
    assert 1 <= found["answers"] <= 3
    assert all("dog" in text for text in found["kept"])
    assert len(found["chosen"]) == 1


def test_an_endpoint_that_fails_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openai")
    served = Endpoint()
    for name, value in (("OPENAI_BASE_URL", served.url), ("OPENAI_API_KEY", KEY), ("NO_PROXY", "127.0.0.1"),
                        ("no_proxy", "127.0.0.1")):  # fmt: skip
        monkeypatch.setenv(name, value)
    served.chat = lambda body: "1. a dog in the snow\n2. a deer\n3. two dogs run"
    try:
        cells = {**CUES, Cell("dog", "deer", "none", 1): []}
        settings = make_settings("smallest")
        folder = AttackFolder(tmp_path / "attack")
        served.refuse(429, "slow down")
        served.queue.append((200, served.answer("/v1/chat/completions", {"model": "m"})))
        served.refuse(401, f"wrong key {KEY}")
        model = open_language_model("openai:m")
        with pytest.raises(LanguageError, match=r"refused the key.*answers before it are kept") as caught:
            write_descriptions(folder, cells, model, settings)
        assert KEY not in str(caught.value)
        asked = len(served.requests)
        found = write_descriptions(folder, cells, model, settings)
        assert len(served.requests) == asked + 1
        assert found[CELL]["kept"] == ["a dog in the snow", "two dogs run"]
        assert found[CELL]["cues"] == [["snow"], []]
        for path in folder.path.rglob("*"):
            assert path.is_dir() or KEY.encode() not in path.read_bytes()
    finally:
        served.close()
