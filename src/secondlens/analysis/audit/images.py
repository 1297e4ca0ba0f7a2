"""Scores of phrases by what images of the survey show: which contents move images of one class towards another?

With z(I) the unit-norm embedding of image I, k(I) the class nearest to it, z_k the mean over the images of class k, v =
t(predicted) less the mean of all classes' t, and t a phrase's atom (centred, unit norm),

    y(I)      = <z(I) - z_k(I), v>         how far an image lies towards the predicted class, for one of its class
    X(I, t)   = whether <z(I) - z_k(I), t> is among the highest `PRESENT` of all images: I shows t, as the model sees it
    score(t)  = mean of y over the images that show t

Not t(predicted) - t(shown): nearly all images are of other classes, in which the shown one is only noise. So a phrase
counts as far as its content moves images *within* classes: that boats have sails is left out, that some
are shown on the sea is what remains. It needs classes to hold fixed and no more images than the survey's.

Many phrases say the same, and contents come together: black with a cat. So cues are picked one after another, as sparse
coding picks texts (`pick_image_cues`): the phrase with the highest score of what the cues before it leave of y.

    p(t)        = (1 + number of b with score_b(t) >= score(t)) / (1 + draws),   y shuffled within classes
    p_family(t) = the same with the largest score_b of any phrase
    neuron n    contributes e[n]^2 <v, r[n]> <r[n], t>: its share of the covariance, as far as its effect is x[n] r[n]
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix, hstack
from torch import Tensor

from secondlens.analysis.audit.classes import ClassPair
from secondlens.analysis.audit.scores import Significance, benjamini_hochberg
from secondlens.analysis.audit.similarity import Similarity, mentions
from secondlens.atlas.store import Atlas
from secondlens.descriptions.pool import Pool
from secondlens.errors import AuditError
from secondlens.lens.classifier import Head
from secondlens.numerics.sparse.dictionary import text_atoms

PRESENT = 0.02
"""Share of the images that show a phrase; the paper's share of those in which a neuron's effect is significant."""
FOLD = 0.7
"""Phrases whose atoms have at least this cosine with that of a stronger cue are folded into it."""
SAME = 0.9
"""Phrases whose atoms have at least this cosine with a class's text mean the class."""
FEWEST = 3
"""Images that a class needs to have a mean of its own; the images of the others are left out."""
STRONG = 0.5
"""Cues of at least this share of the strongest one's score are strong: what an attack is made of."""
CANDIDATES = 1000
"""Phrases of the highest scores that cues are picked from."""
TEXTS_AT_ONCE = 1024


@dataclass(frozen=True)
class WithinClasses:
    """The survey's images without what their classes explain.

    rows: residuals z - z_k. positions: of the images in the survey's source. groups: of the classes, from 0; nearest:
    the classes themselves. shows: X, its columns the pool's phrases. atoms: of these. means: of every class of the
    list, NaN without images of its own. directions: of the classes' texts, centred on the pool, unit norm. towards:
    each class's text less the mean of all.
    """

    rows: Float[Tensor, "image embed"]
    positions: Int[Tensor, " image"]
    groups: Int[Tensor, " image"]
    nearest: Int[Tensor, " image"]
    shows: csr_matrix = field(repr=False)
    atoms: Float[Tensor, "text embed"]
    texts: list[str] = field(repr=False)
    classes: list[str]
    means: Float[Tensor, "class embed"]
    directions: Float[Tensor, "class embed"]
    towards: Float[Tensor, "class embed"]

    def push(self, pair: ClassPair) -> Float[Tensor, " embed"]:
        """v of the module; the pair's difference where the list lacks the predicted class."""
        known = pair.target_class in self.classes
        return self.towards[self.classes.index(pair.target_class)] if known else pair.vector

    def scores_of(self, pushes: Float[Tensor, "image vector"]) -> np.ndarray:
        """Mean over the images that show each phrase, [text, vector], float64."""
        counts = np.maximum(np.asarray(self.shows.sum(axis=0)).ravel(), 1)
        return (self.shows.T @ pushes.double().numpy()) / counts[:, None]


def within_classes(atlas: Atlas, pool: Pool, classes: Sequence[str], head: Head) -> WithinClasses:
    """Made once for any number of pairs. head: of the classes, in their order.

    Raises `AuditError` where fewer than two classes have `FEWEST` images.
    """
    embeddings = atlas.image_embeddings.float()
    positions = (embeddings.norm(dim=1) > 0).nonzero()[:, 0]
    embeddings = embeddings[positions]
    weight = head.weight.float().cpu()
    nearest = (embeddings @ weight.T).argmax(dim=1)
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
    residuals = rows - means[groups]
    all_means = torch.full((len(classes), rows.shape[1]), torch.nan)
    all_means[nearest[kept].unique()] = means
    atoms = text_atoms(pool.embeddings, "unit").float()
    directions = torch.nn.functional.normalize(weight - pool.embeddings.mean(dim=0), dim=1)
    return WithinClasses(
        residuals, positions[kept], groups, nearest[kept], _shows(residuals, atoms), atoms, list(pool.texts),
        list(classes), all_means.double(), directions, weight - weight.mean(dim=0),
    )  # fmt: skip


def _shows(rows: Float[Tensor, "image embed"], atoms: Float[Tensor, "text embed"]) -> csr_matrix:
    """X: in each column ones for the images that lie highest along the phrase."""
    count = max(1, round(PRESENT * len(rows)))
    parts = []
    for some in atoms.split(TEXTS_AT_ONCE):
        highest = (rows @ some.T).topk(count, dim=0).indices
        columns = torch.arange(len(some)).expand(count, -1)
        ones = np.ones(highest.numel())
        shape = (len(rows), len(some))
        parts.append(csr_matrix((ones, (highest.flatten().numpy(), columns.flatten().numpy())), shape=shape))
    return hstack(parts, format="csr")


def image_scores(within: WithinClasses, vector: Float[Tensor, " embed"]) -> np.ndarray:
    """score of every phrase of the pool, float64."""
    return within.scores_of((within.rows.double() @ vector.double())[:, None])[:, 0]


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
    y = within.rows.double() @ vector.double()
    order = within.groups.argsort(stable=True)
    groups = within.groups[order].numpy()
    beaten, largest = np.zeros(len(scores), dtype=np.int64), np.empty(draws)
    reached = scores - 1e-12 * np.abs(scores).max()
    for start in range(0, draws, 64):
        some = min(64, draws - start)
        # Random keys sorted within groups: a shuffle of each class by itself.
        shuffled = np.lexsort((rng.random((some, len(groups))), np.broadcast_to(groups, (some, len(groups)))), axis=1)
        pushes = torch.empty(len(y), some, dtype=torch.float64)
        pushes[order] = y[order][torch.from_numpy(shuffled)].T
        drawn = within.scores_of(pushes).T
        beaten += (drawn >= reached).sum(axis=0)
        largest[start : start + some] = drawn.max(axis=1)
    p = (1 + beaten) / (1 + draws)
    above = draws - np.searchsorted(np.sort(largest), reached)
    return Significance(p, benjamini_hochberg(p), (1 + above) / (1 + draws))


@dataclass(frozen=True)
class PickedCue:
    """A phrase of the pool. score: beyond the cues picked before it. similarity: to the predicted class. also: phrases
    folded into it.
    """

    row: int
    score: float
    similarity: float
    also: list[str]


def pick_image_cues(
    within: WithinClasses,
    vector: Float[Tensor, " embed"],
    shown: str,
    predicted: str,
    similarity: Similarity,
    cues: int,
    synonym: float,
    least: float = 0.0,
) -> tuple[list[PickedCue], dict[str, float]]:
    """Cues in the order in which they are picked, and the synonyms of the predicted class that were passed over.

    Each is the phrase with the highest score by what is left of y when X of the cues before it, centred within classes,
    is projected out of it, as long as that is at least `least` times the first one's. Names and synonyms of the two
    classes are none, and neither is what was folded into a cue.
    """
    left = (within.rows.double() @ vector.double()).numpy()
    scores = within.scores_of(torch.from_numpy(left)[:, None])[:, 0]
    candidates = np.argsort(-scores, kind="stable")[:CANDIDATES]
    shows = _centred(within.shows[:, candidates].toarray(), within.groups.numpy())
    counts = np.maximum(np.asarray(within.shows[:, candidates].sum(axis=0)).ravel(), 1)
    atoms = within.atoms[torch.from_numpy(candidates)].double().numpy()
    means_class = (atoms @ within.directions.double().numpy().T) >= SAME
    free = np.ones(len(candidates), dtype=bool)
    for name in (shown, predicted):  # an empty one is nobody's: cues for whatever is shown
        if name in within.classes:
            free &= ~means_class[:, within.classes.index(name)]
    picked: list[PickedCue] = []
    synonyms: dict[str, float] = {}
    basis = np.zeros((len(left), 0))
    while len(picked) < cues and free.any():
        values = np.where(free, shows.T @ left / counts, -np.inf)
        place = int(values.argmax())
        if values[place] <= (max(1e-12, least * picked[0].score) if picked else 1e-12):
            break
        text = within.texts[candidates[place]]
        free[place] = False
        if mentions(text, shown):
            continue
        likeness = float(similarity([text], predicted)[0])
        if likeness >= synonym:
            synonyms[text] = likeness
            continue
        same = free & (atoms @ atoms[place] >= FOLD)
        free &= ~same
        also = [within.texts[candidates[other]] for other in np.flatnonzero(same)]
        picked.append(PickedCue(int(candidates[place]), float(values[place]), likeness, also))
        # Twice: once leaves a rounding error of the part that is already spanned.
        new = shows[:, place] - basis @ (basis.T @ shows[:, place])
        new -= basis @ (basis.T @ new)
        if (length := np.linalg.norm(new)) > 1e-9:
            basis = np.column_stack([basis, new / length])
            left = left - basis[:, -1] * (basis[:, -1] @ left)
    return picked, synonyms


def _centred(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Columns less their means over each group."""
    counts = np.bincount(groups)
    sums = np.zeros((len(counts), values.shape[1]))
    np.add.at(sums, groups, values)
    return values - (sums / counts[:, None])[groups]
