"""Scores of phrases by what images of the survey show: which contents move images of one class towards another?

With z(I) the unit-norm embedding of image I, k(I) the class nearest to it, z_k the mean over the images of class k, v
the pair's difference and t a phrase's atom (centred, unit norm),

    y(I)      = <z(I) - z_k(I), v>              how far an image lies towards the predicted class, for one of its class
    score(t)  = mean over I of y(I) <z(I) - z_k(I), t>  =  t^T S v,      S the covariance within classes

So a phrase counts as far as its content goes with the difference of the two logits *within* classes: that boats have
sails is left out, that some are shown on the sea is what remains. It needs classes to hold fixed and no more images
than the survey's; no description is read.

    p(t)        = (1 + number of b with score_b(t) >= score(t)) / (1 + draws),   y shuffled within classes
    p_family(t) = the same with the largest score_b of any phrase
    neuron n    contributes e[n]^2 <v, r[n]> <r[n], t>: its share of S, as far as its effect is x[n] r[n]

Names of classes are no cues here: a companion that is a class of its own is a confusion, not a context. Where a pool
holds nothing else (the labels of a classifier), they are kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from secondlens.applications.audit.audit import CUES, PairAudit, cue_evidence, select_cues
from secondlens.applications.audit.classes import ClassPair
from secondlens.applications.audit.scores import (
    NEURONS,
    PhraseScores,
    Significance,
    benjamini_hochberg,
    neuron_weights,
    strongest,
)
from secondlens.applications.audit.similarity import SYNONYM, Similarity, mentions
from secondlens.applications.audit.table import NeuronTable
from secondlens.atlas.store import Atlas
from secondlens.descriptions.store import Descriptions
from secondlens.errors import AuditError
from secondlens.pools.pool import Pool
from secondlens.studies.classifier import Head
from secondlens.text.dictionary import text_atoms

FOLD = 0.9
"""Phrases whose atoms have at least this cosine with that of a stronger cue are folded into it."""
FEWEST = 3
"""Images that a class needs to have a mean of its own; the images of the others are left out."""


@dataclass(frozen=True, eq=False)
class WithinClasses:
    """The survey's images without what their classes explain. rows: residuals z - z_k. groups: of the classes,
    from 0. atoms: of the pool's phrases. means: of every class of the list, NaN without images of its own.
    named: whether a phrase names a class of the list, or means one (an atom within `FOLD` of the class's text).
    """

    rows: Float[Tensor, "image embed"]
    groups: Int[Tensor, " image"]
    atoms: Float[Tensor, "text embed"]
    texts: list[str]
    classes: list[str]
    means: Float[Tensor, "class embed"]
    named: Bool[Tensor, " text"]


def within_classes(atlas: Atlas, pool: Pool, classes: Sequence[str], head: Head) -> WithinClasses:
    """Made once for any number of pairs. head: of the classes, in their order.

    Raises `AuditError` where fewer than two classes have `FEWEST` images.
    """
    embeddings = atlas.image_embeddings.float()
    embeddings = embeddings[embeddings.norm(dim=1) > 0]
    nearest = (embeddings @ head.weight.float().cpu().T).argmax(dim=1)
    counts = torch.bincount(nearest, minlength=len(classes))
    kept = counts[nearest] >= FEWEST
    found = int((counts >= FEWEST).sum())
    if found < 2:
        raise AuditError(
            f"the survey's images are of {found} of the {len(classes)} classes; scoring by images needs two "
            "classes or more with images: give other --classes, or another scoring"
        )
    groups = nearest[kept].unique(return_inverse=True)[1]
    rows = embeddings[kept]
    sums = torch.zeros(int(groups.max()) + 1, rows.shape[1]).index_add_(0, groups, rows)
    means = sums / torch.bincount(groups)[:, None]
    atoms = text_atoms(pool.embeddings, "unit").float()
    all_means = torch.full((len(classes), rows.shape[1]), torch.nan)
    all_means[nearest[kept].unique()] = means
    directions = torch.nn.functional.normalize(head.weight.float().cpu() - pool.embeddings.mean(dim=0), dim=1)
    same = (atoms @ directions.T).amax(dim=1) >= FOLD
    named = torch.tensor([any(mentions(text, name) for name in classes) for text in pool.texts]) | same
    if named.all():
        named = torch.zeros_like(named)
    return WithinClasses(
        rows - means[groups], groups, atoms, list(pool.texts), list(classes), all_means.double(), named
    )


def image_scores(within: WithinClasses, vector: Float[Tensor, " embed"]) -> np.ndarray:
    """score of every phrase of the pool, float64."""
    y = within.rows.double() @ vector.double()
    return (within.atoms.double() @ (within.rows.double().T @ y / len(y))).numpy()


def image_significance(
    within: WithinClasses, vector: Float[Tensor, " embed"], scores: np.ndarray, draws: int, seed: int = 0
) -> Significance:
    """p-values by shuffling within classes; all are one without draws."""
    if draws < 0:
        raise AuditError(f"expected 0 or more draws, got {draws}")
    if not draws:
        ones = np.ones(len(scores))
        return Significance(ones, ones, ones)
    rng = np.random.default_rng(seed)
    rows = within.rows.double()
    y = rows @ vector.double()
    order = within.groups.argsort(stable=True)
    groups = within.groups[order].numpy()
    beaten, largest = np.zeros(len(scores), dtype=np.int64), np.empty(draws)
    reached = scores - 1e-12 * np.abs(scores).max()
    for start in range(0, draws, 64):
        some = min(64, draws - start)
        # Random keys sorted within groups: a shuffle of each class by itself.
        shuffled = np.lexsort((rng.random((some, len(groups))), np.broadcast_to(groups, (some, len(groups)))), axis=1)
        moved = rows[order].T @ y[order][torch.from_numpy(shuffled)].T / len(y)
        drawn = (within.atoms.double() @ moved).T.numpy()
        beaten += (drawn >= reached).sum(axis=0)
        largest[start : start + some] = drawn.max(axis=1)
    p = (1 + beaten) / (1 + draws)
    above = draws - np.searchsorted(np.sort(largest), reached)
    return Significance(p, benjamini_hochberg(p), (1 + above) / (1 + draws))


def pick_image_cues(
    within: WithinClasses, scores: np.ndarray, predicted: str, similarity: Similarity, cues: int, synonym: float
) -> tuple[list[tuple[int, float]], dict[str, float], dict[int, list[str]]]:
    """Rows of the cues with their similarity to the predicted class; synonyms and class names left out; phrases folded
    into each cue.
    """
    usable = np.where(within.named.numpy(), -1.0, scores)
    found = PhraseScores(np.empty(0, dtype=np.int64), np.empty(0), np.arange(len(scores)), usable)
    # Twice and more: some of them are folded away.
    kept, synonyms = select_cues(within.texts, found, predicted, similarity, 4 * cues, synonym)
    picked: list[tuple[int, float]] = []
    folded: dict[int, list[str]] = {}
    for row, likeness in kept:
        near = next((other for other, _ in picked if float(within.atoms[row] @ within.atoms[other]) >= FOLD), None)
        if near is not None:
            folded[near].append(within.texts[row])
        elif len(picked) < cues:
            picked.append((row, likeness))
            folded[row] = []
    return picked, synonyms, folded


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

    Options as in `audit_pair`. Raises `AuditError` for options out of range.
    """
    scores = image_scores(within, pair.vector)
    tests = image_significance(within, pair.vector, scores, draws, seed)
    picked, synonyms, folded = pick_image_cues(within, scores, pair.predicted, similarity, cues, synonym)
    weights = neuron_weights(table, pair.vector, "effect")
    chosen = strongest(weights, neurons)
    carried = (table.directions[torch.from_numpy(chosen)] @ within.atoms.T).double().numpy()
    carried *= table.strengths[torch.from_numpy(chosen)].double().numpy()[:, None]
    listed = [
        cue_evidence(
            table, within.texts[row], row, float(scores[row]), (tests.p[row], tests.q[row], tests.p_family[row]),
            likeness, chosen, weights[chosen], carried[:, row], atlas, descriptions, folded[row],
        )
        for row, likeness in picked
    ]  # fmt: skip
    return PairAudit(
        shown=pair.shown,
        predicted=pair.predicted,
        source="images of the survey",
        pool=pool,
        scoring="images",
        similarity=similarity.name,
        draws=draws,
        length=float(pair.vector.norm()),
        cues=listed,
        synonyms=synonyms,
        chosen=[(int(table.layers[row]), int(table.neurons[row]), float(weights[row])) for row in chosen],
    )
