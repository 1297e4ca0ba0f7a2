"""The openai client against transformers' own server, and a vision-language model as a judge: real ones, random."""

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from analysis.attack.test_local_chat import CELL, CUES, chat_folder
from analysis.attack.vision_folder import vision_folder
from secondlens.analysis.attack import AttackFolder, make_settings, open_judge
from secondlens.analysis.attack.descriptions import write_descriptions
from secondlens.analysis.attack.judges import Judge
from secondlens.analysis.attack.judging import judge_pictures
from secondlens.data.language import open_language_model
from secondlens.data.language.local import LocalVisionModel
from secondlens.errors import LanguageError
from secondlens.lens import LensModel

LINE = {"name": "a", "source_class": "dog", "target_class": "cat", "seed": 1, "metadata": {}}


@pytest.fixture(autouse=True)
def short_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random models hardly ever end by themselves."""
    monkeypatch.setattr("secondlens.analysis.attack.judges.MAX_TOKENS", 2)


@contextmanager
def served(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """`transformers serve FOLDER` on a free port of the loopback address, within this process."""
    for library in ("openai", "uvicorn", "fastapi", "accelerate"):
        pytest.importorskip(library)
    from transformers.cli.serve import Serve

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = Serve(force_model=str(folder), host="127.0.0.1", port=port, device="cpu", non_blocking=True)
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)
    for name, value in (("OPENAI_BASE_URL", f"http://127.0.0.1:{port}/v1"), ("OPENAI_API_KEY", "any"),
                        ("NO_PROXY", "127.0.0.1"), ("no_proxy", "127.0.0.1")):  # fmt: skip
        monkeypatch.setenv(name, value)
    try:
        yield f"openai:{folder}"
    finally:
        server.kill_server()


def test_captions_from_transformers_own_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(chat_folder(tmp_path / "gpt", served=True), monkeypatch) as reference:
        model = open_language_model(reference, max_tokens=40)
        found = write_descriptions(AttackFolder(tmp_path / "attack"), CUES, model, make_settings("smallest", chosen=1))
        assert 1 <= found[CELL]["answers"] <= 3
        assert all("dog" in text for text in found[CELL]["kept"])
        # The same request with temperature 0 has one answer.
        plain = open_language_model(reference, max_tokens=8, temperature=0.0)
        answers = {plain.complete("dog thing3", seed) for seed in (1, 2)}
        assert len(answers) == 1
        assert len(answers.pop().split()) == 8
        with pytest.raises(LanguageError, match="refused the request"):
            open_language_model(f"openai:{tmp_path / 'another'}").complete("dog", 0)


def pictures(folder: Path, count: int) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = [folder / f"{row}.png" for row in range(count)]
    for path in paths:
        colour = np.broadcast_to(rng.integers(0, 256, 3, dtype=np.uint8), (20, 24, 3))
        Image.fromarray(np.ascontiguousarray(colour)).save(path)
    return paths


def said(judge: Judge, paths: list[Path]) -> list[tuple[bool | None, bool | None]]:
    judged = [judge.judge(LINE, path) for path in paths]
    return [(found.shows_source, found.shows_target) for found in judged]


def test_a_vision_model_judges_here_and_behind_the_server(
    world_model: LensModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = vision_folder(tmp_path / "vision")
    paths = pictures(tmp_path, 12)
    local = open_judge(f"hf:{folder}", world_model, [])
    here = said(local, paths)
    assert all(answer in (True, False) for pair in here for answer in pair)
    # It does look: not every picture gets the same answers.
    assert len(set(here)) > 1
    assert said(local, paths) == here
    with served(folder, monkeypatch) as reference:
        # The same weights, asked for the likeliest word, through two roads.
        assert said(open_judge(reference, world_model, []), paths[:4]) == here[:4]


def test_a_vision_model_that_never_says_yes_or_no(tmp_path: Path, world_model: LensModel) -> None:
    judge = open_judge(f"hf:{vision_folder(tmp_path / 'vision', only_yes_and_no=False)}", world_model, [])
    path = tmp_path / "attack" / "images" / "a.png"
    path.parent.mkdir(parents=True)
    pictures(path.parent, 1)[0].rename(path)
    found = judge_pictures(AttackFolder(tmp_path / "attack"), [{**LINE, "prompt": "p"}], judge)["a"]
    assert found["valid"] is None
    assert "no answer" in found["note"]


def test_what_is_no_vision_model(tmp_path: Path, world_model: LensModel) -> None:
    with pytest.raises(LanguageError, match="no such folder"):
        open_judge(f"hf:{tmp_path / 'none'}", world_model, [])
    with pytest.raises(LanguageError, match="cannot load"):
        LocalVisionModel(str(chat_folder(tmp_path / "gpt")))
