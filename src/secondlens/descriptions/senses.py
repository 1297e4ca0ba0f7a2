"""Senses: a neuron's words in groups of like meaning, for neurons rarely mean one thing.

1. Take the words that carry most of the reconstruction, each as its atom times the sign of its coefficient: "not
   winter" stands on the side of summer.
2. Cluster them by average linkage on cosine distances (Sokal and Michener 1958), for two to six groups.
3. Keep the number with the largest mean silhouette (Rousseeuw 1987), or one group where none reaches `SILHOUETTE`.

The **polysemy** of a neuron is exp(entropy) of its senses' shares of the reconstruction: how many senses it has in
effect.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from torch import Tensor

WORDS = 24
"""Words that are grouped: those with the largest shares."""

MOST = 6
"""Senses at most."""

SILHOUETTE = 0.1
"""Below this mean silhouette two groups are no better than one."""

UNGROUPED = -1


@dataclass(frozen=True)
class Senses:
    """sense: of each text of the decomposition, counted from 0 by falling share; -1 for texts that were not grouped.
    count: senses a neuron. silhouette: of the chosen grouping, 0 for one sense. polysemy: effective number of senses.
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
    words: int = WORDS,
) -> Senses:
    """Senses of neurons from their sparse codes (`indices` -1 where there is no text) over the pool's atoms."""
    neurons, nonzero = indices.shape
    sense = np.full((neurons, nonzero), UNGROUPED, dtype=np.int64)
    count = np.zeros(neurons, dtype=np.int64)
    silhouette, polysemy = np.zeros(neurons), np.zeros(neurons)
    for neuron in range(neurons):
        there = (indices[neuron] >= 0).nonzero()[:, 0]
        kept = there[shares[neuron, there].abs().argsort(descending=True, stable=True)[:words]]
        if not len(kept):
            continue
        vectors = atoms[indices[neuron, kept]] * coefficients[neuron, kept].sign()[:, None].to(atoms)
        groups, silhouette[neuron] = group(torch.nn.functional.normalize(vectors, dim=1).cpu().numpy())
        mass = np.bincount(groups, weights=shares[neuron, kept].abs().double().cpu().numpy())
        order = np.argsort(-mass, kind="stable")
        sense[neuron, kept.cpu().numpy()] = np.argsort(order)[groups]
        count[neuron] = len(mass)
        parts = mass[mass > 0] / max(mass.sum(), np.finfo(float).tiny)
        polysemy[neuron] = np.exp(-(parts * np.log(parts)).sum())
    return Senses(
        torch.from_numpy(sense), torch.from_numpy(count), torch.from_numpy(silhouette).float(),
        torch.from_numpy(polysemy).float(),
    )  # fmt: skip


def group(vectors: np.ndarray) -> tuple[np.ndarray, float]:
    """Group [word] of unit vectors [word, embed], and the mean silhouette of that grouping."""
    one = np.zeros(len(vectors), dtype=np.int64)
    if len(vectors) < 3:
        return one, 0.0
    distances = np.clip(1 - vectors @ vectors.T, 0, 2)
    np.fill_diagonal(distances, 0)
    tree = linkage(squareform(distances, checks=False), method="average")
    best, height = one, SILHOUETTE
    for number in range(2, min(MOST, len(vectors) - 1) + 1):
        groups = fcluster(tree, number, criterion="maxclust") - 1
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
