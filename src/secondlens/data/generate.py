"""Descriptions of classes, written by a language model: asked class by class, resumable, kept with how it was asked."""

import csv
import hashlib
import io
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import secondlens
from secondlens.data.language.base import LanguageModel
from secondlens.data.texts import clean_texts, normalised, read_utf8
from secondlens.disk.files import write_text
from secondlens.disk.journal import Journal, settings_differ
from secondlens.errors import EmptyAnswer, LanguageError, TextError
from secondlens.progress import Count

PROMPT = (
    "Write {n} short descriptions of what can be seen in photographs of: {class}. "
    "Describe parts, shapes, colours, materials, textures, surroundings and actions. "
    "Each description has at most eight words and differs from all others. "
    "Write one description a line, without numbers and without any other text."
)
PER_CLASS = 28
ADVICE = "use those, another file, or --restart"
TRIES = 3
"""Times a class is asked for whose answer holds no descriptions."""


THOUGHT = re.compile(r"<think>.*?(</think>|\Z)", re.DOTALL)
MARK = re.compile(r"(?:\(?\d{1,3}\\?[.):](?=\D)\s*|\d{1,3}\s+[-–—]\s+|[-*+–—·‣◦▪●]\s+|•\s*)")
BOLD = re.compile(r"(\*\*|__)(?=\S)(.+?)(?<=\S)\1")
ITALIC = re.compile(r"(?<![\w*])\*(?=[^\s*])(.+?)(?<=[^\s*])\*(?![\w*])|(?<!\w)_(?=\S)(.+?)(?<=\S)_(?!\w)")
QUOTES = ('""', "''", "“”", "„“", "‘’", "«»", "``")
CHATTER = re.compile(
    r"(?:sure|certainly|of course|absolutely)[,!.]|here (?:are|is)\b|here's\b|let me know\b|i hope\b|as an ai\b"
    r"|i(?:'m| am) (?:sorry|unable)\b|i can(?:'t|not)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class GenerationReport:
    """What was written. file: the descriptions. sidecar: how they were made. classes: how many were asked for.
    texts: how many were kept. duplicates, surplus: left out because they were there already, or more than asked for.
    failed: classes without any description. resumed: classes that were finished by an earlier call.
    """

    file: Path
    sidecar: Path
    model: str
    classes: int
    texts: int
    duplicates: int
    surplus: int
    failed: tuple[str, ...]
    resumed: int

    def facts(self) -> dict[str, Any]:
        """As plain data."""
        return {**vars(self), "file": str(self.file), "sidecar": str(self.sidecar), "failed": list(self.failed)}


def generate_descriptions(
    classes: Sequence[str],
    model: LanguageModel,
    out: str | Path,
    per_class: int = PER_CLASS,
    prompt: str = PROMPT,
    seed: int = 0,
    progress: Count | None = None,
    restart: bool = False,
) -> GenerationReport:
    """Ask for descriptions of each class and write them as a CSV with the columns `text` and `class`.

    The file of the same name with the ending .json says how it was made; `open_pool` keeps that with the pool. A class
    that was finished is kept in `OUT.progress.jsonl` until all are: the same call goes on after an interrupt. A class
    whose answers hold no descriptions is asked for again, up to three times, and reported then. Texts that are the same
    once normalised are kept for the first class that has them.

    prompt: with `{class}` and, where it is wanted, `{n}`. seed: with the class's name and the try it gives each
    request's seed. restart: forget what an earlier call wrote. A call whose file is there already does nothing.

    Raises `TextError` for classes, options or files that cannot be used and for settings that differ from those of an
    earlier call; `LanguageError` where the model cannot be asked or no class got any description.
    """
    out = Path(out)
    if out.suffix != ".csv":
        raise TextError(f"expected a file that ends in .csv for the descriptions, got {out}")
    if "{class}" not in prompt:
        raise TextError(f"expected a prompt with {{class}} where the class's name goes, got {prompt!r}")
    if per_class < 1:
        raise TextError(f"expected 1 or more descriptions a class, got {per_class}")
    names = clean_texts(classes).texts
    if not names:
        raise TextError("expected at least one class to describe, got none")
    settings = _settings(names, model, per_class, prompt, seed)
    record = Journal(out.with_name(f"{out.name}.progress.jsonl"), _flat(settings), TextError, ADVICE)
    if restart:
        record.path.unlink(missing_ok=True)
    elif not record.path.exists() and (finished := _finished(out, settings, len(names))):
        return finished
    lines = record.open(lambda line: (str(line["class"]), [str(text) for text in line["texts"]]))
    found = {str(line["class"]): [str(text) for text in line["texts"]] for line in lines}
    resumed = len(found)
    last = ""
    for done, name in enumerate(names):
        if progress is not None:
            progress(done, len(names))
        if name in found:
            continue
        try:
            texts, last = _ask(model, prompt.replace("{n}", str(per_class)).replace("{class}", name), name, seed)
        except LanguageError as error:
            kept = f"{len(found)} of {len(names)} classes are kept: the same call goes on from there"
            raise LanguageError(f"{error} (class {name!r}; {kept})") from error
        if texts:
            found[name] = texts
            record.add({"class": name, "texts": texts})
    if progress is not None:
        progress(len(names), len(names))
    if not found:
        record.path.unlink()
        raise LanguageError(
            f"{model.name} wrote no descriptions of any of {len(names)} classes; its last answer: {last[:200]!r}"
        )
    report = _write(out, names, found, settings, resumed)
    record.path.unlink()
    return report


def parse_descriptions(answer: str) -> list[str]:
    """The texts of an answer: a JSON list, or one a line with or without numbers, bullets, quotes and emphasis.

    Lines that end with a colon, headings and polite phrases are no texts. Where lines have numbers or bullets, those
    without are none.
    """
    answer = unicodedata.normalize("NFC", THOUGHT.sub("", answer))
    listed = _json_list(answer)
    if listed is not None:
        return [text for text in map(_bare, listed) if re.search(r"\w", text)]
    marked: list[str] = []
    plain: list[str] = []
    for line in answer.splitlines():
        text = _unemphasised(line.strip())
        mark = MARK.match(text)
        if text.startswith(("#", "```")) or (mark is None and CHATTER.match(text)):
            continue
        text = _bare(text)
        if re.search(r"\w", text) and not text.endswith((":", "：")):
            (plain if mark is None else marked).append(text)
    return marked or plain


def _settings(names: Sequence[str], model: LanguageModel, per_class: int, prompt: str, seed: int) -> dict[str, Any]:
    digest = hashlib.sha256(json.dumps(names).encode()).hexdigest()
    own = getattr(model, "settings", {})
    return {
        "model": model.name,
        "prompt": prompt,
        "settings": {
            "classes": f"{len(names)} (sha256 {digest[:16]})",
            "per_class": per_class,
            "seed": seed,
            **(own if isinstance(own, Mapping) else {}),
        },
    }


def _ask(model: LanguageModel, prompt: str, name: str, seed: int) -> tuple[list[str], str]:
    """Texts, none after the last try, and the last answer."""
    answer = ""
    for attempt in range(TRIES):
        digest = hashlib.sha256(json.dumps([seed, name, attempt]).encode()).digest()
        try:
            answer = model.complete(prompt, int.from_bytes(digest[:4]) >> 1)
        except EmptyAnswer as error:
            answer = str(error)
            continue
        texts = parse_descriptions(answer)
        if texts:
            return texts, answer
    return [], answer


def _require_same(path: Path, before: Any, now: dict[str, Any]) -> None:
    """Raises with the settings that differ."""
    named = settings_differ(_flat(before), _flat(now))
    if named:
        raise TextError(f"{path} was made with other settings: {named}; {ADVICE}")


def _flat(settings: Any) -> dict[str, Any]:
    if not isinstance(settings, dict) or not isinstance(settings.get("settings"), dict):
        return {}
    return {"model": settings.get("model"), "prompt": settings.get("prompt"), **settings["settings"]}


def _finished(out: Path, settings: dict[str, Any], classes: int) -> GenerationReport | None:
    """The report of files that are there already and were made with these settings."""
    sidecar = out.with_suffix(".json")
    there = [path for path in (out, sidecar) if path.exists()]
    if not there:
        return None
    try:
        made = json.loads(read_utf8(sidecar)) if len(there) == 2 else {}
        counts, failed = made["counts"], made["failed"]
    except (ValueError, KeyError, TypeError):
        raise TextError(
            f"{' and '.join(map(str, there))} exists and was not written by this command; choose another file, or "
            "--restart to replace it"
        ) from None
    _require_same(sidecar, made, settings)
    numbers = (counts["texts"], counts["duplicates"], counts["surplus"])
    return GenerationReport(out, sidecar, settings["model"], classes, *numbers, tuple(failed), classes - len(failed))


def _write(
    out: Path, names: Sequence[str], found: dict[str, list[str]], settings: dict[str, Any], resumed: int
) -> GenerationReport:
    per_class: int = settings["settings"]["per_class"]
    seen: set[str] = set()
    rows: list[tuple[str, str]] = []
    duplicates = surplus = 0
    for name in names:
        kept = 0
        for text in found.get(name, []):
            key = normalised(text)
            if key in seen:
                duplicates += 1
            elif kept == per_class:
                surplus += 1
            else:
                seen.add(key)
                rows.append((text, name))
                kept += 1
    failed = [name for name in names if name not in found]
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("text", "class"))
    writer.writerows(rows)
    counts = {"classes": len(names), "texts": len(rows), "duplicates": duplicates, "surplus": surplus}
    made = {**settings, "counts": counts, "failed": failed, "secondlens": secondlens.__version__}
    sidecar = out.with_suffix(".json")
    write_text(out, table.getvalue())
    write_text(sidecar, json.dumps(made, ensure_ascii=False, indent=2) + "\n")
    return GenerationReport(
        out, sidecar, settings["model"], len(names), len(rows), duplicates, surplus, tuple(failed), resumed
    )


def _json_list(answer: str) -> list[str] | None:
    """The strings of the JSON list that an answer is or holds; nothing where there is none."""
    start, end = answer.find("["), answer.rfind("]")
    if start < 0 or end < start:
        return None
    try:
        items = json.loads(answer[start : end + 1])
    except ValueError:
        return None
    texts = [
        next((value for value in item.values() if isinstance(value, str)), None) if isinstance(item, dict) else item
        for item in items
    ]
    strings = [text for text in texts if isinstance(text, str)]
    return strings if strings and len(strings) == len(texts) else None


def _unemphasised(text: str) -> str:
    text = BOLD.sub(r"\2", text)
    return ITALIC.sub(lambda found: found[1] or found[2], text)


def _bare(text: str) -> str:
    """A text without what a list puts around it."""
    text = " ".join(text.split())
    while True:
        before = text
        text = _unemphasised(MARK.sub("", text, count=1) if MARK.match(text) else text)
        if text.endswith(",") and text[:-1].endswith(tuple(pair[1] for pair in QUOTES)):
            text = text[:-1]
        for pair in QUOTES:
            first, last = pair[0], pair[1]
            inner = text[1:-1].strip()
            if len(text) > 2 and text[0] == first and text[-1] == last and (first == "'" or first not in inner):
                text = inner
        if text == before:
            return text
