"""Lists of texts: read from files, cleaned, and counted for what was left out."""

import csv
import io
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from secondlens.errors import TextError

COLUMNS = ("text", "word", "label", "name")
"""Columns of a CSV that hold the texts, the first that is there."""


@dataclass(frozen=True)
class TextRules:
    """What is kept of a list. blocked: texts to leave out, compared after normalisation. min_length, max_length: in
    characters, inclusive.
    """

    blocked: frozenset[str] = frozenset()
    min_length: int = 1
    max_length: int = 1000

    def __post_init__(self) -> None:
        if not 1 <= self.min_length <= self.max_length:
            raise TextError(
                f"expected 1 <= min_length <= max_length, got {self.min_length} and {self.max_length} characters"
            )


@dataclass(frozen=True)
class CleanTexts:
    """Texts that are left, in their order, and how many were left out and why."""

    texts: list[str]
    left_out: dict[str, int] = field(default_factory=dict)


def normalised(text: str) -> str:
    """What two texts are compared by: NFC, white space to single spaces, no case, no full stop at the end."""
    return " ".join(unicodedata.normalize("NFC", text).split()).rstrip(".").rstrip().casefold()


def clean_texts(texts: Iterable[str], rules: TextRules | None = None) -> CleanTexts:
    """Trim white space and leave out what is empty, blocked, too short or long, or there already.

    Of texts that are the same once normalised the first stays, as it is written.
    """
    rules = rules or TextRules()
    blocked = {normalised(text) for text in rules.blocked}
    seen: set[str] = set()
    kept: list[str] = []
    left_out = dict.fromkeys(("empty", "blocked", "too short", "too long", "duplicate"), 0)
    for text in texts:
        trimmed = " ".join(unicodedata.normalize("NFC", text).split())
        key = normalised(text)
        reason = (
            "empty" if not key
            else "blocked" if key in blocked
            else "too short" if len(trimmed) < rules.min_length
            else "too long" if len(trimmed) > rules.max_length
            else "duplicate" if key in seen
            else None
        )  # fmt: skip
        if reason is None:
            seen.add(key)
            kept.append(trimmed)
        else:
            left_out[reason] += 1
    return CleanTexts(kept, {reason: count for reason, count in left_out.items() if count})


def read_texts(path: str | Path) -> list[str]:
    """The texts of a file: one a line, or a CSV's column `text`, `word`, `label` or `name`.

    Raises `TextError` for a missing or empty file, one that is not UTF-8 (with the line), or a CSV without such a
    column or one whose quotes do not close.
    """
    path = Path(path)
    text = read_utf8(path)
    if path.suffix.lower() not in (".csv", ".tsv"):
        return _not_empty(path, text.splitlines())
    # Not `splitlines`: a quoted field may hold line breaks.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
    try:
        rows = list(reader)
    except csv.Error as error:
        raise TextError(f"cannot read {path}: {error} (line {reader.line_num}); is a quote left open?") from error
    header = [name.strip().lower() for name in rows[0]] if rows else []
    column = next((header.index(name) for name in COLUMNS if name in header), None)
    if column is None:
        raise TextError(
            f"{path} has the columns {', '.join(header) or 'none'}; expected one of {', '.join(COLUMNS)} in its first "
            "line, or a text file with one text a line"
        )
    return _not_empty(path, [row[column] for row in rows[1:] if len(row) > column])


def read_utf8(path: Path) -> str:
    """A file's text; raises `TextError` where it is missing or no UTF-8."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise TextError(f"no such file of texts: {path}") from error
    except OSError as error:
        raise TextError(f"cannot read {path}: {error.strerror}") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise TextError(
            f"{path} is not UTF-8 text (line {line}, byte {error.start}); convert it, "
            "e.g. with: iconv -f latin1 -t utf-8"
        ) from error


def _not_empty(path: Path, texts: Sequence[str]) -> list[str]:
    kept = [text for text in texts if text.strip()]
    if not kept:
        raise TextError(f"{path} holds no texts; expected at least one")
    return kept
