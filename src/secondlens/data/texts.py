"""Lists of texts: read from files, cleaned, and counted for what was left out."""

import csv
import io
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from secondlens.errors import MissingExtra, TextError

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


ASIS = ("{}",)
"""The templates of a list whose texts are encoded as they are."""


@dataclass(frozen=True)
class TextList:
    """Texts and the prompt templates that each is put into; their embeddings are averaged."""

    name: str
    texts: list[str]
    templates: tuple[str, ...] = ASIS


def words(count: int) -> list[str]:
    """The most common English words (wordfreq's combined lists), without numbers, symbols and single letters."""
    try:
        from wordfreq import iter_wordlist
    except ImportError as error:
        raise MissingExtra("wordfreq", "words", "a pool of common words") from error
    found = []
    for word in iter_wordlist("en"):
        # wordfreq counts initials, emoji and digits too; two letters or more, with an apostrophe or hyphen inside.
        if len(word) > 1 and word.replace("'", "").replace("’", "").replace("-", "").isalpha():
            found.append(word)
            if len(found) == count:
                return found
    raise TextError(f"wordfreq's list has {len(found)} words, fewer than {count}")


def wordnet_nouns() -> list[str]:
    """All nouns of WordNet as NLTK reads them, underscores as spaces, names with capitals left out."""
    try:
        from nltk.corpus import wordnet
    except ImportError as error:
        raise MissingExtra("nltk", "wordnet", "the pool of WordNet's nouns") from error
    try:
        lemmas = wordnet.all_lemma_names(pos="n")
        return sorted({lemma.replace("_", " ") for lemma in lemmas if lemma.islower() and lemma[0].isalpha()})
    except LookupError as error:
        raise TextError("WordNet's data is not here; fetch it with: python -m nltk.downloader wordnet") from error


def imagenet_classes() -> TextList:
    """The 1,000 ImageNet class names with OpenAI's 80 templates, as open_clip carries them."""
    try:
        from open_clip import IMAGENET_CLASSNAMES, OPENAI_IMAGENET_TEMPLATES
    except ImportError as error:
        raise MissingExtra("open_clip", "openclip", "the pool of ImageNet class names") from error
    templates = tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)
    return TextList("imagenet-classes", list(IMAGENET_CLASSNAMES), templates)
