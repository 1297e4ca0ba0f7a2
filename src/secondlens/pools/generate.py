"""Descriptions of classes written by a language model: a source of a pool (paper, section 4.2).

Each finished class is a line of `OUT.progress.jsonl`, so an interrupted run goes on. At the end `OUT` (columns text,
class) and the file beside it, OUT with the ending .json, which records how the texts were made, are written; then the
progress is removed.
"""

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import secondlens
from secondlens.atlas.files import disk_errors, write_text
from secondlens.errors import TextError
from secondlens.language.base import LanguageModel
from secondlens.pools.lists import parse_list
from secondlens.pools.texts import clean_texts, normalised

PROMPT = (
    "Write {count} different short descriptions of what can be seen in a photograph of this: {class}. Describe looks, "
    "parts, surroundings and what is happening, in plain English, each in at most twelve words. Give one a line, "
    "without numbers and without any other text."
)
TRIES = 3
LONGEST = 200
"""Characters of a description at most."""


@dataclass(frozen=True)
class GenerationReport:
    """texts: written. classes: asked for. failed: classes that gave nothing in `TRIES` answers. left_out: by reason."""

    texts: int
    classes: int
    failed: list[str]
    left_out: dict[str, int]


def generate_descriptions(
    classes: Sequence[str],
    model: LanguageModel,
    out: str | Path,
    *,
    per_class: int = 28,
    prompt: str = PROMPT,
    seed: int = 0,
    restart: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> GenerationReport:
    """Ask a language model for descriptions of classes and write them as a CSV that `open_pool` takes.

    prompt: with {class}, and {count} for `per_class`. seed: of the first class's first answer, counted on from there.
    restart: forget the progress of another run.

    Raises `TextError` for an empty list of classes, a prompt without {class}, an `out` that is no .csv, or progress of
    other settings; `LanguageError` where the model gives no answer. What was finished is kept.
    """
    out = Path(out)
    names = clean_texts(classes).texts
    if not names or per_class < 1:
        raise TextError(f"expected at least one class and one description each, got {len(names)} and {per_class}")
    if "{class}" not in prompt:
        raise TextError("expected a prompt with {class} where the name of the class goes")
    if out.suffix != ".csv":
        raise TextError(f"expected a .csv file to write to, got {out}")
    settings = {"model": model.name, "prompt": prompt, "per_class": per_class, "seed": seed, "classes": names}
    notes = out.with_suffix(".progress.jsonl")
    if restart:
        notes.unlink(missing_ok=True)
    done = _progress(notes, settings)
    for number, name in enumerate(names):
        if name not in done:
            done[name] = _ask(model, prompt, name, per_class, seed + number * TRIES)
            with disk_errors(out.parent), notes.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"class": name, "texts": done[name]}, ensure_ascii=False) + "\n")
        if progress is not None:
            progress(number + 1, len(names))
    report = _write(out, settings, [(text, name) for name in names for text in done[name]], done)
    notes.unlink(missing_ok=True)
    return report


def _ask(model: LanguageModel, prompt: str, name: str, per_class: int, seed: int) -> list[str]:
    asked = prompt.replace("{class}", name).replace("{count}", str(per_class))
    for attempt in range(TRIES):
        found = parse_list(model.complete(asked, seed + attempt))
        if found:
            return found[:per_class]
    return []


def _progress(notes: Path, settings: dict[str, Any]) -> dict[str, list[str]]:
    """Classes finished by an earlier run of the same settings; the settings are written where there was none."""
    with disk_errors(notes.parent):
        if not notes.is_file():
            notes.parent.mkdir(parents=True, exist_ok=True)
            notes.write_text(json.dumps(settings, ensure_ascii=False) + "\n", encoding="utf-8")
            return {}
        lines = notes.read_text(encoding="utf-8").splitlines(keepends=True)
    try:
        stored = json.loads(lines[0])
        rows = [json.loads(line) for line in lines[1:] if line.endswith("\n")]
        done = {row["class"]: row["texts"] for row in rows}
    except (ValueError, LookupError, TypeError) as error:
        raise TextError(f"cannot read {notes}: {error}; --restart begins anew") from error
    for name, value in settings.items():
        if stored.get(name) != value:
            raise TextError(
                f"{notes} is of a run with another {name.replace('_', ' ')}; run it with the same, or begin anew "
                "with --restart"
            )
    # A line that a kill cut short is written again.
    notes.write_text("".join(line for line in lines if line.endswith("\n")), encoding="utf-8")
    return done


def _write(
    out: Path, settings: dict[str, Any], rows: list[tuple[str, str]], done: dict[str, list[str]]
) -> GenerationReport:
    left_out = {"duplicate": 0, "too long": 0}
    seen: set[str] = set()
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["text", "class"])
    for text, name in rows:
        if len(text) > LONGEST:
            left_out["too long"] += 1
        elif normalised(text) in seen:
            left_out["duplicate"] += 1
        else:
            seen.add(normalised(text))
            writer.writerow([text, name])
    failed = [name for name, texts in done.items() if not texts]
    if not seen:
        raise TextError(f"{settings['model']} gave no usable description of any class; look at its answers")
    record = {
        **{key: value for key, value in settings.items() if key != "classes"},
        "classes": len(settings["classes"]),
        "texts": len(seen),
        "failed": failed,
        "left_out": left_out,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "secondlens": secondlens.__version__,
    }
    write_text(out.with_suffix(".json"), json.dumps(record, ensure_ascii=False, indent=2))
    write_text(out, buffer.getvalue())
    return GenerationReport(len(seen), len(settings["classes"]), failed, left_out)
