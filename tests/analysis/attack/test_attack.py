"""The stages of an attack in the tiny world: resumed, counted, reported."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from secondlens.analysis.attack import AttackFolder, AttackPlan, Cell, CueSources, make_settings, run_attack
from secondlens.analysis.attack.descriptions import make_prompt, sort_captions
from secondlens.analysis.attack.folder import slug
from secondlens.analysis.attack.image_makers import FolderMaker, Made, Order, SceneMaker
from secondlens.analysis.attack.judges import ExactJudge, NoJudge
from secondlens.analysis.attack.judging import agreement, all_judgements
from secondlens.analysis.audit import Auditor
from secondlens.data.language import ScriptedModel, open_language_model
from secondlens.errors import AuditError, LanguageError
from secondlens.lens.classifier import WORLD_TEMPLATES
from secondlens.viewer.reports.attack import write_report
from secondlens.viewer.reports.attack_gallery import make_gallery

METHODS = ("second-order", "images", "random", "similar-words", "none")


class Counting:
    """A language model that counts what it is asked."""

    def __init__(self, inner: Any, fail_after: int | None = None) -> None:
        self.inner, self.asked, self.fail_after = inner, 0, fail_after
        self.name, self.settings = inner.name, {"temperature": 1.0}

    def complete(self, prompt: str, seed: int) -> str:
        if self.asked == self.fail_after:
            raise LanguageError("the endpoint went down")
        self.asked += 1
        return self.inner.complete(prompt, seed)


class CountingMaker:
    """The renderer, counted; it fails after some pictures where it is told to."""

    def __init__(self, fail_after: int | None = None) -> None:
        inner = SceneMaker(32)
        self.name, self.settings, self.drawn = inner.name, inner.settings, inner.drawn
        self.inner, self.made, self.fail_after = inner, 0, fail_after

    def make(self, order: Order) -> Made:
        if self.made == self.fail_after:
            raise AuditError("out of memory")
        self.made += 1
        return self.inner.make(order)


@pytest.fixture
def sources(auditor: Auditor) -> CueSources:
    return CueSources(
        auditor.model, auditor.descriptions, auditor.similarity, {"second order": auditor.table}, {}, auditor.within
    )


@pytest.fixture
def plan(auditor: Auditor) -> AttackPlan:
    pairs = [auditor.pair("cat", "boat"), auditor.pair("dog", "snake")]
    settings = make_settings("smallest", repeats=2, neurons=20)
    return AttackPlan(pairs, METHODS, settings, ["cat", "boat", "dog", "snake", "cactus"], WORLD_TEMPLATES)


def run(folder: Path, plan: AttackPlan, sources: CueSources, **changes: Any) -> list[dict[str, Any]]:
    back_ends = {
        "language": open_language_model("world:"),
        "maker": SceneMaker(32),
        "judges": [ExactJudge(), NoJudge()],
    }
    return run_attack(AttackFolder(folder), plan, sources, **{**back_ends, **changes})


def test_all_stages_and_the_report(auditor: Auditor, plan: AttackPlan, sources: CueSources, tmp_path: Path) -> None:
    rows = run(tmp_path / "a", plan, sources)
    assert len(rows) == 2 * len(METHODS) * 2 * 4
    folder = AttackFolder(tmp_path / "a")
    with (tmp_path / "a" / "prompts.csv").open() as file:
        prompts = list(csv.DictReader(file))
    assert [row["file"] for row in prompts] == [f"{row['name']}.png" for row in rows]
    for row in rows:
        picture = Image.open(folder.images / f"{row['name']}.png")
        assert "not a photograph" in picture.info["Comment"]
        assert json.loads(picture.info["secondlens"]) == {
            "synthetic": True, "maker": "world:", "seed": row["seed"], "prompt": row["prompt"],
        }  # fmt: skip
        assert "algorithmicMedia" in picture.info["XML:com.adobe.xmp"]
        assert row["source_class"] in row["prompt"].split()
        assert row["target_class"] not in row["prompt"].split()
        assert row["fooled"] == (row["margin"] > 0)
        assert row["judgements"] == {"exact": row["valid"], "none": True}
    assert {row["method"] for row in rows if row["cues"]} <= set(METHODS) - {"none"}
    # The same verdict as the model's own, by hand.
    row = rows[0]
    picture = Image.open(folder.images / f"{row['name']}.png").convert("RGB")
    embedding = auditor.model.encode_images(auditor.model.preprocess([picture]))[0]
    margin = float(embedding / embedding.norm() @ plan.pairs[0].vector)
    assert abs(margin - row["margin"]) < 1e-5
    exhibits = make_gallery(folder, rows, auditor.model, plan.pairs, [0, 1], "world:")
    found = write_report(folder, rows, plan.cells(), plan.settings.pictures, exhibits, "exact")
    assert pq.read_table(folder.report / "predictions.parquet").num_rows == len(rows)
    page = (folder.report / "report.html").read_text(encoding="utf-8")
    for text in ("What this is for", "second-order", "Cohen", "cat → boat", "similar-words"):
        assert text in page, text
    for each in exhibits:
        assert (folder.report / each.picture).is_file()
        assert each.picture in page
        assert Image.open(folder.report / each.heat).info["Comment"]
    assert "| shown → predicted |" in (folder.report / "report.md").read_text(encoding="utf-8")
    assert json.loads((folder.report / "summary.json").read_text())["binary"] == found["binary"]


def test_a_run_that_was_cut_off_pays_nothing_twice(plan: AttackPlan, sources: CueSources, tmp_path: Path) -> None:
    cells = len(plan.cells())
    with pytest.raises(LanguageError, match=r"went down .*the same command goes on"):
        run(tmp_path / "a", plan, sources, language=Counting(open_language_model("world:"), fail_after=7))
    # The journal's last line was cut by a crash: only that cell is asked for again.
    journal = tmp_path / "a" / "answers.jsonl"
    journal.write_bytes(journal.read_bytes()[:-20])
    language, failing = Counting(open_language_model("world:")), CountingMaker(fail_after=9)
    with pytest.raises(AuditError, match="9 of 80 pictures are kept"):
        run(tmp_path / "a", plan, sources, language=language, maker=failing)
    # Seven answers were paid for; all seven cells were finished before the last line was cut.
    assert language.asked == cells - 7
    maker = CountingMaker()
    language = Counting(open_language_model("world:"))
    rows = run(tmp_path / "a", plan, sources, language=language, maker=maker)
    assert (language.asked, maker.made) == (0, 80 - 9)
    whole = run(tmp_path / "b", plan, sources, language=Counting(open_language_model("world:")))
    assert rows == whole
    (tmp_path / "a" / "images" / f"{rows[5]['name']}.png").unlink()
    maker = CountingMaker()
    assert run(tmp_path / "a", plan, sources, language=language, maker=maker) == whole
    assert maker.made == 1
    settings = make_settings("smallest", repeats=2, neurons=20, descriptions=5)
    other = AttackPlan(plan.pairs, METHODS, settings, plan.classes, WORLD_TEMPLATES)
    with pytest.raises(AuditError, match="descriptions was 4, is 5"):
        run(tmp_path / "a", other, sources, language=language)


def one_cell(auditor: Auditor) -> AttackPlan:
    settings = make_settings("smallest", neurons=20)
    return AttackPlan([auditor.pair("cat", "boat")], ("second-order",), settings, ["cat", "boat"], WORLD_TEMPLATES)


def test_answers_that_are_no_use_are_asked_for_again(auditor: Auditor, sources: CueSources, tmp_path: Path) -> None:
    good = "1. a cat on a rug\n2. a cat and a boat\n3. a dog\n4. A cat on a rug.\n5. a black cat at night"
    model = ScriptedModel(["I'm sorry, I can't help with that.", "", good])
    rows = run(tmp_path / "a", one_cell(auditor), sources, language=model)
    assert len(model.prompts) == 3
    assert {row["prompt"] for row in rows} == {"a cat on a rug", "a black cat at night"}
    line = AttackFolder(tmp_path / "a").lines("descriptions")[0]
    assert line["answers"] == 3
    reasons = {each["text"]: each["reason"] for each in line["left_out"]}
    assert reasons == {
        "a cat and a boat": "names the predicted class",
        "a dog": "omits the shown class",
        "A cat on a rug.": "duplicate",
    }
    stubborn = ScriptedModel(["no"] * 3)
    with pytest.raises(LanguageError, match="no usable caption for any of 1 cells; its last answer: 'no'"):
        run(tmp_path / "b", one_cell(auditor), sources, language=stubborn)
    assert len(stubborn.prompts) == 3


def test_prompts_and_captions() -> None:
    cell = Cell("dog", "deer", "second-order", 1)
    prompt = make_prompt(cell, [{"text": "snow"}, {"text": "{n} antlers"}], 7)
    assert "Write 7 different captions" in prompt
    assert "snow; {n} antlers" in prompt
    assert "No caption may mention: deer" in prompt
    assert "first ones more often" not in make_prompt(cell, [], 7)
    kept, left_out = sort_captions(["two dogs", "a reindeer and a dog", "a dog " + "x" * 500], cell)
    assert kept == ["two dogs", "a reindeer and a dog"]
    assert left_out[0]["reason"] == "too long"


def test_a_folder_of_the_users_pictures(auditor: Auditor, sources: CueSources, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    plan = one_cell(auditor)
    with pytest.raises(AuditError, match=r"prompts\.csv .* lists every file.*0 of 4 pictures are kept"):
        run(tmp_path / "a", plan, sources, maker=FolderMaker(str(tmp_path / "mine")), judges=[NoJudge()])
    with (tmp_path / "a" / "prompts.csv").open() as file:
        for row in csv.DictReader(file):
            path = (tmp_path / "mine" / row["file"]).with_suffix(".jpg")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 40), "blue").save(path)
    rows = run(tmp_path / "a", plan, sources, maker=FolderMaker(str(tmp_path / "mine")), judges=[NoJudge()])
    assert len(rows) == 4
    with pytest.raises(AuditError, match="was not drawn by the embedded world"):
        run(tmp_path / "a", plan, sources, maker=FolderMaker(str(tmp_path / "mine")), judges=[ExactJudge()])


def test_the_exact_judge_sees_what_was_drawn(tmp_path: Path) -> None:
    judge = ExactJudge()

    def judged(text: str, shown: str = "cat", predicted: str = "boat") -> tuple[bool | None, bool | None]:
        made = SceneMaker().make(Order(text, 3, "x"))
        line = {"name": "x", "source_class": shown, "target_class": predicted, "metadata": made.metadata}
        found = judge.judge(line, tmp_path)
        return found.shows_source, found.shows_target

    assert judged("a cat in a room") == (True, False)
    assert judged("a cat and a boat") == (True, True)
    assert judged("a dog") == (False, False)
    with pytest.raises(AuditError, match="no 'unicorn'"):
        judged("a cat", shown="unicorn")


def lines(valid: Sequence[bool | None]) -> dict[str, dict[str, Any]]:
    return {str(place): {"valid": value} for place, value in enumerate(valid)}


def test_agreement_by_hand() -> None:
    first = lines([True, True, False, False, None])
    second = lines([True, False, False, False, True])
    (row,) = agreement({"a": first, "b": second})
    # Three of four agree; by chance 1/2 * 1/4 + 1/2 * 3/4 = 1/2.
    assert (row["images"], row["agree"], row["kappa"]) == (4, 0.75, 0.5)
    assert agreement({"a": lines([True]), "b": lines([True])})[0]["kappa"] is None
    assert agreement({"a": lines([None]), "b": lines([True])}) == []


def test_places_of_classes_differ() -> None:
    assert slug("dog") == "dog"
    assert len({slug(name) for name in ("dog", "Dog", "dog, hound", "dog!", "犬", "猫")}) == 6
    assert "/" not in slug("a/b")


def test_bad_input(auditor: Auditor, plan: AttackPlan, sources: CueSources, tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="did you mean 'paper'"):
        make_settings("papr")
    with pytest.raises(AuditError, match=r"repeats: .*got 0"):
        make_settings(repeats=0)
    with pytest.raises(AuditError, match="cannot choose 10 of 5"):
        make_settings(descriptions=5)
    assert make_settings().model_dump() == {
        "cues": 25, "descriptions": 50, "chosen": 10, "images": 10, "repeats": 3, "neurons": 100, "synonym": 0.6,
        "layers": None, "seed": 0,
    }  # fmt: skip
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(AuditError, match="not empty and holds no attack"):
        run(tmp_path / "full", plan, sources)
    changed = AttackPlan(plan.pairs, ("secnd-order",), plan.settings, plan.classes, WORLD_TEMPLATES)
    with pytest.raises(AuditError, match="did you mean 'second-order'"):
        run(tmp_path / "x", changed, sources)
    changed = AttackPlan(plan.pairs, ("indirect",), plan.settings, plan.classes, WORLD_TEMPLATES)
    with pytest.raises(AuditError, match="--indirect FILE"):
        run(tmp_path / "y", changed, sources)
    changed = AttackPlan(plan.pairs, ("none",), plan.settings, ["cat", "boat"], WORLD_TEMPLATES)
    with pytest.raises(AuditError, match="lack dog, snake"):
        run(tmp_path / "z", changed, sources)
    with pytest.raises(AuditError, match="holds no attack"):
        AttackFolder(tmp_path / "none").card()
    assert all_judgements(AttackFolder(tmp_path / "none")) == {}


def test_the_grammar_writes_captions_with_cues() -> None:
    cell = Cell("cat", "boat", "second-order", 1)
    cues = [{"text": text} for text in ("a thing on the ocean", "boat", "emerald", "dog", "an unheard-of word")]
    prompt = make_prompt(cell, cues, 40)
    captions = open_language_model("world:").complete(prompt, 1).splitlines()
    assert captions == open_language_model("world:").complete(prompt, 1).splitlines()
    assert captions != open_language_model("world:").complete(prompt, 2).splitlines()
    assert len(set(captions)) == 40
    assert sort_captions(captions, cell)[1] == []
    assert sum("dog" in text or "puppy" in text for text in captions) > 20
    alone = open_language_model("world:alone").complete(prompt, 1)
    assert "dog" not in alone
    # Three of four take up a cue, and about half of them its synonym or the first word.
    plain = open_language_model("world:").complete(make_prompt(cell, [], 40), 1)
    words = ("sea", "ocean", "green", "emerald")
    assert sum(alone.count(word) for word in words) > 2 * sum(plain.count(word) for word in words)
    with pytest.raises(LanguageError, match="only writes captions"):
        open_language_model("world:").complete("Tell me a joke", 0)
    with pytest.raises(LanguageError, match="no 'unicorn'"):
        open_language_model("world:").complete(make_prompt(Cell("unicorn", "boat", "none", 1), [], 3), 0)
