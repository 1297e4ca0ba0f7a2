"""Scores of phrases for a pair of classes, and what random neurons give.

With v = t(predicted) - t(shown), the weight of neuron n is

    "paper"   w[n] = <v, r[n]>                                                    (Gandelsman et al. 2025, section 5.1)
    "effect"  w[n] = <v, r[n]> e[n],   e[n] = mean of |x[n]| over its top images

so that "effect" is in units of the difference of logits: a neuron that points along v but hardly acts counts little.
The `count` neurons with the largest |w| are chosen, S; the score of a phrase t is

    score(t) = sum_{n in S} c[n, t] w[n]

The null: the same weights with the words of other neurons. Each draw takes as many neurons at random from the whole
table, without repetition, and gives their words to the weights of S:

    score_b(t) = sum_{n in S} c[pi_b(n), t] w[n]
    p(t)        = (1 + number of b with score_b(t) >= score(t)) / (1 + draws)
    q(t)        = Benjamini and Hochberg's, over all phrases of the chosen neurons
    p_family(t) = (1 + number of b with max over all phrases of score_b >= score(t)) / (1 + draws)

The weights are kept because random neurons of their own hardly write along v: against those any phrase would do. p(t)
asks whether neurons that write along v say t more than neurons do; p_family corrects for how many phrases are tried
(Westfall and Young 1993), whatever their dependence.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse import csr_matrix
from torch import Tensor

from secondlens.analysis.audit.table import NeuronTable
from secondlens.errors import AuditError, closest

Scoring = Literal["paper", "effect"]

NEURONS = 100
"""Neurons that are chosen (the paper's number)."""

DRAWS_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class PhraseScores:
    """rows: of the chosen neurons in the table, by falling |w|; weights: theirs. phrases: columns of the texts that
    they use; scores: one each.
    """

    rows: np.ndarray
    weights: np.ndarray
    phrases: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True, eq=False)
class Significance:
    """Of each phrase of a `PhraseScores`: see the module."""

    p: np.ndarray
    q: np.ndarray
    p_family: np.ndarray


def check_scoring(scoring: str) -> None:
    """Raise for anything but "paper" and "effect"."""
    if scoring not in get_args(Scoring):
        raise AuditError(f"unknown scoring {scoring!r}{closest(scoring, get_args(Scoring))}")


def neuron_weights(table: NeuronTable, vector: Float[Tensor, " embed"], scoring: Scoring = "paper") -> np.ndarray:
    """w of every neuron of the table, float64."""
    check_scoring(scoring)
    along = (table.directions @ vector.to(table.directions)).double()
    return (along * table.strengths if scoring == "effect" else along).numpy()


def strongest(weights: np.ndarray, count: int) -> np.ndarray:
    """Rows with the largest |w|, in falling order, ties by row."""
    if count < 1:
        raise AuditError(f"expected 1 neuron or more, got {count}")
    return np.argsort(-np.abs(weights), kind="stable")[:count]


def score_phrases(table: NeuronTable, rows: np.ndarray, weights: np.ndarray) -> PhraseScores:
    """Scores of all phrases that some neurons use. rows: which; weights: of the whole table."""
    chosen = table.codes[rows]
    phrases = np.unique(chosen.indices)
    mine = weights[rows]
    return PhraseScores(rows, mine, phrases, np.asarray(chosen[:, phrases].T @ mine).ravel())


def significance(table: NeuronTable, found: PhraseScores, draws: int = 2000, seed: int = 0) -> Significance:
    """p-values against random neurons: see the module. All are one without draws."""
    if draws < 0:
        raise AuditError(f"expected 0 or more draws of random neurons, got {draws}")
    if not draws or not len(found.phrases):
        ones = np.ones(len(found.phrases))
        return Significance(ones, ones, ones)
    rng = np.random.default_rng(seed)
    codes = table.codes[:, found.phrases].tocsr()
    # A sum that equals the observed one up to rounding counts as reaching it.
    reached = found.scores - 1e-12 * np.abs(found.weights).sum()
    beaten = np.zeros(len(found.phrases), dtype=np.int64)
    largest = np.empty(draws)
    for start in range(0, draws, DRAWS_AT_ONCE):
        some = min(DRAWS_AT_ONCE, draws - start)
        columns = np.concatenate([rng.choice(len(table), len(found.rows), replace=False) for _ in range(some)])
        lines = np.repeat(np.arange(some), len(found.rows))
        drawn = csr_matrix((np.tile(found.weights, some), (lines, columns)), shape=(some, len(table)))
        scores = (drawn @ codes).toarray()
        beaten += (scores >= reached).sum(axis=0)
        largest[start : start + some] = scores.max(axis=1)
    p = (1 + beaten) / (1 + draws)
    ordered = np.sort(largest)
    above = draws - np.searchsorted(ordered, reached)
    return Significance(p, benjamini_hochberg(p), (1 + above) / (1 + draws))


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """q-values: the smallest false discovery rate at which each is kept (Benjamini and Hochberg 1995)."""
    from scipy.stats import false_discovery_control

    return false_discovery_control(p) if len(p) else p


def similar_words(
    vector: Float[Tensor, " embed"], atoms: Float[Tensor, "text embed"], texts: list[str]
) -> list[tuple[str, float]]:
    """The baseline without neurons: texts by their cosine with v, largest first. atoms: centred, unit norm."""
    cosines = atoms.double() @ torch.nn.functional.normalize(vector.double(), dim=0)
    order = cosines.argsort(descending=True, stable=True).tolist()
    return [(texts[row], float(cosines[row])) for row in order]
