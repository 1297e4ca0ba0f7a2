"""Does the audit find what the table of biases planted?

For every pair (shown, predicted) the audit lists phrases, best first; the table says which cues were planted for the
predicted noun and not for the shown one. Of a planted cue (kind, word):

    rank       of the first phrase that names it; none where no phrase does
    recall@k   share of planted cues with rank <= k, over pairs
    chance@k   the same cues looked for in the lists of pairs for which they were not planted
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from secondlens.analysis.audit import Auditor
from secondlens.progress import Progress
from secondlens.world.biases import Biases
from secondlens.world.phrases import concepts_of
from secondlens.world.vocabulary import NOUNS

FIRST = (1, 3, 5, 10)
"""The k of recall@k."""


@dataclass(frozen=True)
class CueRank:
    """A planted cue of a pair and the rank of the first phrase that names it, or None. kind: as in `biases`."""

    source_class: str
    target_class: str
    kind: str
    word: str
    lift: float
    rank: int | None
    chance: tuple[float, ...]
    """Of k in `FIRST`: the share of pairs without this cue whose first k phrases name it."""


def pairs_of(biases: Biases, shown_each: int, seed: int = 0) -> list[tuple[str, str]]:
    """Pairs (shown, predicted) with planted cues: every predicted noun that has some, with a few shown ones."""
    rng = np.random.default_rng(seed)
    found = []
    for predicted in NOUNS:
        others = [noun for noun in NOUNS if noun != predicted and biases.planted_cues(noun, predicted)]
        found += [(others[index], predicted) for index in rng.permutation(len(others))[:shown_each]]
    return found


def cue_ranks(
    auditor: Auditor,
    biases: Biases,
    pairs: Sequence[tuple[str, str]],
    *,
    cues: int = 25,
    progress: Progress | None = None,
) -> list[CueRank]:
    """Audit every pair and look for its planted cues; raises what the audit raises."""
    lists: list[list[set[tuple[str, str]]]] = []
    for number, (shown, predicted) in enumerate(pairs):
        # Without the evidence behind each cue: only the order of the phrases counts here.
        found = auditor.audit(auditor.pair(shown, predicted), cues=cues, draws=0, atlas=None, descriptions=None)
        lists.append([concepts_of(cue.text) for cue in found.cues])
        if progress is not None:
            progress(f"pairs, {auditor.scoring}", number + 1, len(pairs))
    planted = [{(cue.kind, cue.word) for cue in biases.planted(predicted)} for _, predicted in pairs]
    ranks = []
    for number, (shown, predicted) in enumerate(pairs):
        for cue in biases.planted_cues(shown, predicted):
            concept = ("noun" if cue.kind == "companion" else cue.kind, cue.word)
            elsewhere = [
                _rank(phrases, concept)
                for phrases, (other_shown, other), theirs in zip(lists, pairs, planted, strict=True)
                if (cue.kind, cue.word) not in theirs and cue.word not in (other, other_shown)
            ]
            chance = tuple(
                float(np.mean([rank is not None and rank <= size for rank in elsewhere])) if elsewhere else float("nan")
                for size in FIRST
            )
            rank = _rank(lists[number], concept)
            ranks.append(CueRank(shown, predicted, cue.kind, cue.word, cue.lift, rank, chance))
    return ranks


def recall(ranks: Sequence[CueRank], seed: int = 0, draws: int = 1000) -> dict[str, Any]:
    """recall@k and chance@k, over all cues and by kind, with 95 % intervals over resampled predicted nouns."""
    kinds = list(dict.fromkeys(found.kind for found in ranks))
    groups = {"all": list(ranks), **{kind: [found for found in ranks if found.kind == kind] for kind in kinds}}
    return {name: _summary(members, seed, draws) for name, members in groups.items() if members}


def _summary(ranks: Sequence[CueRank], seed: int, draws: int) -> dict[str, Any]:
    nouns = sorted({found.target_class for found in ranks})
    rng = np.random.default_rng(seed)
    chosen = rng.integers(len(nouns), size=(draws, len(nouns)))
    summary: dict[str, Any] = {"cues": len(ranks), "target_classes": len(nouns)}
    for place, size in enumerate(FIRST):
        hits = np.array([found.rank is not None and found.rank <= size for found in ranks], dtype=float)
        sums = np.array([hits[[one.target_class == noun for one in ranks]].sum() for noun in nouns])
        counts = np.array([sum(one.target_class == noun for one in ranks) for noun in nouns])
        low, high = np.quantile(sums[chosen].sum(axis=1) / counts[chosen].sum(axis=1), [0.025, 0.975])
        summary[f"recall@{size}"] = float(hits.mean())
        summary[f"interval@{size}"] = [float(low), float(high)]
        summary[f"chance@{size}"] = float(np.nanmean([found.chance[place] for found in ranks]))
    return summary


def _rank(phrases: Sequence[set[tuple[str, str]]], concept: tuple[str, str]) -> int | None:
    return next((rank for rank, named in enumerate(phrases, start=1) if concept in named), None)
