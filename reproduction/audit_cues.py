"""Does the audit find the cues that the embedded world plants? Recall and precision among the first ten cues of a pair.

    python reproduction/audit_cues.py MODEL ATLAS POOL [PAIRS]

ATLAS: a survey of biased scenes, described over POOL, whose texts name the world's words. A cue is found where a text
among the first ten means it. Companions are counted apart: they are classes of their own, which scoring by images
leaves out.
"""

import re
import sys

import numpy as np

from secondlens.applications.audit import Auditor
from secondlens.applications.audit.similarity import NameSimilarity
from secondlens.atlas import Atlas
from secondlens.descriptions import Descriptions
from secondlens.models import load_model
from secondlens.studies.classifier import WORLD_TEMPLATES
from secondlens.world import NOUNS, default_biases
from secondlens.world.vocabulary import MEANINGS

FIRST = 10


def main(model: str, folder: str, pool: str, count: int) -> None:
    """Print a line a scoring."""
    loaded, atlas, biases = load_model(model), Atlas.open(folder), default_biases()
    pairs = [(a, b) for a in NOUNS for b in NOUNS if a != b and biases.planted_cues(a, b)]
    chosen = np.random.default_rng(0).permutation(len(pairs))[:count]
    for scoring in sys.argv[5].split(","):
        auditor = Auditor(loaded, atlas, Descriptions.open(atlas, pool), NameSimilarity(), WORLD_TEMPLATES, scoring,
                          list(NOUNS))  # fmt: skip
        everything, contexts, precision = [], [], []
        for row in chosen:
            shown, predicted = pairs[row]
            found = auditor.audit(auditor.pair(shown, predicted), cues=FIRST, draws=0, atlas=None, descriptions=None)
            meant = [
                {MEANINGS[word][1] for word in re.findall("[a-z]+", cue.text) if word in MEANINGS} for cue in found.cues
            ]
            planted = biases.planted_cues(shown, predicted)
            named = set().union(*meant)
            wanted = {cue.word for cue in planted}
            everything.append(len(wanted & named) / len(wanted))
            precision.append(np.mean([bool(words & wanted) for words in meant]) if meant else 0.0)
            context = {cue.word for cue in planted if cue.kind != "companion"}
            if context:
                contexts.append(len(context & named) / len(context))
        print(
            f"{scoring}: recall {np.mean(everything):.2f} of all, {np.mean(contexts):.2f} of backgrounds, colours and "
            f"textures; precision {np.mean(precision):.2f} ({len(chosen)} pairs, first {FIRST} cues)"
        )


if __name__ == "__main__":
    main(*sys.argv[1:4], int(sys.argv[4]) if len(sys.argv) > 4 else 150)
