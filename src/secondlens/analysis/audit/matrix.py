"""All pairs of a set of classes: which can be exploited most, and by what.

For a pair (a, b), with the scores of `scores` for v = t(b) - t(a),

    exploitability(a, b) = mean of the scores of the `count` best cues that are no synonyms of b, over |v|

The division makes pairs comparable whose classes lie near and far. Fewer cues count as zeros.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.sparse import csr_matrix
from torch import Tensor

from secondlens.analysis.audit.images import WithinClasses, pick_image_cues
from secondlens.analysis.audit.scores import NEURONS, Scoring, check_scoring
from secondlens.analysis.audit.similarity import SYNONYM, Similarity, mentions
from secondlens.analysis.audit.table import NeuronTable
from secondlens.errors import AuditError
from secondlens.lens.classifier import Head
from secondlens.progress import Progress

BEST = 10
"""Cues a pair whose mean score counts."""
TOGETHER = 3
"""Cues that one picture can well have."""
NAMED = 5
"""Cues a pair that are written down."""


@dataclass(frozen=True, eq=False)
class PairMatrix:
    """classes: names. values: exploitability, row: shown, column: predicted, NaN on the diagonal. cues: of each pair
    (shown, predicted) the best ones with their scores.
    """

    classes: list[str]
    values: np.ndarray
    cues: dict[tuple[int, int], list[tuple[str, float]]]

    def ranked(self, limit: int | None = None) -> list[dict[str, Any]]:
        """Pairs by falling exploitability: source_class, target_class, exploitability, cues."""
        order = np.argsort(-np.nan_to_num(self.values, nan=-np.inf), axis=None, kind="stable")
        pairs = [divmod(int(place), len(self.classes)) for place in order]
        return [
            {
                "source_class": self.classes[shown],
                "target_class": self.classes[predicted],
                "exploitability": float(self.values[shown, predicted]),
                "cues": [{"text": text, "score": score} for text, score in self.cues[shown, predicted]],
            }
            for shown, predicted in [pair for pair in pairs if pair[0] != pair[1]][:limit]
        ]

    def facts(self) -> dict[str, Any]:
        """As plain data: classes, and all pairs by falling exploitability; those without a value are left out."""
        pairs = [pair for pair in self.ranked() if np.isfinite(pair["exploitability"])]
        return {"classes": list(self.classes), "pairs": pairs}


def audit_matrix(
    table: NeuronTable,
    classes: Sequence[str],
    head: Head,
    similarity: Similarity,
    *,
    scoring: Scoring = "paper",
    neurons: int = NEURONS,
    count: int = BEST,
    synonym: float = SYNONYM,
    progress: Progress | None = None,
) -> PairMatrix:
    """Exploitability of every ordered pair of classes. head: of the classes, in their order.

    Costs two sparse products a shown class: 1,000 classes with 3,072 neurons of 128 texts take minutes. Raises
    `AuditError` for fewer than two classes.
    """
    check_scoring(scoring)
    if len(classes) < 2:
        raise AuditError(f"expected two classes or more, got {len(classes)}")
    weight = head.weight.float().cpu()
    along = (table.directions @ weight.T).double().numpy()
    if scoring == "effect":
        along *= table.strengths.double().numpy()[:, None]
    phrases = np.unique(table.codes.indices)
    codes = table.codes[:, phrases].tocsr()
    texts = [table.texts[phrase] for phrase in phrases]
    taboo = np.zeros((len(classes), len(phrases)), dtype=bool)
    for row, name in enumerate(classes):
        taboo[row] = similarity(texts, name) >= synonym
        if progress is not None:
            progress("synonyms of classes", row + 1, len(classes))
    chosen, best = min(neurons, len(table)), min(count, len(phrases))
    values = np.full((len(classes), len(classes)), np.nan)
    cues: dict[tuple[int, int], list[tuple[str, float]]] = {}
    for shown in range(len(classes)):
        weights = (along - along[:, [shown]]).T
        columns = np.argpartition(-np.abs(weights), chosen - 1, axis=1)[:, :chosen]
        lines = np.repeat(np.arange(len(classes)), chosen)
        kept = np.take_along_axis(weights, columns, axis=1).ravel()
        scores = (csr_matrix((kept, (lines, columns.ravel())), shape=weights.shape) @ codes).toarray()
        scores[taboo] = 0
        top = np.argpartition(-scores, best - 1, axis=1)[:, :best]
        found = np.take_along_axis(scores, top, axis=1).clip(min=0)
        lengths = (weight - weight[shown]).norm(dim=1).double().numpy()
        for predicted in range(len(classes)):
            if predicted == shown:
                continue
            values[shown, predicted] = found[predicted].sum() / count / lengths[predicted]
            order = np.argsort(-found[predicted], kind="stable")[:NAMED]
            cues[shown, predicted] = [
                (texts[top[predicted, place]], float(found[predicted, place]))
                for place in order
                if found[predicted, place] > 0
            ]
        if progress is not None:
            progress("pairs of classes", shown + 1, len(classes))
    return PairMatrix(list(classes), values, cues)


def image_matrix(
    within: WithinClasses,
    classes: Sequence[str],
    head: Head,
    similarity: Similarity,
    *,
    means: Float[Tensor, "class embed"] | None = None,
    synonym: float = SYNONYM,
    progress: Progress | None = None,
) -> PairMatrix:
    """The same by the survey's images (`images`), in units of what has to be overcome:

    exploitability(a, b) = sum over the `TOGETHER` strongest cues of b of the mean of <z - z_k, t(b) - t(a)> over the
    images that show them, over the mean margin <z, t(a) - t(b)> of images of class a

    How much of the margin the cues make up together: each is picked beyond those before. NaN for a class without images
    of its own. means: of labelled images' unit-norm embeddings, by class; default: of the survey's images by the class
    that the model gives them, among which those that it gets wrong are missing. Cues that name or mean a are left out.
    """
    means = within.means if means is None else means.double().cpu()
    weight = head.weight.double().cpu()
    # [phrase, class]: how far the images that show a phrase lie towards each class, within theirs.
    towards = within.scores_of(within.rows.double() @ weight.T)
    values = np.full((len(classes), len(classes)), np.nan)
    cues: dict[tuple[int, int], list[tuple[str, float]]] = {}
    for predicted, name in enumerate(classes):
        strong, _ = pick_image_cues(within, within.towards[predicted], "", name, similarity, TOGETHER, synonym)
        for shown, other in enumerate(classes):
            if shown == predicted:
                continue
            able = [cue.row for cue in strong if not mentions(within.texts[cue.row], other)]
            scores = [float(max(0.0, towards[row, predicted] - towards[row, shown])) for row in able]
            margin = float(means[shown] @ (weight[shown] - weight[predicted]))
            values[shown, predicted] = sum(scores) / margin if margin > 0 else np.nan
            cues[shown, predicted] = [(within.texts[row], score) for row, score in zip(able, scores, strict=True)][
                :NAMED
            ]
        if progress is not None:
            progress("pairs of classes", predicted + 1, len(classes))
    return PairMatrix(list(classes), values, cues)
