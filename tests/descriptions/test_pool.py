"""Pools: what they hold, when they are made anew, and what is refused."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

from builders import WORDS, save_worded
from secondlens.data.texts import TextRules
from secondlens.descriptions.pool import CARD, EMBEDDINGS, TEXTS, Pool
from secondlens.descriptions.pools import BUILTIN, find_pools, open_pool
from secondlens.errors import ModelError, TextError
from secondlens.lens import LensModel, load_model
from secondlens.lens.texts import encode

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def counted(worded: LensModel, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many texts each call of the model encoded."""
    calls: list[int] = []
    encode_texts = worded.encode_texts

    def count(texts: Sequence[str], truncate: bool = False) -> torch.Tensor:
        calls.append(len(texts))
        return encode_texts(texts, truncate=truncate)

    monkeypatch.setattr(worded, "encode_texts", count)
    return calls


def pools() -> int:
    return len(list(find_pools()))


def test_a_file_a_list_and_a_reference_to_what_was_made(worded: LensModel, tmp_path: Path, cache: Path) -> None:
    (tmp_path / "things.txt").write_text("Bat\nden\nbat.\n\nfip\n")
    pool = open_pool(tmp_path / "things.txt", worded)
    assert pool.name == "things"
    assert pool.texts == ["Bat", "den", "fip"]
    assert pool.card.source == "things.txt"
    assert pool.card.left_out == {"duplicate": 1}
    assert pool.card.templates == ("{}",)
    torch.testing.assert_close(pool.embeddings, worded.encode_texts(["Bat", "den", "fip"]))
    listed = open_pool(["Bat", "den", "fip"], worded)
    assert (listed.name, listed.card.source) == ("texts", "a list")
    assert torch.equal(listed.embeddings, pool.embeddings)
    ((folder, card),) = [found for found in find_pools() if found[1].name == "things"]
    assert folder.parent == cache / "pools"
    assert card == pool.card
    for reference in (folder, str(folder), "things"):
        again = open_pool(reference, worded)
        assert again.card == pool.card
        assert again.texts == pool.texts
        assert torch.equal(again.embeddings, pool.embeddings)
        with pytest.raises(TextError, match="is a pool that exists already"):
            open_pool(reference, worded, templates=["a {}"])


def test_a_builtin_list_of_words(worded: LensModel) -> None:
    pytest.importorskip("wordfreq")
    pool = open_pool("words-10k", worded)
    assert pool.name == "words-10k"
    assert pool.card.count + sum(pool.card.left_out.values()) == 10_000
    assert len(set(pool.texts)) == len(pool.texts) > 9_900
    assert pool.texts[:2] == ["the", "to"]
    assert all(len(word) > 1 and not any(letter.isdigit() for letter in word) for word in pool.texts)
    row = pool.texts.index("bat")
    torch.testing.assert_close(pool.embeddings[row], worded.encode_texts(["bat"])[0])


def test_templates_are_averaged_after_normalisation(worded: LensModel, monkeypatch: pytest.MonkeyPatch) -> None:
    templates = ["{}", "a photo of {}", "{} um of a"]
    texts = ["bat", "den lol", "fip"]
    pool = open_pool(texts, worded, templates=templates)
    expected = []
    for text in texts:
        each = torch.stack([worded.encode_texts([template.replace("{}", text)])[0] for template in templates])
        expected.append(normalize(each.double().mean(dim=0), dim=0))
    torch.testing.assert_close(pool.embeddings.double(), torch.stack(expected), rtol=1e-4, atol=1e-6)
    assert (pool.embeddings[0] - worded.encode_texts(["bat"])[0]).norm() > 0.01
    # Steps of the progress do not change what comes out.
    monkeypatch.setattr("secondlens.lens.texts.ENCODED_AT_ONCE", 4)
    told: list[tuple[int, int]] = []
    stepped = encode(worded, texts, templates, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]
    torch.testing.assert_close(stepped, pool.embeddings, rtol=1e-4, atol=1e-6)


def test_the_second_time_nothing_is_encoded(worded: LensModel, counted: list[int]) -> None:
    first = open_pool(WORDS[:9], worded)
    assert counted == [9]
    second = open_pool(WORDS[:9], worded)
    assert counted == [9]
    assert second.card == first.card
    # Texts that clean to the same list are the same pool.
    open_pool([*WORDS[:9], "", WORDS[0] + "."], worded)
    assert counted == [9]
    assert pools() == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda model: open_pool(["bat", "fip", "den"], model),
        lambda model: open_pool(["bat", "den", "fip", "gol"], model),
        lambda model: open_pool(["bat", "den", "fip"], model, templates=["a {}"]),
        lambda model: open_pool(["bat", "den", "fip"], model, truncate=True),
        lambda model: open_pool(["bat", "den", "fip"], model, name="other"),
    ],
    ids=["order", "texts", "templates", "truncate", "name"],
)
def test_what_changes_the_key(worded: LensModel, counted: list[int], change: Callable[[LensModel], Pool]) -> None:
    pool = open_pool(["bat", "den", "fip"], worded)
    other = change(worded)
    assert other.card.key != pool.card.key
    assert len(counted) == 2
    assert pools() == 2


@pytest.mark.parametrize("part", ["vision weights", "text weights", "tokenizer", "precision"])
def test_a_model_that_encodes_otherwise_has_its_own_pool(
    worded: LensModel, worded_folder: Path, tmp_path: Path, part: str
) -> None:
    pool = open_pool(["bat", "den"], worded, name="mine")
    (folder,) = [folder for folder, _ in find_pools()]
    changed_folder = shutil.copytree(worded_folder, tmp_path / "changed")
    if part == "tokenizer":
        save_worded(changed_folder, words=WORDS[::-1])
    changed = load_model(f"hf:{changed_folder}")
    with torch.no_grad():
        if part == "vision weights":
            changed.tower.mlps[0].project.weight[0, 0] += 1
        if part == "text weights":
            changed.module.text_projection.weight[0, 0] += 1
    if part == "precision":
        changed.to(dtype=torch.bfloat16)
    for reference in (folder, "mine"):
        with pytest.raises(TextError, match=r"the pool 'mine' was encoded by .*create it for this model with"):
            open_pool(reference, changed)
    other = open_pool(["bat", "den"], changed, name="mine")
    assert other.card.key != pool.card.key
    assert pools() == 2
    # A name means the pool of the model that is asked for.
    assert open_pool("mine", worded).card == pool.card
    assert open_pool("mine", changed).card == other.card


def test_damaged_pools(worded: LensModel) -> None:
    open_pool(["bat", "den", "fip"], worded, name="mine")
    ((folder, _),) = list(find_pools())
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    card = json.loads(whole[CARD])

    def damage(name: str, content: bytes) -> None:
        for other, intact in whole.items():
            (folder / other).write_bytes(intact)
        (folder / name).write_bytes(content)

    for name, content in ((EMBEDDINGS, whole[EMBEDDINGS][:-4]), (TEXTS, b""), (EMBEDDINGS, b"")):
        damage(name, content)
        with pytest.raises(TextError, match=r"cannot read the pool in .*remove it and create it again"):
            open_pool("mine", worded)
    damage(CARD, json.dumps(card | {"count": 4}).encode())
    with pytest.raises(TextError, match="3 texts and 3 embeddings, expected 4; remove it"):
        open_pool(["bat", "den", "fip"], worded, name="mine")
    for content in (b"{", b"[]", json.dumps(card | {"schema_version": 2}).encode(), b"\xff"):
        damage(CARD, content)
        with pytest.raises(TextError, match=r"(?s)cannot read .*pool\.json.*create the pool again"):
            Pool.open(folder)
        with pytest.warns(UserWarning, match=r"cannot read .*pool\.json"):
            assert list(find_pools()) == []
    (folder / CARD).unlink()
    with pytest.raises(TextError, match=r"holds no pool: it has no pool\.json"):
        Pool.open(folder)
    # Without its card a folder is one that was never finished.
    assert open_pool(["bat", "den", "fip"], worded, name="mine").card.key == card["key"]
    assert Pool.open(folder).texts == ["bat", "den", "fip"]


def test_texts_longer_than_the_context(worded: LensModel) -> None:
    long, fits = "bat " * 78, "den " * 77
    with pytest.warns(UserWarning, match=r"1 of 3 texts are longer than the model's context.*bat bat.*--truncate"):
        pool = open_pool(["fip", long, fits], worded)
    assert pool.texts == ["fip", fits.strip()]
    assert pool.card.left_out == {"longer than the context": 1}
    cut = open_pool(["fip", long, fits], worded, truncate=True)
    assert cut.texts == ["fip", long.strip(), fits.strip()]
    assert cut.card.truncated
    assert cut.card.left_out == {}
    torch.testing.assert_close(cut.embeddings[1], worded.encode_texts(["bat " * 77])[0])
    with (
        pytest.warns(UserWarning, match="1 of 1"),
        pytest.raises(TextError, match=r"nothing is left of a list \(1 longer than the context\)"),
    ):
        open_pool([long], worded)


def test_a_text_must_fit_every_template(worded: LensModel) -> None:
    """The template with the most characters is not the one with the most tokens."""
    templates = ["unpronounceable-unknown {}".replace("-", ""), "a a a a a {}"]
    with pytest.warns(UserWarning, match="1 of 2 texts are longer"):
        pool = open_pool(["bat " * 73, "den"], worded, templates=templates)
    assert pool.texts == ["den"]


def test_labels_of_a_classifier(vit: LensModel, worded: LensModel) -> None:
    pool = open_pool("labels", vit)
    assert pool.texts == ["cat, house cat", "dog", "crane", "fire truck, crane"]
    assert pool.card.source == "built in"
    assert vit.classifier is not None
    torch.testing.assert_close(pool.embeddings, normalize(vit.classifier.weight(), dim=1))
    with pytest.raises(TextError, match="is no classifier and has no labels; give a pool of words"):
        open_pool("labels", worded)
    with pytest.raises(ModelError, match="no label 'bat'"):
        open_pool(["bat"], vit)


def test_names_of_builtin_lists_stay_theirs(worded: LensModel, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("bat\n")
    for build in (
        lambda: open_pool(["bat"], worded, name="words-10k"),
        lambda: open_pool(tmp_path / "labels.txt", worded),
        lambda: open_pool("words-10k", worded, templates=["a {}"]),
        lambda: open_pool("words-10k", worded, rules=TextRules(max_length=4)),
        lambda: open_pool("words-10k", worded, truncate=True),
        lambda: open_pool("words-10k", worded, name="labels"),
    ):
        with pytest.raises(TextError, match="is the name of a built-in pool; give this one another"):
            build()
    assert pools() == 0


def test_what_cannot_be_a_pool(worded: LensModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TextError, match=r"no pool, file or folder 'word-10k' \(did you mean 'words-10k'\?\)"):
        open_pool("word-10k", worded)
    with pytest.raises(TextError, match=r"cannot read .*: Is a directory"):
        open_pool(tmp_path, worded)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TextError, match="Is a directory"):
        open_pool(".", worded)
    with pytest.raises(TextError, match=r"nothing is left of a list \(2 empty, 1 blocked\)"):
        open_pool(["", "...", "Bat"], worded, rules=TextRules(frozenset({"bat"})))
    with pytest.raises(TextError, match=r"nothing is left of a list \(it was empty\)"):
        open_pool([], worded)
    for templates, named in ((["photo"], "photo"), (["{} {}"], "{} {}"), ([], "none")):
        with pytest.raises(TextError, match=r"expected templates with one \{\}") as raised:
            open_pool(["bat"], worded, templates=templates)
        assert named in str(raised.value)
    assert pools() == 0


def test_texts_that_a_language_model_wrote(worded: LensModel, tmp_path: Path) -> None:
    (tmp_path / "written.csv").write_text("text\nbat\nden\n")
    note = {"prompt": "ten animals", "temperature": 0.7}
    (tmp_path / "written.json").write_text(json.dumps(note))
    pool = open_pool(tmp_path / "written.csv", worded)
    assert pool.card.generated == note
    (tmp_path / "written.json").write_text('{"rows": 2}')
    assert open_pool(tmp_path / "written.csv", worded, name="plain").card.generated is None
    (tmp_path / "written.json").write_text("{")
    with pytest.raises(TextError, match=r"cannot read .*written\.json"):
        open_pool(tmp_path / "written.csv", worded, name="broken")


def test_weights_that_are_not_numbers(own_worded: LensModel) -> None:
    with torch.no_grad():
        own_worded.module.text_projection.weight[0, 0] = float("nan")
    with pytest.raises(TextError, match=r"2 texts have an embedding that is not finite \(first: 'bat'\)"):
        open_pool(["bat", "den"], own_worded)
    assert pools() == 0


def test_a_model_without_texts(clip: LensModel) -> None:
    with pytest.raises(ModelError, match="cannot encode texts"):
        open_pool(["bat"], clip)


def test_wordnet_without_its_data(worded: LensModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nltk = pytest.importorskip("nltk")
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    with pytest.raises(TextError, match=r"fetch it with: python -m nltk\.downloader wordnet"):
        open_pool("wordnet-nouns", worded)
    assert "wordnet-nouns" in BUILTIN
