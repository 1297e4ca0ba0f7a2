"""Descriptions written by a language model: lists in every style, and runs that are interrupted."""

import csv
import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands import Result
from secondlens.data.generate import CHATTER, PROMPT, GenerationReport, generate_descriptions, parse_descriptions
from secondlens.data.language import ScriptedModel
from secondlens.descriptions.pools import open_pool
from secondlens.errors import EmptyAnswer, LanguageError, TextError
from secondlens.lens import LensModel

CLASSES = ["heron", "lighthouse", "red fox", "tea pot", "zebra"]


class Writer:
    """Answers that depend on the prompt and the seed alone; interrupted at one call."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.name = "writer"
        self.settings = {"temperature": 1.0}
        self.calls = 0
        self.stop_at = stop_at

    def complete(self, prompt: str, seed: int) -> str:
        self.calls += 1
        if self.calls == self.stop_at:
            raise KeyboardInterrupt
        texts = f"1. a {prompt[-4:]} of {seed}\n2. {prompt}, near\n3. The same everywhere.\n4. {prompt}, far"
        return f"Here you go:\n\n{texts}"


def generate(model: object, out: Path, **options: object) -> GenerationReport:
    return generate_descriptions(CLASSES, model, out, **{"per_class": 3, "prompt": "{n} of {class}", **options})


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


STYLES = {
    "plain": "{text}",
    "number.": "{n}. {text}",
    "number)": "{n}) {text}",
    "(number)": "({n}) {text}",
    "escaped": "{n}\\. {text}",
    "number:": "{n}: {text}",
    "dash": "- {text}",
    "indented dash": "   – {text}",
    "star": "* {text}",
    "dot": "•{text}",
    "quoted": '"{text}"',
    "quoted, with commas": '  "{text}",',
    "curly": "{n}. “{text}”",
    "single": "- '{text}'",
    "bold": "**{text}**",
    "bold number": "**{n}.** {text}",
    "bold item": "{n}. **{text}**",
    "italic": "* *{text}*",
    "underlined": "- _{text}_",
    "bullet and number": "- {n}. {text}",
    "code": "`{text}`",
}
LETTERS = st.characters(categories=["Ll", "Lu"])
TEXT = st.builds(
    lambda first, middle, last: unicodedata.normalize("NFC", " ".join(f"{first}{middle}{last}".split())),
    LETTERS,
    st.text(st.one_of(LETTERS, st.sampled_from(" ,-.'&/3")), max_size=30),
    LETTERS,
).filter(lambda text: not CHATTER.match(text))


@given(
    st.lists(TEXT, min_size=1, max_size=12),
    st.sampled_from(sorted(STYLES)),
    st.sampled_from(["", "Here are some descriptions:\n", "**Sure! Descriptions of a fox:**\n\n", "## Fox\n"]),
    st.sampled_from(["\n", "\n\n", "\r\n"]),
)
def test_a_list_in_any_style_is_read_back(texts: list[str], style: str, before: str, between: str) -> None:
    lines = [STYLES[style].replace("{n}", str(row)).replace("{text}", text) for row, text in enumerate(texts, 1)]
    assert parse_descriptions(before + between.join(lines)) == texts


@given(
    st.lists(TEXT, min_size=1, max_size=12),
    st.sampled_from(["{}", "```json\n{}\n```", "Here is the list:\n{}\nHope this helps!", "<think>[a]\n</think>{}"]),
    st.sampled_from([None, 2]),
    st.booleans(),
    st.booleans(),
)
def test_a_json_list_is_read_back(
    texts: list[str], around: str, indent: int | None, objects: bool, escaped: bool
) -> None:
    items = [{"id": row, "description": text} for row, text in enumerate(texts)] if objects else texts
    answer = around.replace("{}", json.dumps(items, indent=indent, ensure_ascii=escaped))
    assert parse_descriptions(answer) == texts


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("", []),
        ("I'm sorry, I cannot help with that.", []),
        ("Sure!\nHere are your descriptions\na red beak\n\nLet me know if you want more!", ["a red beak"]),
        ("Sure, here you go\n- a red beak\n- a lawn\nThese are all of them.", ["a red beak", "a lawn"]),
        ("**Shape:**\n- **Beak:** long and thin\n**Colour**\n- red_and_blue 2*3*4", None),
        ("2.5 metres tall\n3:00 on a clock", ["2.5 metres tall", "3:00 on a clock"]),
        ("a [very] long beak\na [short] one", ["a [very] long beak", "a [short] one"]),
        ("<think>1. no\n2. not this", []),
        ("---\n***\na beak", ["a beak"]),
    ],
)
def test_answers_that_are_no_plain_list(answer: str, expected: list[str] | None) -> None:
    expected = ["Beak: long and thin", "red_and_blue 2*3*4"] if expected is None else expected
    assert parse_descriptions(answer) == expected


def test_texts_and_how_they_were_made_are_written(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    report = generate(Writer(), tmp_path / "new" / "birds.csv", progress=lambda *step: steps.append(step))
    found = rows(report.file)
    assert [row["class"] for row in found] == [name for name in CLASSES for _ in range(3)]
    assert found[1] == {"text": "3 of heron, near", "class": "heron"}
    assert [row["text"] for row in found].count("The same everywhere.") == 1
    assert (report.texts, report.failed, report.resumed) == (15, (), 0)
    assert (report.duplicates, report.surplus) == (4, 1)
    assert steps == [(row, 5) for row in range(6)]
    made = json.loads(report.sidecar.read_text())
    assert made["model"] == "writer"
    assert made["prompt"] == "{n} of {class}"
    assert made["settings"]["temperature"] == 1.0
    assert made["counts"]["texts"] == len(found)
    assert sorted(path.name for path in report.file.parent.iterdir()) == ["birds.csv", "birds.json"]


def test_a_class_gets_no_more_than_was_asked_for_and_no_text_comes_twice(tmp_path: Path) -> None:
    model = ScriptedModel({"heron": ["- a\n- A.\n- b\n- c"], "fox": ["- b\n-  c \n- d"]})
    report = generate_descriptions(["heron", "fox", "Heron"], model, tmp_path / "o.csv", per_class=2)
    assert [(row["text"], row["class"]) for row in rows(report.file)] == [
        ("a", "heron"),
        ("b", "heron"),
        ("c", "fox"),
        ("d", "fox"),
    ]
    assert (report.classes, report.texts, report.duplicates, report.surplus) == (2, 4, 2, 1)
    assert model.prompts[0] == PROMPT.replace("{n}", "2").replace("{class}", "heron")


@pytest.mark.parametrize("stop_at", [1, 3, 5])
@pytest.mark.parametrize("torn", [False, True])
def test_an_interrupted_run_goes_on_to_the_same_files(tmp_path: Path, stop_at: int, torn: bool) -> None:
    whole = generate(Writer(), tmp_path / "a" / "o.csv")
    out = tmp_path / "b" / "o.csv"
    with pytest.raises(KeyboardInterrupt):
        generate(Writer(stop_at), out)
    assert not out.exists()
    if torn:
        with (out.parent / "o.csv.progress.jsonl").open("a") as file:
            file.write('{"class": "zeb')
    model = Writer()
    report = generate(model, out)
    assert report.resumed == stop_at - 1
    assert model.calls == len(CLASSES) - report.resumed
    assert out.read_bytes() == whole.file.read_bytes()
    assert report.sidecar.read_bytes() == whole.sidecar.read_bytes()


@pytest.mark.parametrize("interrupted", [True, False])
@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"prompt": "{n} kinds of {class}"}, "prompt was '{n} of {class}', is '{n} kinds of {class}'"),
        ({"per_class": 4}, "per_class was 3, is 4"),
        ({"seed": 1}, "seed was 0, is 1"),
    ],
)
def test_other_settings_are_refused(tmp_path: Path, change: dict[str, object], named: str, interrupted: bool) -> None:
    out = tmp_path / "o.csv"
    if interrupted:
        with pytest.raises(KeyboardInterrupt):
            generate(Writer(3), out)
    else:
        generate(Writer(), out)
    with pytest.raises(TextError) as caught:
        generate(Writer(), out, **change)
    assert named in str(caught.value)
    assert str(caught.value).count(" was ") == 2
    with pytest.raises(TextError, match=r"classes was '5 .*, is '2 "):
        generate_descriptions(["a", "b"], Writer(), out, per_class=3, prompt="{n} of {class}")
    assert generate(Writer(), out, **change, restart=True).resumed == 0
    assert not (tmp_path / "o.csv.progress.jsonl").exists()


def test_a_file_that_is_finished_is_left_and_one_of_others_too(tmp_path: Path) -> None:
    first = generate(Writer(), tmp_path / "o.csv")
    model = Writer()
    again = generate(model, tmp_path / "o.csv")
    assert model.calls == 0
    assert (again.texts, again.duplicates, again.surplus) == (first.texts, first.duplicates, first.surplus)
    (tmp_path / "mine.csv").write_text("text\nmine\n")
    with pytest.raises(TextError, match="not written by this command"):
        generate(Writer(), tmp_path / "mine.csv")
    assert (tmp_path / "mine.csv").read_text() == "text\nmine\n"


def test_answers_without_texts_are_asked_for_again_and_reported(tmp_path: Path) -> None:
    class Shy(Writer):
        def complete(self, prompt: str, seed: int) -> str:
            self.calls += 1
            if "fox" in prompt:
                return "I'm sorry, I cannot."
            if self.calls == 1:
                raise EmptyAnswer("nothing")
            return f"- {prompt}" if self.calls > 2 else "..."

    model = Shy()
    report = generate_descriptions(["heron", "fox", "zebra"], model, tmp_path / "o.csv", prompt="a {class}")
    assert model.calls == 3 + 3 + 1
    assert report.failed == ("fox",)
    assert [row["text"] for row in rows(report.file)] == ["a heron", "a zebra"]
    assert json.loads(report.sidecar.read_text())["failed"] == ["fox"]
    with pytest.raises(LanguageError, match="of any of 1 classes; its last answer: \"I'm sorry"):
        generate_descriptions(["fox"], Shy(), tmp_path / "none.csv")
    assert not list(tmp_path.glob("none*"))


def test_a_model_that_fails_keeps_what_is_finished(tmp_path: Path) -> None:
    with pytest.raises(LanguageError, match="'red fox'; 2 of 5 classes are kept"):
        generate(ScriptedModel({"heron": ["- a"], "lighthouse": ["- b"]}), tmp_path / "o.csv")
    script = {"red fox": ["- c"], "tea pot": ["- d"], "zebra": ["- e"]}
    assert generate(ScriptedModel(script), tmp_path / "o.csv").resumed == 2


def test_a_damaged_record_and_wrong_options(tmp_path: Path) -> None:
    (tmp_path / "o.csv.progress.jsonl").write_text("no json\n")
    with pytest.raises(TextError, match="damaged"):
        generate(Writer(), tmp_path / "o.csv")
    with pytest.raises(TextError, match=r"ends in \.csv"):
        generate(Writer(), tmp_path / "o.txt")
    with pytest.raises(TextError, match="where the class's name goes"):
        generate(Writer(), tmp_path / "p.csv", prompt="birds")
    with pytest.raises(TextError, match="1 or more"):
        generate(Writer(), tmp_path / "p.csv", per_class=0)
    with pytest.raises(TextError, match="at least one class"):
        generate_descriptions([" "], Writer(), tmp_path / "p.csv")


def test_a_pool_knows_how_its_texts_were_written(worded: LensModel, cache: Path, tmp_path: Path) -> None:
    script = {name: [f"a {name}\na photo, with a {name}"] for name in CLASSES}
    report = generate(ScriptedModel(script), tmp_path / "o.csv")
    pool = open_pool(report.file, worded)
    assert pool.texts == [row["text"] for row in rows(report.file)]
    assert len(pool.texts) == 10
    assert pool.card.source == "o.csv"
    assert pool.card.generated == json.loads(report.sidecar.read_text())
    assert pool.card.generated["prompt"] == "{n} of {class}"


def test_the_command_writes_goes_on_and_keeps_keys_out(
    command: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "sk-a-key-that-nobody-may-see"
    monkeypatch.setenv("OPENAI_API_KEY", key)
    (tmp_path / "classes.txt").write_text("heron\nred fox\n\nzebra\n")
    script, out = tmp_path / "script.json", tmp_path / "out" / "o.csv"

    def run(answers: dict[str, list[str]], *more: str) -> Result:
        script.write_text(json.dumps(answers))
        given = ["--classes", tmp_path / "classes.txt", "--llm", f"scripted:{script}", "--out", out, *more]
        return command("pool", "generate", *given)

    result = run({"heron": ["1. a beak\n2. a lake"], "fox": ["fur"]}, "--per-class", "2")
    assert result.returncode == 2
    assert "2 of 3 classes are kept" in result.stderr
    assert "Traceback" not in result.stderr
    result = run({"zebra": ["- stripes"]}, "--per-class", "3")
    assert result.returncode == 2
    assert "per_class was 2, is 3" in result.stderr
    result = run({"zebra": ["- stripes"]}, "--per-class", "2", "--json")
    facts = json.loads(result.stdout)
    assert (facts["texts"], facts["classes"], facts["resumed"], facts["failed"]) == (4, 3, 2, [])
    assert [row["text"] for row in rows(out)] == ["a beak", "a lake", "fur", "stripes"]
    assert "failed" in run({}, "--per-class", "2").stdout
    assert not any(key in path.read_text() for path in out.parent.iterdir())
    assert key not in result.stdout + result.stderr
