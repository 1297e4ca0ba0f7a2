"""Lists of texts: what is kept, what is left out, and files as people write them."""

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondlens.data.texts import TextRules, clean_texts, normalised, read_texts
from secondlens.errors import TextError

pieces = st.sampled_from(["A", "a", "b", " ", "\t", "\n", ".", "é", "e\u0301", "ß", "ss", "İ", "\u0301", "\u2002", "-"])
lists = st.lists(st.one_of(st.lists(pieces, max_size=5).map("".join), st.text(max_size=6)), max_size=30)


def test_of_texts_that_mean_the_same_the_first_stays_as_it_is_written() -> None:
    found = clean_texts(["  A  Dog.", "a dog", "cat", "A\tDOG . ", "Cafe\u0301", "café", "CAT", "Straße", "STRASSE"])
    assert found.texts == ["A Dog.", "cat", "Café", "Straße"]
    assert found.left_out == {"duplicate": 5}


def test_reasons_are_counted() -> None:
    rules = TextRules(frozenset({"Bad  word."}), min_length=3, max_length=8)
    found = clean_texts(["", " ", "...", "bad WORD", "ox", "cat", "CAT.", "eight ch", "nine char", "dog"], rules)
    assert found.texts == ["cat", "eight ch", "dog"]
    assert found.left_out == {"empty": 3, "blocked": 1, "too short": 1, "duplicate": 1, "too long": 1}


def test_a_text_that_is_left_out_for_its_length_does_not_make_a_duplicate() -> None:
    assert clean_texts(["cat.", "cat"], TextRules(max_length=3)).texts == ["cat"]


@pytest.mark.parametrize(("least", "most"), [(0, 5), (6, 5), (-1, 1)])
def test_impossible_lengths(least: int, most: int) -> None:
    with pytest.raises(TextError, match=rf"got {least} and {most} characters"):
        TextRules(min_length=least, max_length=most)


@given(lists)
def test_cleaning_is_idempotent_keeps_order_and_counts_all(texts: list[str]) -> None:
    found = clean_texts(texts)
    assert clean_texts(found.texts) == type(found)(found.texts)
    assert len(found.texts) + sum(found.left_out.values()) == len(texts)
    keys = [normalised(text) for text in found.texts]
    # Each key once, in the order in which it first came.
    assert keys == list(dict.fromkeys(key for key in map(normalised, texts) if key))
    assert all(text == unicodedata.normalize("NFC", " ".join(text.split())) for text in found.texts)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("lines.txt", "cat\n\n  \nfire truck\n", ["cat", "fire truck"]),
        ("windows.txt", "cat\r\ndog\r\n", ["cat", "dog"]),
        ("mark.txt", "\ufeffcat\ndog", ["cat", "dog"]),
        ("commas.txt", "cat, house cat\n", ["cat, house cat"]),
        ("plain.csv", "id,text\n1,cat\n2,dog\n", ["cat", "dog"]),
        ("mark.csv", "\ufefftext\ncat\n", ["cat"]),
        ("CAPITALS.CSV", "Id, Text \n1,cat\n", ["cat"]),
        ("tabs.tsv", "word\tcount\ncat, house cat\t3\n", ["cat, house cat"]),
        ("order.csv", "name,text\nno,yes\n", ["yes"]),
        ("quoted.csv", 'text,n\n"cat, house cat",1\n"say ""hi""",2\n', ["cat, house cat", 'say "hi"']),
        ("newline.csv", 'text,n\n"a dog\nin the snow",1\ncat,2\n', ["a dog\nin the snow", "cat"]),
        ("windows.csv", 'text\r\n"a dog\r\nin the snow"\r\ncat\r\n', ["a dog\r\nin the snow", "cat"]),
        ("separator.csv", "text\na dog\u2028in the snow\n", ["a dog\u2028in the snow"]),
        ("short.csv", "id,text\n1\n2,dog\n\n", ["dog"]),
    ],
)
def test_files(tmp_path: Path, name: str, content: str, expected: list[str]) -> None:
    (tmp_path / name).write_bytes(content.encode())
    assert read_texts(tmp_path / name) == expected
    assert read_texts(str(tmp_path / name)) == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("other.csv", b"caption,id\ncat,1\n", r"has the columns caption, id; expected one of text, word, label, name"),
        ("none.csv", b"", "has the columns none"),
        ("heading.csv", b"text\n", "holds no texts"),
        ("empty.txt", b"", "holds no texts"),
        ("blank.txt", b" \n\n\t\n", "holds no texts"),
        ("latin.txt", "cat\ndog\ncafé\n".encode("latin1"), r"is not UTF-8 text \(line 3, byte 11\).*iconv"),
        ("latin.csv", "text\ncafé\n".encode("latin1"), r"is not UTF-8 text \(line 2, byte 8\)"),
        ("open.csv", b'text\n"' + b"x" * 200_000, "cannot read .*open.csv.*line 2"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TextError, match=message):
        read_texts(tmp_path / name)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(TextError, match=r"no such file of texts: .*nothing\.txt"):
        read_texts(tmp_path / "nothing.txt")
    with pytest.raises(TextError, match=r"cannot read .*: Is a directory"):
        read_texts(tmp_path)
