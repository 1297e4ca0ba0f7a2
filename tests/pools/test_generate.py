"""Descriptions from a language model: lists of every style, resumption, and what is written down."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondlens.errors import TextError
from secondlens.language import ScriptedModel
from secondlens.pools import read_texts
from secondlens.pools.generate import generate_descriptions
from secondlens.pools.lists import parse_list

CLASSES = ["dog", "cat", "boat", "tree"]

STYLES = {
    "plain": lambda texts: "\n".join(texts),
    "numbers": lambda texts: "\n".join(f"{n}. {text}" for n, text in enumerate(texts, 1)),
    "brackets": lambda texts: "\n".join(f"{n}) {text}" for n, text in enumerate(texts, 1)),
    "bullets after words": lambda texts: (
        "Sure, here they are:\n\n" + "\n".join(f"- {text}" for text in texts) + "\n\nEnjoy!"
    ),
    "stars and quotes": lambda texts: "\n".join(f'* "{text}"' for text in texts),
    "bold": lambda texts: "\n".join(f"{n}. **{text}**" for n, text in enumerate(texts, 1)),
    "json": lambda texts: json.dumps(texts),
    "fenced json": lambda texts: "```json\n" + json.dumps(texts, indent=1) + "\n```",
    "introduced": lambda texts: "Descriptions:\n" + "\n".join(texts),
}
WORDS = st.lists(st.from_regex(r"[a-z]{2,9}( [a-z]{2,9}){0,5}", fullmatch=True), min_size=1, max_size=8)


@given(WORDS, st.sampled_from(sorted(STYLES)))
def test_lists_of_every_style(texts: list[str], style: str) -> None:
    assert parse_list(STYLES[style](texts)) == texts


def test_nothing_in_an_answer() -> None:
    assert parse_list("") == parse_list("Here you are:\n\n") == parse_list("```\n```") == []


def answers() -> dict[str, list[str]]:
    return {name: [f"1. a {name} outdoors\n2. A {name} outdoors.\n3. something\n4. {'long ' * 60}"] for name in CLASSES}


class Interrupted(ScriptedModel):
    """Stops as Ctrl-C does, at the third prompt."""

    def complete(self, prompt: str, seed: int) -> str:
        if len(self.prompts) == 2:
            raise KeyboardInterrupt
        return super().complete(prompt, seed)


def test_texts_are_written_with_how_they_were_made(tmp_path: Path) -> None:
    out = tmp_path / "texts.csv"
    seen: list[tuple[int, int]] = []
    report = generate_descriptions(
        CLASSES, ScriptedModel(answers()), out, per_class=4, progress=lambda done, total: seen.append((done, total))
    )
    rows = list(csv.reader(out.open()))
    assert rows[:3] == [["text", "class"], ["a dog outdoors", "dog"], ["something", "dog"]]
    assert len(rows) == 1 + 5
    assert report.texts == 5
    assert report.left_out == {"duplicate": 4 + 3, "too long": 4}
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    record = json.loads((tmp_path / "texts.json").read_text())
    assert record["model"] == "scripted"
    assert "{class}" in record["prompt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["texts.csv", "texts.json"]
    assert len(read_texts(out)) == 5


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    whole, out = tmp_path / "whole.csv", tmp_path / "part.csv"
    generate_descriptions(CLASSES, ScriptedModel(answers()), whole)
    with pytest.raises(KeyboardInterrupt):
        generate_descriptions(CLASSES, Interrupted(answers()), out)
    assert not out.exists()
    notes = tmp_path / "part.progress.jsonl"
    with notes.open("a") as file:
        file.write('{"class": "boat", "te')  # cut short by a kill
    with pytest.raises(TextError, match="another per class"):
        generate_descriptions(CLASSES, ScriptedModel(answers()), out, per_class=3)
    with pytest.raises(TextError, match="another prompt"):
        generate_descriptions(CLASSES, ScriptedModel(answers()), out, prompt="What is {class}?")
    second = ScriptedModel(answers())
    generate_descriptions(CLASSES, second, out)
    assert len(second.prompts) == 2
    assert out.read_bytes() == whole.read_bytes()
    assert not notes.exists()


def test_restart_forgets(tmp_path: Path) -> None:
    out = tmp_path / "texts.csv"
    with pytest.raises(KeyboardInterrupt):
        generate_descriptions(CLASSES, Interrupted(answers()), out)
    again = ScriptedModel(answers())
    generate_descriptions(CLASSES, again, out, prompt="{class}?", restart=True)
    assert again.prompts == [f"{name}?" for name in CLASSES]


def test_a_class_without_answers_is_named(tmp_path: Path) -> None:
    script = {"dog": ["", "Here:\n", ""], "cat": ["", "a cat"]}
    report = generate_descriptions(["dog", "cat"], ScriptedModel(script), tmp_path / "texts.csv")
    assert report.failed == ["dog"]
    assert report.texts == 1
    with pytest.raises(TextError, match="no usable description"):
        generate_descriptions(["dog"], ScriptedModel({"dog": [""] * 3}), tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("classes", "options", "message"),
    [
        ([], {}, "at least one class"),
        (["dog"], {"prompt": "?"}, "{class}"),
        (["dog"], {"out": "texts.txt"}, "a .csv file"),
    ],
)
def test_bad_requests(tmp_path: Path, classes: list[str], options: dict[str, str], message: str) -> None:
    out = tmp_path / options.pop("out", "texts.csv")
    with pytest.raises(TextError, match=message):
        generate_descriptions(classes, ScriptedModel(answers()), out, **options)  # type: ignore[arg-type]


def test_command(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES))
    (tmp_path / "script.json").write_text(json.dumps(answers()))
    command = [sys.executable, "-m", "secondlens.cli.app", "pool", "generate", "--classes", "classes.txt", "--json"]
    command += ["--llm", "scripted:script.json", "--out", "texts.csv", "--per-class", "2"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["texts"] == 4
    assert "classes described" in result.stderr
    command[command.index("classes.txt")] = "absent.txt"
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.strip().startswith("secondlens: no such file of texts")
