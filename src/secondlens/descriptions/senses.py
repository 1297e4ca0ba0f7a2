"""Senses: a neuron's words in groups of like meaning, for neurons rarely mean one thing.

1. Take the first words of the description (the prefix with `WORDS` texts: later ones refine more than they mean), each
   as its atom times the sign of its coefficient: "not winter" stands on the side of summer.
2. Cluster them by average linkage on cosine distances (Sokal and Michener 1958), for two to six groups.
3. Keep the number with the largest mean silhouette (Rousseeuw 1987), or one group where it is no larger than that of
   random words of the pool with random signs is 95 times of 100.

The **polysemy** of a neuron is the effective number of directions among its words,
(sum_j w[j])^2 / sum_ij w[i] w[j] cos(i, j)^2 for weights w, the sizes of their shares: 1 for words that all say the
same, their number for words that have nothing to do with each other.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from torch import Tensor

WORDS = 24
"""Words that are grouped."""

MOST = 6
"""Senses at most."""

DRAWS = 200
"""Random sets of words that say how large a silhouette means nothing."""

UNGROUPED = -1


@dataclass(frozen=True)
class Senses:
    """Senses of a layer's neurons.

    sense: of each text of the decomposition, counted from 0 by falling share; -1 for texts that were not grouped.
    count: senses a neuron. silhouette: of the chosen grouping, 0 for one sense. polysemy: effective number of
    directions among the words.
    """

    sense: Int[Tensor, "neuron nonzero"]
    count: Int[Tensor, " neuron"]
    silhouette: Float[Tensor, " neuron"]
    polysemy: Float[Tensor, " neuron"]


def find_senses(
    indices: Int[Tensor, "neuron nonzero"],
    coefficients: Float[Tensor, "neuron nonzero"],
    shares: Float[Tensor, "neuron nonzero"],
    atoms: Float[Tensor, "text embed"],
    seed: int = 0,
) -> Senses:
    """Senses of neurons from their sparse codes (`indices` -1 where there is no text) over the pool's atoms.

    Coefficients and shares: of the fit on these texts alone.
    """
    neurons, nonzero = indices.shape
    sense = np.full((neurons, nonzero), UNGROUPED, dtype=np.int64)
    count = np.zeros(neurons, dtype=np.int64)
    silhouette, polysemy = np.zeros(neurons), np.zeros(neurons)
    floor = silhouette_floor(atoms, nonzero, seed)
    for neuron in range(neurons):
        there = (indices[neuron] >= 0).nonzero()[:, 0]
        if not len(there):
            continue
        vectors = atoms[indices[neuron, there]] * coefficients[neuron, there].sign()[:, None].to(atoms)
        words = torch.nn.functional.normalize(vectors, dim=1).cpu().numpy()
        weights = shares[neuron, there].abs().double().cpu().numpy()
        groups, silhouette[neuron] = group(words, floor)
        mass = np.bincount(groups, weights=weights)
        order = np.argsort(-mass, kind="stable")
        sense[neuron, there.cpu().numpy()] = np.argsort(order)[groups]
        count[neuron] = len(mass)
        polysemy[neuron] = effective_directions(words, weights)
    return Senses(
        torch.from_numpy(sense), torch.from_numpy(count), torch.from_numpy(silhouette).float(),
        torch.from_numpy(polysemy).float(),
    )  # fmt: skip


def effective_directions(words: np.ndarray, weights: np.ndarray) -> float:
    """(sum_j w[j])^2 / sum_ij w[i] w[j] cos(i, j)^2 for unit vectors [word, embed]: the polysemy; 0 without weight."""
    together = weights @ np.square(words @ words.T) @ weights
    return float(weights.sum() ** 2 / together) if together > 0 else 0.0


def silhouette_floor(atoms: Float[Tensor, "text embed"], words: int, seed: int) -> float:
    """The 95 % quantile of the best silhouette of as many random texts of the pool, with random signs."""
    rng = np.random.default_rng(seed)
    best = []
    for _ in range(DRAWS):
        rows = rng.choice(len(atoms), size=min(words, len(atoms)), replace=False)
        signs = rng.choice([-1.0, 1.0], size=(len(rows), 1))
        vectors = torch.nn.functional.normalize(atoms[torch.from_numpy(rows).to(atoms.device)], dim=1)
        best.append(group(vectors.cpu().numpy() * signs, -np.inf)[1])
    return float(np.quantile(best, 0.95))


def group(vectors: np.ndarray, floor: float) -> tuple[np.ndarray, float]:
    """Group [word] of unit vectors [word, embed], and the mean silhouette of that grouping.

    One group, with silhouette 0, where no other has a silhouette above the floor.
    """
    one = np.zeros(len(vectors), dtype=np.int64)
    if len(vectors) < 3:
        return one, 0.0
    distances = np.clip(1 - vectors @ vectors.T, 0, 2)
    np.fill_diagonal(distances, 0)
    tree = linkage(squareform(distances, checks=False), method="average")
    best, height = one, floor
    for number in range(2, min(MOST, len(vectors) - 1) + 1):
        groups = fcluster(tree, number, criterion="maxclust") - 1
        if not groups.any():
            # All at one distance: no cut of the tree gives so few groups.
            continue
        found = mean_silhouette(distances, groups)
        if found > height:
            best, height = groups, found
    return best, height if best.any() else 0.0


def mean_silhouette(distances: np.ndarray, groups: np.ndarray) -> float:
    """Mean over words of (b - a) / max(a, b): a, the mean distance to the own group; b, to the nearest other one.

    A word that is alone in its group counts as zero. At least two groups.
    """
    member = np.eye(groups.max() + 1)[groups]
    sizes = member.sum(axis=0)
    sums = distances @ member
    own = sums[np.arange(len(groups)), groups]
    alone = sizes[groups] == 1
    inside = own / np.maximum(sizes[groups] - 1, 1)
    others = np.where(member > 0, np.inf, sums / np.maximum(sizes, 1))
    nearest = others[:, sizes > 0].min(axis=1)
    largest = np.maximum(inside, nearest)
    values = np.where(alone | (largest == 0), 0.0, (nearest - inside) / np.where(largest == 0, 1.0, largest))
    return float(values.mean())


def image_senses(
    senses: Int[Tensor, "neuron nonzero"],
    indices: Int[Tensor, "neuron nonzero"],
    coefficients: Float[Tensor, "neuron nonzero"],
    atoms: Float[Tensor, "text embed"],
    images: Float[Tensor, "neuron top embed"],
    projections: Float[Tensor, "neuron top"],
) -> Int[Tensor, "neuron top"]:
    """The sense that each top image belongs to: the one whose words, with their coefficients, point most along it.

    images: centred embeddings. With x the image's projection on the direction, the largest over senses g of
    sign(x) sum_{j in g} c[j] <image, t[j]>; -1 for a neuron without senses.
    """
    most = int(senses.max()) + 1
    if most < 1:
        return torch.full(projections.shape, UNGROUPED, dtype=torch.int64)
    weighted = atoms[indices.clamp(min=0)].to(images) * coefficients[:, :, None].to(images)
    member = torch.nn.functional.one_hot(senses.clamp(min=0), most).to(images) * (senses >= 0)[:, :, None]
    directions = torch.einsum("njg,nje->nge", member, weighted)
    affinity = torch.einsum("nte,nge->ntg", images, directions) * projections.sign().to(images)[:, :, None]
    present = member.sum(dim=1) > 0
    affinity = affinity.masked_fill(~present[:, None], -torch.inf)
    found = affinity.argmax(dim=2)
    return torch.where(present.any(dim=1)[:, None], found, UNGROUPED)
