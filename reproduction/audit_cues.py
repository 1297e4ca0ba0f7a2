"""Does the audit find the cues that the embedded world plants? Recall and precision among the first ten cues of a pair.

    python reproduction/audit_cues.py MODEL ATLAS POOL [PAIRS] [SCORINGS]

ATLAS: a survey of biased scenes, described over POOL, whose texts name the world's words. A planted cue is found where
a text among the first ten means it. Companions count as the other planted cues do. precision: of the ten texts, those
that mean a planted cue. first: the same of as many texts as there are planted cues. significant: precision among the
texts with p_family below 0.05.
"""

import re
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from secondlens.analysis.audit import Auditor
from secondlens.analysis.audit.similarity import NameSimilarity
from secondlens.atlas import Atlas
from secondlens.descriptions import Descriptions
from secondlens.lens import load_model
from secondlens.lens.classifier import WORLD_TEMPLATES
from secondlens.world import NOUNS, default_biases
from secondlens.world.vocabulary import MEANINGS

FIRST = 10
DRAWS = 200


def words_of(text: str) -> set[str]:
    """The canonical words that a text means."""
    return {MEANINGS[word][1] for word in re.findall("[a-z]+", text) if word in MEANINGS}


def found_cues(auditor: Auditor, shown: str, predicted: str, draws: int = 0) -> dict[str, Any]:
    """The audit's first cues of a pair beside what is planted."""
    found = auditor.audit(auditor.pair(shown, predicted), cues=FIRST, draws=draws, atlas=None, descriptions=None)
    planted = default_biases().planted_cues(shown, predicted)
    wanted = {cue.word for cue in planted}
    meant = [words_of(cue.text) for cue in found.cues]
    named = set().union(*meant)
    right = [bool(words & wanted) for words in meant]
    context = {cue.word for cue in planted if cue.kind != "companion"}
    sure = [hit for hit, cue in zip(right, found.cues, strict=True) if cue.p_family < 0.05]
    return {
        "source_class": shown,
        "target_class": predicted,
        "planted": {f"{cue.kind} {cue.word}": cue.word in named for cue in planted},
        "cues": [{"text": cue.text, "score": cue.score, "p_family": cue.p_family} for cue in found.cues],
        "recall": len(wanted & named) / len(wanted) if wanted else None,
        "recall_context": len(context & named) / len(context) if context else None,
        "precision": float(np.mean(right)) if right else 0.0,
        "first": float(np.mean(right[: len(wanted)])) if right and wanted else None,
        "significant": float(np.mean(sure)) if sure and draws else None,
    }


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, tuple[float, float, float]]:
    """Mean over pairs, and its 95 % interval, of every figure."""
    figures = {}
    for name in ("recall", "recall_context", "precision", "first", "significant"):
        values = np.array([row[name] for row in rows if row[name] is not None])
        if len(values):
            drawn = np.random.default_rng(0).choice(values, (2000, len(values))).mean(axis=1)
            low, high = np.quantile(drawn, [0.025, 0.975])
            figures[name] = (float(values.mean()), float(low), float(high))
    return figures


def pairs_with_cues(count: int) -> list[tuple[str, str]]:
    """Random pairs of which the predicted class has planted cues that the shown one has not."""
    biases = default_biases()
    pairs = [(a, b) for a in NOUNS for b in NOUNS if a != b and biases.planted_cues(a, b)]
    return [pairs[row] for row in np.random.default_rng(0).permutation(len(pairs))[:count]]


def main(model: str, folder: str, pool: str, count: int, scorings: Sequence[str]) -> None:
    """Print a line a scoring."""
    loaded, atlas = load_model(model), Atlas.open(folder)
    described = Descriptions.open(atlas, pool)
    for scoring in scorings:
        auditor = Auditor(loaded, atlas, described, NameSimilarity(), WORLD_TEMPLATES, scoring, list(NOUNS))
        rows = [found_cues(auditor, *pair, draws=DRAWS) for pair in pairs_with_cues(count)]
        figures = [f"{name} {mean:.2f} ({low:.2f} to {high:.2f})" for name, (mean, low, high) in summary(rows).items()]
        print(f"{scoring}, {len(rows)} pairs: {', '.join(figures)}")


if __name__ == "__main__":
    main(
        *sys.argv[1:4],
        int(sys.argv[4]) if len(sys.argv) > 4 else 150,
        sys.argv[5].split(",") if len(sys.argv) > 5 else ("paper", "effect", "images"),
    )
