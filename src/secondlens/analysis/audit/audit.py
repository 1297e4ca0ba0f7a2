"""The audit of a pair of classes: which phrases, other than the predicted class, push the model from one to the other.

1. v = t(predicted) - t(shown) and the neurons that write most along it.
2. Score every phrase of these neurons; p-values against random neurons.
3. Leave out the phrases that name the predicted class or mean the same.
4. For each of the others the neurons, senses and top images behind it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from secondlens.analysis.audit.classes import ClassPair
from secondlens.analysis.audit.scores import (
    NEURONS,
    PhraseScores,
    Scoring,
    neuron_weights,
    score_phrases,
    significance,
    strongest,
)
from secondlens.analysis.audit.similarity import SYNONYM, Similarity
from secondlens.analysis.audit.table import NeuronTable
from secondlens.atlas.store import Atlas
from secondlens.descriptions.store import Descriptions
from secondlens.errors import AuditError

CUES = 25
"""Phrases that are reported (the paper's number)."""
EVIDENCE, IMAGES = 5, 5
"""Neurons behind a cue that are named, and top images of each."""


@dataclass(frozen=True)
class Evidence:
    """A neuron behind a cue: contribution = coefficient * weight, in the units of the score. sense: the words that it
    uses together with the cue ("-" before what it writes against). images: ids of its top images.
    """

    layer: int
    neuron: int
    weight: float
    coefficient: float
    contribution: float
    sense: list[str]
    images: list[str]


@dataclass(frozen=True)
class Cue:
    """A phrase and what is known of it. similarity: to the predicted class. neurons: how many of the chosen ones use it
    for the pair (positive contribution); evidence: the strongest of them. also: phrases of nearly the same
    meaning that were folded into this one.
    """

    text: str
    score: float
    p_value: float
    q_value: float
    p_family: float
    similarity: float
    neurons: int
    evidence: list[Evidence]
    also: list[str] = field(default_factory=list)

    def facts(self) -> dict[str, Any]:
        """As plain data."""
        return {**vars(self), "evidence": [vars(found) for found in self.evidence]}


@dataclass(frozen=True, repr=False)
class PairAudit:
    """The cues of a pair, by falling score. synonyms: phrases left out, with their similarity to the predicted class.
    length: |v|. chosen: (layer, neuron, weight) of the neurons behind the scores.
    """

    source_class: str
    target_class: str
    source: str
    pool: str
    scoring: str
    similarity: str
    n_resamples: int
    length: float
    cues: list[Cue]
    synonyms: dict[str, float]
    chosen: list[tuple[int, int, float]]

    def __repr__(self) -> str:
        first = ", ".join(cue.text for cue in self.cues[:3])
        return f"PairAudit({self.source_class} -> {self.target_class}: {len(self.cues)} cues, {first}; {self.pool})"

    @classmethod
    def of(
        cls,
        table: NeuronTable,
        pair: ClassPair,
        similarity: Similarity,
        rows: np.ndarray,
        weights: np.ndarray,
        **found: Any,
    ) -> "PairAudit":
        """With the names of the pair and the similarity, |v|, and the neurons of the table's `rows`. weights: of all
        neurons of the table. found: the other fields.
        """
        return cls(
            source_class=pair.source_class,
            target_class=pair.target_class,
            similarity=similarity.name,
            length=float(pair.vector.norm()),
            chosen=[(int(table.layers[row]), int(table.neurons[row]), float(weights[row])) for row in rows],
            **found,
        )

    def facts(self) -> dict[str, Any]:
        """As plain data."""
        return {**vars(self), "cues": [cue.facts() for cue in self.cues]}


def audit_pair(
    table: NeuronTable,
    pair: ClassPair,
    similarity: Similarity,
    *,
    pool: str = "",
    scoring: Scoring = "paper",
    neurons: int = NEURONS,
    cues: int = CUES,
    synonym: float = SYNONYM,
    draws: int = 2000,
    seed: int = 0,
    rows: np.ndarray | None = None,
    atlas: Atlas | None = None,
    descriptions: Descriptions | None = None,
) -> PairAudit:
    """Audit a pair of classes by the neurons of a table: see the module and `scores` for the formulas.

    cues: how many to report. synonym: phrases at least as similar to the predicted class are left out. draws: of random
    neurons for the p-values. rows: use these neurons instead of the strongest. atlas, descriptions: where senses and
    top images come from; without them they are empty.

    Raises `AuditError` for options out of range.
    """
    if cues < 1 or not 0 < synonym <= 1.01:
        raise AuditError(f"expected 1 cue or more and a similarity in (0, 1], got {cues} and {synonym}")
    weights = neuron_weights(table, pair.vector, scoring)
    chosen = strongest(weights, neurons) if rows is None else rows
    found = score_phrases(table, chosen, weights)
    tests = significance(table, found, draws, seed)
    kept, synonyms = select_cues(table.texts, found, pair.target_class, similarity, cues, synonym)
    listed = []
    for place, likeness in kept:
        phrase = int(found.phrases[place])
        coefficients = np.asarray(table.codes[chosen][:, [phrase]].todense()).ravel()
        p = (tests.p[place], tests.q[place], tests.p_family[place])
        listed.append(
            cue_evidence(
                table, table.texts[phrase], phrase, float(found.scores[place]), p, likeness, chosen, found.weights,
                coefficients, atlas, descriptions,
            )
        )  # fmt: skip
    return PairAudit.of(
        table, pair, similarity, chosen, weights, source=table.source, pool=pool, scoring=scoring, n_resamples=draws,
        cues=listed, synonyms=synonyms,
    )  # fmt: skip


def select_cues(
    texts: Sequence[str],
    found: PhraseScores,
    predicted: str,
    similarity: Similarity,
    cues: int,
    synonym: float = SYNONYM,
) -> tuple[list[tuple[int, float]], dict[str, float]]:
    """Places of the highest positive scores that are no synonyms, with their similarity; and the synonyms before them.

    texts: of the whole pool. Ties go to the phrase that stands first in it.
    """
    order = [int(place) for place in np.argsort(-found.scores, kind="stable") if found.scores[place] > 0]
    kept: list[tuple[int, float]] = []
    synonyms: dict[str, float] = {}
    for some in _parts(order, 2 * cues):
        mine = [texts[found.phrases[place]] for place in some]
        for place, text, likeness in zip(some, mine, similarity(mine, predicted), strict=True):
            if likeness >= synonym:
                synonyms[text] = float(likeness)
            else:
                kept.append((place, float(likeness)))
            if len(kept) == cues:
                return kept, synonyms
    return kept, synonyms


def _parts(order: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (order[start : start + size] for start in range(0, len(order), size))


def cue_evidence(
    table: NeuronTable,
    text: str,
    phrase: int,
    score: float,
    p: tuple[float, float, float],
    likeness: float,
    rows: np.ndarray,
    weights: np.ndarray,
    coefficients: np.ndarray,
    atlas: Atlas | None = None,
    descriptions: Descriptions | None = None,
    also: Sequence[str] = (),
) -> Cue:
    """A cue with the neurons behind it: those of `rows` with the largest coefficient * weight, senses and images."""
    senses = _Senses(atlas, descriptions)
    contributions = coefficients * weights
    order = [int(index) for index in np.argsort(-contributions, kind="stable") if contributions[index] > 0]
    evidence = []
    for index in order[:EVIDENCE]:
        layer, neuron = int(table.layers[rows[index]]), int(table.neurons[rows[index]])
        evidence.append(
            Evidence(
                layer=layer,
                neuron=neuron,
                weight=float(weights[index]),
                coefficient=float(coefficients[index]),
                contribution=float(contributions[index]),
                sense=senses.words(layer, neuron, phrase),
                images=senses.images(layer, neuron),
            )
        )
    return Cue(
        text=text,
        score=score,
        p_value=float(p[0]),
        q_value=float(p[1]),
        p_family=float(p[2]),
        similarity=float(likeness),
        neurons=len(order),
        evidence=evidence,
        also=list(also),
    )


class _Senses:
    """Words of the same sense and top images, where there is an atlas to ask."""

    WORDS = 6

    def __init__(self, atlas: Atlas | None, descriptions: Descriptions | None) -> None:
        self._atlas, self._descriptions = atlas, descriptions

    def words(self, layer: int, neuron: int, phrase: int) -> list[str]:
        if self._descriptions is None:
            return []
        rows = self._descriptions.table(layer, neuron).to_pylist()
        sense = next((row["sense"] for row in rows if row["row"] == phrase), -1)
        # A word in no sense, or not among the neuron's, stands alone.
        mine = [row for row in rows if row["row"] == phrase or (sense >= 0 and row["sense"] == sense)]
        mine.sort(key=lambda row: -abs(row["fraction"]))
        return [("-" if row["coefficient"] < 0 else "") + row["text"] for row in mine[: self.WORDS]]

    def images(self, layer: int, neuron: int) -> list[str]:
        if self._atlas is None:
            return []
        return [str(image) for image in self._atlas.layer(layer).top_images[neuron][:IMAGES]]
