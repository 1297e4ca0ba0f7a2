"""The audit of a pair by the survey's images, with the neurons behind each cue."""

import torch

from secondlens.analysis.audit.audit import CUES, PairAudit, cue_evidence
from secondlens.analysis.audit.classes import ClassPair
from secondlens.analysis.audit.images import WithinClasses, image_scores, image_significance, pick_image_cues
from secondlens.analysis.audit.scores import NEURONS, neuron_weights, strongest
from secondlens.analysis.audit.similarity import SYNONYM, Similarity
from secondlens.analysis.audit.table import NeuronTable
from secondlens.atlas.store import Atlas
from secondlens.descriptions.store import Descriptions


def audit_by_images(
    within: WithinClasses,
    table: NeuronTable,
    pair: ClassPair,
    similarity: Similarity,
    *,
    pool: str = "",
    neurons: int = NEURONS,
    cues: int = CUES,
    synonym: float = SYNONYM,
    draws: int = 2000,
    seed: int = 0,
    atlas: Atlas | None = None,
    descriptions: Descriptions | None = None,
) -> PairAudit:
    """Audit a pair by the survey's images; the neurons behind a cue are those of the table that carry most of it.

    Scores are beyond the cues before; p-values are of the phrase by itself. Options as in `audit_pair`. Raises
    `AuditError` for options out of range.
    """
    push = within.push(pair)
    scores = image_scores(within, push)
    tests = image_significance(within, push, scores, draws, seed)
    picked, synonyms = pick_image_cues(within, push, pair.source_class, pair.target_class, similarity, cues, synonym)
    weights = neuron_weights(table, pair.vector, "effect")
    chosen = strongest(weights, neurons)
    rows = torch.from_numpy(chosen)
    carried = (table.directions[rows] @ within.atoms.T).double().numpy() * table.strengths[rows].double().numpy()[
        :, None
    ]
    listed = [
        cue_evidence(
            table, within.texts[cue.row], cue.row, cue.score,
            (tests.p[cue.row], tests.q[cue.row], tests.p_family[cue.row]), cue.similarity, chosen, weights[chosen],
            carried[:, cue.row], atlas, descriptions, cue.also,
        )
        for cue in picked
    ]  # fmt: skip
    return PairAudit.of(
        table, pair, similarity, chosen, weights, source="images of the survey", pool=pool, scoring="images",
        n_resamples=draws, cues=listed, synonyms=synonyms,
    )  # fmt: skip
