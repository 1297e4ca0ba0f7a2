"""From a name, a file or a list to a `Pool`: cleaned, encoded once per model, and kept in the cache.

The cache is a folder, `$SECONDLENS_CACHE` or `~/.cache/secondlens`. A pool's folder in it is named by a hash of all
that changes its numbers: texts, templates, truncation, the model's weights and its tokenizer.
"""

import hashlib
import json
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import secondlens
from secondlens.data.texts import (
    TextList,
    TextRules,
    clean_texts,
    imagenet_classes,
    read_texts,
    read_utf8,
    wordnet_nouns,
    words,
)
from secondlens.descriptions.pool import CARD, SCHEMA_VERSION, Pool, PoolCard, read_card
from secondlens.descriptions.store import Descriptions
from secondlens.errors import TextError, closest
from secondlens.lens.model import LensModel
from secondlens.lens.texts import Encoder, encode
from secondlens.progress import Count
from secondlens.world.phrases import phrases, single_phrases


def labels(model: LensModel) -> TextList:
    """A classifier's own labels; raises `TextError` for a model without any."""
    if model.classifier is None:
        raise TextError(
            f"{model.reference} is no classifier and has no labels; give a pool of words such as words-10k, or a file"
        )
    return TextList("labels", list(model.classifier.labels))


BUILTIN: dict[str, Callable[[LensModel], TextList]] = {
    "words-10k": lambda model: TextList("words-10k", words(10_000)),
    "words-30k": lambda model: TextList("words-30k", words(30_000)),
    "wordnet-nouns": lambda model: TextList("wordnet-nouns", wordnet_nouns()),
    "imagenet-classes": lambda model: imagenet_classes(),
    "labels": labels,
    "world": lambda model: TextList("world", phrases()),
    "world-single": lambda model: TextList("world-single", single_phrases()),
}
"""Name of a built-in list to what makes it."""


def pools_folder() -> Path:
    """Where pools are kept."""
    chosen = os.environ.get("SECONDLENS_CACHE")
    cache = Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "secondlens"
    return cache / "pools"


def find_pools() -> Iterator[tuple[Path, PoolCard]]:
    """Folders and cards of all pools in the cache; damaged ones are passed over."""
    for path in sorted(pools_folder().glob(f"*/{CARD}")):
        try:
            yield path.parent, read_card(path.parent)
        except TextError as error:
            warnings.warn(str(error), stacklevel=2)


def open_pool(
    reference: str | Path | Sequence[str],
    model: LensModel,
    *,
    name: str | None = None,
    templates: Sequence[str] | None = None,
    rules: TextRules | None = None,
    truncate: bool = False,
    progress: Count | None = None,
    elsewhere: Encoder | None = None,
) -> Pool:
    """A pool of a model, from the cache where it is there, else encoded now and kept.

    reference: a built-in list (`words-10k`, `words-30k`, `wordnet-nouns`, `imagenet-classes`, `labels`, `world`,
    `world-single`), a text file with one text a line, a CSV with a column `text`, a pool's folder, the name of a pool
    created before, or texts.
    name: what to call it. templates: with `{}` where the text goes (default: the list's own). rules: what to keep.
    truncate: cut texts that are longer than the model's context; they are left out and counted otherwise.
    elsewhere: does for `encode` what `encode_part` would do here, for each of the parts, in order.

    Raises `TextError` for an unknown name, a file or pool that cannot be used, a pool of another model, or a list of
    which nothing is left; `ModelError` where the model cannot encode texts; `MissingExtra` for a list whose library is
    not installed.
    """
    model.require_texts()
    known = _existing(reference, model)
    if known is not None:
        if name or templates or rules or truncate:
            raise TextError(f"{reference} is a pool that exists already; options are for making a new one")
        return known
    listed, source, generated = _texts_of(reference, model)
    if templates is not None:
        listed = TextList(listed.name, listed.texts, _checked(templates))
    name = name or listed.name
    if name in BUILTIN and (
        source != "built in" or name != listed.name or rules is not None or templates is not None or truncate
    ):
        raise TextError(f"{name!r} is the name of a built-in pool; give this one another with --name")
    cleaned = clean_texts(listed.texts, rules)
    left_out = dict(cleaned.left_out)
    kept = cleaned.texts if truncate else _fitting(cleaned.texts, listed.templates, model, left_out)
    if not kept:
        raise TextError(f"nothing is left of {source} ({_counts(left_out)}); expected at least one text")
    key = _key(name, kept, listed.templates, truncate, model)
    folder = pools_folder() / f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-') or 'pool'}-{key[:16]}"
    if (folder / CARD).is_file():
        return Pool.open(folder)
    card = PoolCard(
        name=name,
        source=source,
        count=len(kept),
        left_out=left_out,
        templates=listed.templates,
        truncated=truncate,
        model=model.reference,
        weights_sha256=model.weights_hash,
        texts_sha256=model.texts_hash,
        key=key,
        generated=generated,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        secondlens=secondlens.__version__,
    )
    pool = Pool(card, kept, encode(model, kept, listed.templates, truncate, progress, elsewhere))
    pool.save(folder)
    return pool


def described_pool(model: LensModel | None, descriptions: Descriptions) -> Pool:
    """Find the pool that descriptions were made over: in the cache, or made again where it is a built-in list.

    model: theirs; without one, the cache alone is searched. Raises `TextError` where it is in neither.
    """
    settings = descriptions.card.settings
    for folder, card in find_pools():
        if card.key == settings.pool_key:
            return Pool.open(folder)
    if model is not None and settings.pool in BUILTIN:
        pool = open_pool(settings.pool, model)
        if pool.card.key == settings.pool_key:
            return pool
    raise TextError(
        f"the pool {settings.pool!r} is gone from the cache, or is not the one that {descriptions.folder} was made "
        f"over; create it again from its source ({descriptions.card.pool_source}) with 'secondlens pool create', or "
        "describe the atlas again under another --name"
    )


def _existing(reference: str | Path | Sequence[str], model: LensModel) -> Pool | None:
    """A pool's folder, or a pool of that name that was created for this model."""
    if not isinstance(reference, str | Path):
        return None
    if (Path(reference) / CARD).is_file():
        pool = Pool.open(reference)
        pool.require_model(model)
        return pool
    if str(reference) in BUILTIN or Path(reference).exists():
        return None
    named = [(folder, card) for folder, card in find_pools() if card.name == str(reference)]
    mine = [(card.created, folder) for folder, card in named if card.texts_sha256 == model.texts_hash]
    if mine:
        return Pool.open(max(mine)[1])
    if named:
        Pool.open(named[0][0]).require_model(model)
    return None


def _texts_of(reference: str | Path | Sequence[str], model: LensModel) -> tuple[TextList, str, dict[str, Any] | None]:
    """Texts, where they came from, and how a language model wrote them if one did."""
    if not isinstance(reference, str | Path):
        return TextList("texts", list(reference)), "a list", None
    if str(reference) in BUILTIN:
        return BUILTIN[str(reference)](model), "built in", None
    path = Path(reference)
    if not path.exists():
        names = {*BUILTIN, *(card.name for _, card in find_pools())}
        raise TextError(f"no pool, file or folder {str(reference)!r}{closest(str(reference), names)}")
    return TextList(path.stem, read_texts(path)), path.name, _generated(path)


def _generated(path: Path) -> dict[str, Any] | None:
    """The JSON file beside a CSV of texts that a language model wrote, which says how."""
    if path.suffix != ".csv" or not path.with_suffix(".json").is_file():
        return None
    sidecar = path.with_suffix(".json")
    try:
        found = json.loads(read_utf8(sidecar))
    except ValueError as error:
        raise TextError(f"cannot read {sidecar}, which says how {path.name} was written: {error}") from error
    return found if isinstance(found, dict) and "prompt" in found else None


def _checked(templates: Sequence[str]) -> tuple[str, ...]:
    wrong = [template for template in templates if template.count("{}") != 1]
    if wrong or not templates:
        raise TextError(f"expected templates with one {{}} where the text goes, got {wrong[0] if wrong else 'none'!r}")
    return tuple(templates)


def _fitting(texts: list[str], templates: Sequence[str], model: LensModel, left_out: dict[str, int]) -> list[str]:
    """Those that fit the model's context in every template; the others are counted and warned of."""
    if not texts:
        return []
    encoder = model.require_texts()
    # Each template: the one with the most characters need not have the most tokens.
    overlong = {row for each in templates for row in encoder.overlong([each.replace("{}", text) for text in texts])}
    if overlong:
        left_out["longer than the context"] = len(overlong)
        example = texts[min(overlong)]
        warnings.warn(
            f"{len(overlong)} of {len(texts)} texts are longer than the model's context and were left out "
            f"(first: {example[:60]!r}); --truncate cuts them instead",
            stacklevel=3,
        )
    return [text for row, text in enumerate(texts) if row not in overlong]


def _key(name: str, texts: list[str], templates: tuple[str, ...], truncate: bool, model: LensModel) -> str:
    content = [SCHEMA_VERSION, name, texts, templates, truncate, model.weights_hash, model.texts_hash, str(model.dtype)]
    return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()


def _counts(left_out: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "it was empty"
