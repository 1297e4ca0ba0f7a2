"""Second stage: a language model writes captions with the cues; those that would be no test are left out.

Every answer is kept as it came before anything is made of it: what was paid for is not asked for again. A cell whose
answers hold too few captions is asked for again, `TRIES` times in all.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from secondlens.analysis.attack.folder import AttackFolder, Cell, stopped
from secondlens.analysis.attack.settings import AttackSettings
from secondlens.analysis.audit.similarity import mentions
from secondlens.data.generate import parse_descriptions
from secondlens.data.language.base import LanguageModel
from secondlens.data.texts import normalised
from secondlens.errors import EmptyAnswer, LanguageError
from secondlens.progress import Progress

TRIES = 3
"""Times a cell is asked for at most."""
LONGEST = 400
"""Characters of a caption at most: image models read little more, and an essay is no caption."""

PROMPT = (
    "Write {n} different captions of pictures.\n"
    "Each picture shows: {shown}\n"
    "{cues}"
    "No caption may mention: {predicted}\n"
    "A caption is one sentence of at most 25 words about what can be seen. Write one caption a line, without numbers "
    "and without any other text."
)
CUES = "Each caption names it, and as many of these as fit together, the first ones more often: {cues}\n"


def make_prompt(cell: Cell, cues: Sequence[Mapping[str, Any]], count: int) -> str:
    """What the language model is asked for a cell."""
    listed = CUES.replace("{cues}", "; ".join(str(cue["text"]) for cue in cues)) if cues else ""
    # The cues last: a phrase with braces in it must not be taken for a place holder.
    first = (
        PROMPT.replace("{n}", str(count))
        .replace("{shown}", cell.source_class)
        .replace("{predicted}", cell.target_class)
    )
    return first.replace("{cues}", listed)


def sort_captions(texts: Sequence[str], cell: Cell) -> tuple[list[str], list[dict[str, str]]]:
    """Captions that are kept, and those that are left out, each with its reason."""
    kept: list[str] = []
    left_out: list[dict[str, str]] = []
    seen: set[str] = set()
    for text in texts:
        key = normalised(text)
        reason = (
            "names the predicted class" if mentions(text, cell.target_class)
            else "omits the shown class" if not mentions(text, cell.source_class)
            else "too long" if len(text) > LONGEST
            else "duplicate" if key in seen
            else None
        )  # fmt: skip
        if reason is None:
            seen.add(key)
            kept.append(text)
        else:
            left_out.append({"text": text[:LONGEST], "reason": reason})
    return kept, left_out


def write_descriptions(
    folder: AttackFolder,
    cues: Mapping[Cell, Sequence[Mapping[str, Any]]],
    model: LanguageModel,
    settings: AttackSettings,
    progress: Progress | None = None,
) -> dict[Cell, dict[str, Any]]:
    """Of every cell: kept and left-out captions, the chosen ones, answers asked for, and cues that each chosen one has.

    A cell without any caption after all tries is kept as such: it counts as pictures that fool nobody. Raises
    `LanguageError` where the model cannot be asked, or no cell got a caption.
    """
    own = getattr(model, "settings", {})
    asked_with = {
        "language_model": model.name,
        "language_settings": dict(own) if isinstance(own, Mapping) else {},
        "prompt": PROMPT,
        "cue_prompt": CUES,
        "descriptions": settings.descriptions,
        "seed": settings.seed,
    }
    answers = folder.journal("answers", asked_with)
    told: dict[Cell, list[str]] = {}
    for line in answers.open(lambda line: (Cell.of(line), line["answer"])):
        told.setdefault(Cell.of(line), []).append(line["answer"])
    journal = folder.journal("descriptions", {**asked_with, "chosen": settings.chosen})
    found = {Cell.of(line): line for line in journal.open(Cell.of)}
    for done, (cell, listed) in enumerate(cues.items()):
        if cell not in found:
            line = _cell(cell, listed, model, settings, told.setdefault(cell, []), answers.add)
            journal.add(line)
            found[cell] = line
        if progress is not None:
            progress("captions", done + 1, len(cues))
    if not any(found[cell]["chosen"] for cell in cues):
        last = next((told[cell][-1] for cell in reversed(list(cues)) if told.get(cell)), "")
        raise LanguageError(
            f"{model.name} wrote no usable caption for any of {len(cues)} cells; its last answer: {last[:200]!r}; "
            "choose another language model and folder"
        )
    return {cell: found[cell] for cell in cues}


def _cell(
    cell: Cell,
    cues: Sequence[Mapping[str, Any]],
    model: LanguageModel,
    settings: AttackSettings,
    told: list[str],
    keep: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    prompt = make_prompt(cell, cues, settings.descriptions)
    kept, left_out = sort_captions([text for answer in told for text in parse_descriptions(answer)], cell)
    for attempt in range(len(told), TRIES):
        if len(kept) >= settings.chosen:
            break
        try:
            answer = model.complete(prompt, cell.seed(settings.seed, "captions", attempt))
        except EmptyAnswer:
            answer = ""
        except LanguageError as error:
            where = f"{cell.source_class!r} to {cell.target_class!r}, {cell.method}, repeat {cell.repeat}"
            raise stopped(error, f"{where}; answers before it are kept") from error
        keep({**cell.facts(), "attempt": attempt, "answer": answer})
        told.append(answer)
        kept, left_out = sort_captions([text for each in told for text in parse_descriptions(each)], cell)
    rng = np.random.default_rng(cell.seed(settings.seed, "choice"))
    kept, surplus = kept[: settings.descriptions], len(kept) - settings.descriptions
    chosen = sorted(rng.permutation(len(kept))[: settings.chosen].tolist())
    return {
        **cell.facts(),
        "answers": len(told),
        "kept": kept,
        "left_out": left_out,
        "surplus": max(0, surplus),
        "chosen": chosen,
        "cues": [[cue["text"] for cue in cues if mentions(kept[index], str(cue["text"]))] for index in chosen],
    }
