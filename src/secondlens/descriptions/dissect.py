"""A second opinion that sees no direction: labels from the images that activate a neuron.

CLIP-Dissect (Oikarinen and Weng 2023) with soft WPMI: with P(t|I) = softmax over texts of a <z(I), t>, and the top
images I_1, I_2, ... of a neuron by activation,

    score(t) = sum_j log(1 + p_j (P(t|I_j) - 1)) - lambda log p(t),

p_j falling from 0.998 to 0.97 over the top images, and log p(t) the log-mean over neurons of exp of the first sum.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

SHARPNESS = 10.0
FIRST, LAST = 0.998, 0.97
NEURONS, TEXTS = 64, 4096
"""Neurons and texts worked on at a time."""


def dissect(
    activations: Float[Tensor, "image neuron"],
    images: Float[Tensor, "image embed"],
    texts: Float[Tensor, "text embed"],
    top: int = 100,
    weight: float = 1.0,
) -> tuple[Int[Tensor, " neuron"], Float[Tensor, " neuron"]]:
    """The best text of each neuron, and its score. images, texts: unit norm. weight: lambda."""
    top = min(top, len(activations))
    first = activations.topk(top, dim=0).indices.T
    chances = torch.linspace(FIRST, LAST, top)
    # Means subtracted: the gap between images and texts would otherwise drown what tells texts apart.
    logits_of = _centred(images), _centred(texts)
    normaliser = torch.logsumexp(SHARPNESS * logits_of[0] @ logits_of[1].T, dim=1)
    neurons = activations.shape[1]
    best = torch.zeros(neurons, dtype=torch.int64)
    score = torch.full((neurons,), -torch.inf)
    for start in range(0, len(texts), TEXTS):
        some = logits_of[1][start : start + TEXTS]
        probability = torch.exp(SHARPNESS * logits_of[0] @ some.T - normaliser[:, None])
        sums = torch.cat([_log_sum(probability, rows, chances) for rows in first.split(NEURONS)])
        prior = torch.logsumexp(sums, dim=0) - math.log(neurons)
        value, place = (sums - weight * prior).max(dim=1)
        better = value > score
        best[better], score[better] = place[better] + start, value[better]
    return best, score


def _log_sum(probability: Tensor, rows: Tensor, chances: Tensor) -> Tensor:
    """[neuron, text]: sum_j log(1 + p_j (P(t|I_j) - 1))."""
    total = torch.zeros(len(rows), probability.shape[1])
    for place, chance in enumerate(chances.tolist()):
        total += torch.log1p(chance * (probability[rows[:, place]] - 1))
    return total


def _centred(vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors - vectors.mean(dim=0), dim=1)
