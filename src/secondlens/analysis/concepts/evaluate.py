"""How often is an image's label, or a synonym of it, among the first k texts? Recall@k of concepts and of baselines.

- `neurons alignment`, `neurons signed`, `neurons paper`: concepts through active neurons, by each rule (`words`).
- `sparse coding`: a non-negative sparse code of the embedding itself, z/|z| less its mean over the survey, over the
  centred texts, by falling coefficient (SpLiCE, Bhalla et al. 2024, with matching pursuit in the place of the lasso).
- `nearest texts`: by cosine with the embedding. `nearest centred`: the same with both sides centred.

The baselines read the finished embedding, which the model was trained to place near its label; neurons are read one by
one, before anything of them is added up. A method through neurons is not expected to win: the question is how much of
what the embedding says it finds.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.stats import binomtest
from torch import Tensor

from secondlens.analysis.concepts.find import ConceptFinder
from secondlens.analysis.concepts.words import AlignedWords, DescribedWords, Rule, Words, sparse
from secondlens.data.labelled import LabelledImages
from secondlens.data.loader import processing_order, stream
from secondlens.data.texts import read_utf8
from secondlens.descriptions.pool import Pool
from secondlens.descriptions.store import Descriptions
from secondlens.errors import TextError
from secondlens.lens.capture import capture
from secondlens.lens.trace import Trace
from secondlens.numerics.intervals import bootstrap_interval
from secondlens.numerics.sparse.codes import sparse_decompose
from secondlens.numerics.sparse.dictionary import text_atoms
from secondlens.progress import RUNNING, Running

SIZES = (1, 5, 10, 20)
RULES: tuple[Rule, ...] = ("alignment", "signed", "paper")


@dataclass(frozen=True)
class ConceptRecall:
    """ranks: by method, the place of the first right text on each image, from 0; -1 where it is not among the first.

    images: those whose label or a synonym is in the pool. uncovered: how many others there were.
    """

    ranks: dict[str, Int[Tensor, " image"]]
    uncovered: int

    def found(self, method: str, size: int) -> Bool[Tensor, " image"]:
        """Whether a right text is among the first `size`."""
        ranks = self.ranks[method]
        return (ranks >= 0) & (ranks < size)


class TextLists:
    """The first texts of images by every method: concepts through neurons by each rule, and the baselines.

    finder: of any rule. pool: that of the descriptions. first: texts a list, at most the pool's.
    """

    def __init__(self, finder: ConceptFinder, descriptions: Descriptions, pool: Pool, first: int) -> None:
        described = DescribedWords(finder.atlas, descriptions)
        self.words: dict[Rule, Words] = {
            "alignment": AlignedWords(finder.atlas, pool),
            "signed": described,
            "paper": described,
        }
        self.finder = finder
        self.pool = pool
        self.first = min(first, len(pool.texts))
        self.texts = pool.embeddings.double()
        self.atoms = text_atoms(pool.embeddings, "unit")
        self.mean = finder.atlas.image_embeddings.double().sum(dim=0) / finder.atlas.manifest.images.count

    def of(self, trace: Trace) -> dict[str, Int[Tensor, "image rank"]]:
        """Rows of the pool, best first, -1 where a list ends."""
        activity = self.finder.activity(trace)
        unit = torch.nn.functional.normalize(trace.embeddings.double().cpu(), dim=1)
        codes = sparse_decompose(unit - self.mean, self.pool.embeddings, self.first, nonnegative=True)
        weights = {rule: sparse({index: seen.weights(rule) for index, seen in activity.items()}) for rule in RULES}
        return {f"neurons {rule}": self.words[rule].first(weights[rule], self.first) for rule in RULES} | {
            "sparse coding": by_coefficient(codes.indices, codes.coefficients),
            "nearest texts": (unit @ self.texts.T).topk(self.first, dim=1).indices,
            "nearest centred": ((unit - self.mean) @ self.atoms.T).topk(self.first, dim=1).indices,
        }


@torch.no_grad()
def concept_recall(
    finder: ConceptFinder,
    descriptions: Descriptions,
    pool: Pool,
    images: LabelledImages,
    *,
    synonyms: dict[str, set[str]] | None = None,
    first: int = max(SIZES),
    limit: int = 5000,
    running: Running = RUNNING,
) -> ConceptRecall:
    """Places of the labels of images that the survey did not see among the first texts of every method.

    finder: of any rule. pool: that of the descriptions. synonyms: more names of a class, by its name in lower case.

    Raises `TextError` where no label is in the pool.
    """
    right = right_rows(images.classes, pool.texts, synonyms or {})
    order = [row for row in processing_order(len(images.source.ids))[:limit] if right[int(images.labels[row])]]
    uncovered = min(limit, len(images.source.ids)) - len(order)
    if not order:
        raise TextError(
            f"none of the labels is in the pool {pool.name!r}; describe over a pool that has them, or give synonyms"
        )
    lists = TextLists(finder, descriptions, pool, first)
    ranks: dict[str, list[int]] = {}
    for batch in stream(images.source, finder.model.preprocessing.transform, order, running):
        trace = capture(finder.model.tower, batch.pixels, finder.atlas.layers)
        of_images = lists.of(trace)
        for row, position in enumerate(batch.positions.tolist()):
            wanted = right[int(images.labels[position])]
            for name, found in of_images.items():
                places = [place for place, text in enumerate(found[row].tolist()) if text in wanted]
                ranks.setdefault(name, []).append(places[0] if places else -1)
    return ConceptRecall({name: torch.tensor(found) for name, found in ranks.items()}, uncovered)


def by_coefficient(
    indices: Int[Tensor, "image rank"], coefficients: Float[Tensor, "image rank"]
) -> Int[Tensor, "image rank"]:
    """The texts of codes by falling coefficient; -1 where that is zero."""
    order = coefficients.argsort(dim=1, descending=True, stable=True)
    return torch.where(coefficients > 0, indices, -1).gather(1, order)


def names_of(text: str, synonyms: dict[str, set[str]]) -> set[str]:
    """A label and its synonyms, in lower case: whole, split at commas, and what the table has for any of these."""
    whole = text.strip().lower()
    names = {whole, *(part.strip() for part in whole.split(","))} - {""}
    return names | {other for name in names for other in synonyms.get(name, ())}


def right_rows(classes: Sequence[str], texts: Sequence[str], synonyms: dict[str, set[str]]) -> list[set[int]]:
    """For each class the rows of texts that share a name with it."""
    known: dict[str, set[int]] = {}
    for row, text in enumerate(texts):
        for name in names_of(text, {}):
            known.setdefault(name, set()).add(row)
    return [{row for name in names_of(label, synonyms) for row in known.get(name, ())} for label in classes]


def read_synonyms(path: Path) -> dict[str, set[str]]:
    """A CSV with the columns name and synonym, one pair a line; raises `TextError` for any other file."""
    rows = list(csv.DictReader(io.StringIO(read_utf8(path))))
    if not rows or not {"name", "synonym"} <= set(rows[0]):
        raise TextError(
            f"expected a CSV with the columns name and synonym, {path} has {', '.join(rows[0] if rows else [])}"
        )
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault((row["name"] or "").strip().lower(), set()).add((row["synonym"] or "").strip().lower())
    return found


def summary(recall: ConceptRecall, sizes: Sequence[int] = SIZES, draws: int = 2000, seed: int = 0) -> dict:
    """Recall with 95 % intervals by method and k, and differences to every baseline.

    difference: recall of the method less the baseline's on the same images, its interval over resampled images.
    p_value: McNemar's exact test, two-sided, on the images that one finds and the other does not.
    """
    methods: dict[str, list[dict[str, float]]] = {}
    for name in recall.ranks:
        rows = []
        for size in sizes:
            found = recall.found(name, size)
            low, high = bootstrap_interval(found, draws, seed)
            rows.append({"k": size, "recall": float(found.double().mean()), "low": low, "high": high})
        methods[name] = rows
    ours = [name for name in recall.ranks if name.startswith("neurons")]
    pairs = [(name, other) for name in ours for other in recall.ranks if other != name]
    return {
        "images": len(next(iter(recall.ranks.values()))),
        "uncovered": recall.uncovered,
        "methods": methods,
        "differences": [
            {
                "method": name,
                "against": other,
                "k": size,
                **_paired(recall.found(name, size), recall.found(other, size), draws, seed),
            }
            for name, other in pairs
            for size in sizes
        ],
    }


def _paired(mine: Bool[Tensor, " image"], other: Bool[Tensor, " image"], draws: int, seed: int) -> dict[str, float]:
    won, lost = int((mine & ~other).sum()), int((other & ~mine).sum())
    size = len(mine)
    # Resampled images: how many of each of the three outcomes.
    sampled = np.random.default_rng(seed).multinomial(size, [won / size, lost / size, 1 - (won + lost) / size], draws)
    low, high = np.quantile((sampled[:, 0] - sampled[:, 1]) / size, [0.025, 0.975])
    p = float(binomtest(won, won + lost).pvalue) if won + lost else 1.0
    return {"difference": (won - lost) / size, "low": float(low), "high": float(high), "p_value": p}
