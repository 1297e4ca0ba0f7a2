"""Do a neuron's words name what it truly responds to?

A description gives every concept a weight: the sum of the coefficients of the texts that name it, each over the length
of the description's coefficients. A second reading without sparse coding, `cosine`, is the cosine of the direction with
the concept's own prompts, less the mean over concepts of the same kind. Against the truth, auc[n,c]:

    precision@k   share of the k concepts of largest weight that are among the k of largest auc
    rank_correlation   Spearman's rho of weights and auc over all concepts

Chance: the same with the weights of another neuron of the layer. p: share of permutations of the neurons (and the
layer as it is) whose mean is at least as large.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import rankdata
from torch import Tensor

from secondlens.atlas.store import Atlas
from secondlens.descriptions.store import Descriptions
from secondlens.lens.model import LensModel
from secondlens.studies.laboratory.selectivity import Selectivity
from secondlens.world.captions import class_prompts
from secondlens.world.phrases import CONCEPT_KINDS, CONCEPTS, concepts_of

FIRST = (1, 3, 5)
"""The k of precision@k."""


@dataclass(frozen=True)
class Agreement:
    """One figure over a layer's neurons. observed, chance: means. p_value: of permutations. neurons: each one's."""

    observed: float
    chance: float
    p_value: float
    neurons: Float[Tensor, " neuron"]


def word_weights(descriptions: Descriptions, layer: int, neurons: int) -> Float[Tensor, "neuron concept"]:
    """What a description says of each concept; see the module."""
    table = descriptions.table(layer)
    place = {concept: index for index, concept in enumerate(CONCEPTS)}
    weights = torch.zeros(neurons, len(CONCEPTS), dtype=torch.float64)
    lengths = torch.zeros(neurons, dtype=torch.float64)
    named: dict[str, list[int]] = {}
    columns = (table[name].to_pylist() for name in ("neuron", "text", "coefficient"))
    for neuron, text, coefficient in zip(*columns, strict=True):
        if text not in named:
            named[text] = [place[concept] for concept in concepts_of(text)]
        weights[neuron, named[text]] += coefficient
        lengths[neuron] += coefficient**2
    return (weights / lengths.sqrt().clamp(min=1e-12)[:, None]).float()


@torch.no_grad()
def cosine_weights(model: LensModel, atlas: Atlas, layer: int) -> Float[Tensor, "neuron concept"]:
    """The direction's cosine with each concept's prompts, around the mean over concepts of its kind."""
    parts = []
    for kind in CONCEPT_KINDS:
        prompts = class_prompts(kind)
        means = torch.stack([model.encode_texts(texts).mean(dim=0) for texts in prompts.values()])
        parts.append(torch.nn.functional.normalize(means - means.mean(dim=0), dim=1))
    return atlas.layer(layer).directions.float() @ torch.cat(parts).float().cpu().T


def agreement(
    weights: Float[Tensor, "neuron concept"], truth: Selectivity, *, permutations: int = 200, seed: int = 0
) -> dict[str, Agreement]:
    """All figures of a layer, by name. Concepts without a true figure are left out; neurons that are not selective
    too, as they have no best concept.
    """
    usable = ~truth.auc.isnan().any(dim=0)
    chosen = truth.selective
    auc, given = truth.auc[chosen][:, usable], weights[chosen][:, usable]
    if len(auc) < 2:
        return {}
    rng = np.random.default_rng(seed)
    orders = [torch.from_numpy(rng.permutation(len(auc))) for _ in range(permutations)]
    found = {}
    for size in FIRST:
        true, said = (_first(values, size) for values in (auc, given))
        hits = said.double() @ true.double().T / size
        found[f"precision@{size}"] = _compare(hits, orders)
    found["rank_correlation"] = _compare(_correlations(given, auc), orders)
    return found


def _first(values: Tensor, size: int) -> Tensor:
    return torch.zeros_like(values, dtype=torch.bool).scatter_(1, values.topk(size, dim=1).indices, True)


def _correlations(given: Tensor, auc: Tensor) -> Tensor:
    """[neuron, neuron]: Spearman's rho of the weights of the one with the truth of the other."""
    left, right = (torch.from_numpy(rankdata(values.double().numpy(), axis=1)) for values in (given, auc))
    left, right = (values - values.mean(dim=1, keepdim=True) for values in (left, right))
    left, right = (torch.nn.functional.normalize(values, dim=1) for values in (left, right))
    return left @ right.T


def _compare(pairs: Float[Tensor, "said true"], orders: list[Tensor]) -> Agreement:
    rows = torch.arange(len(pairs))
    own = pairs.diagonal()
    means = torch.tensor([float(pairs[rows, order].mean()) for order in orders], dtype=torch.float64)
    observed = float(own.mean())
    p_value = (1 + int((means >= observed).sum())) / (1 + len(orders))
    return Agreement(observed, float(means.mean()), p_value, own.float())
