"""The README's commands and code run as they stand, with a small local model in the place of the large one."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from builders import Spec, build
from commands import Result

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
MODEL = "hf:openai/clip-vit-base-patch32"


@pytest.fixture
def desk(tmp_path: Path, pictures: Path) -> Path:
    """A folder with `photos` and a model of twelve layers with 3,072 neurons, as the README's has."""
    pictures.rename(tmp_path / "photos")
    for path in sorted((tmp_path / "photos").iterdir()):
        Image.open(path).convert("RGB").save(path.with_suffix(".jpg"))
    Image.open(path).convert("RGB").save(tmp_path / "photos" / "tent.jpg")
    lines = [
        f"photos/{path.name},{'tent' if number % 2 else 'boat'}"
        for number, path in enumerate(sorted((tmp_path / "photos").glob("*.jpg")))
    ]
    (tmp_path / "labels.csv").write_text("\n".join(["file,name", *lines]))
    (tmp_path / "words.txt").write_text("\n".join(a + b + c for a in "bdfgklmnprst" for b in "aeiou" for c in "dgkmt"))
    folder = tmp_path / "model"
    build(Spec("clip", layers=12, heads=2, width=16, neurons=3072)).save_pretrained(folder)
    # A token a letter: every word has an embedding of its own.
    letters = {letter: 4 + number for number, letter in enumerate(" '-abcdefghijklmnopqrstuvwxyz")}
    tokenizer = Tokenizer(models.WordLevel({"<pad>": 0, "<unk>": 3, **letters}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>").save_pretrained(folder)
    return tmp_path


def localise(text: str) -> str:
    # The survey's 100 top images need more pictures, and 30,000 words more time, than a test should have.
    return text.replace(MODEL, "hf:./model").replace("top=100", "top=20").replace("words-30k", "words.txt")


def test_commands_run(desk: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[..., Result]) -> None:
    monkeypatch.setenv("SECONDLENS_CACHE", str(desk / "cache"))
    monkeypatch.chdir(desk)
    blocks = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    commands = [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    assert len(commands) >= 6
    for line in commands:
        words = shlex.split(localise(line))
        assert words[0] == "secondlens"
        result = command(*words[1:])
        assert result.returncode == 0, (line, result.stderr)
        assert result.stdout.strip(), line
    assert Image.open(desk / "neuron.png").size == (676, 302)


def test_python_runs(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk)
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict[str, object] = {}
    exec(localise(code), names)
    fx = names["fx"]
    assert fx.coefficients.shape == (1, 3072, 4)  # type: ignore[attr-defined]
    assert torch.isfinite(fx.dense(neurons=slice(0, 8))).all()  # type: ignore[attr-defined]


def test_links_point_somewhere() -> None:
    root = Path(__file__).resolve().parents[1]
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (root / target).exists(), target
