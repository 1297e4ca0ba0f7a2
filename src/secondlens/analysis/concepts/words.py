"""From what active neurons do to texts: each neuron's factor for each text, and the texts with the largest scores.

A rule gives the weight of an active neuron n on an image, and its factor for a text t of the pool; the score is the sum
over active neurons of weight * factor.

    paper       |phi - mean|      coefficient of t in the neuron's description (Gandelsman et al. 2025, appendix)
    signed      <phi - mean, r>   the same coefficient
    alignment   <phi - mean, r>   <r, t>, t centred over the pool and of unit norm

A description names a neuron by few texts and is silent on their near synonyms, so that two neurons which mean the same
rarely add up; <r, t> is there for every text.
"""

from collections.abc import Sequence
from typing import Literal, Protocol, get_args, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import csr_array
from torch import Tensor

from secondlens.atlas.store import Atlas
from secondlens.descriptions.pool import Pool
from secondlens.descriptions.store import Descriptions
from secondlens.errors import SecondLensError, closest
from secondlens.numerics.sparse.dictionary import text_atoms

Rule = Literal["alignment", "signed", "paper"]
Weights = dict[int, csr_array]
"""Layer to weights [image, neuron], zero for neurons that are not active."""


@runtime_checkable
class Words(Protocol):
    """The factors of an atlas's neurons for the texts of one pool."""

    @property
    def texts(self) -> Sequence[str]:
        """By row of the pool; "" for texts that no neuron has a factor for."""

    def factors(self, layer: int, neurons: Tensor, rows: Tensor) -> Float[Tensor, "text neuron"]:
        """Of some neurons for some texts, float64."""

    def first(self, weights: Weights, count: int) -> Int[Tensor, "image rank"]:
        """Rows of the texts with the largest positive scores on each image, descending; -1 where there are fewer."""


def check_rule(rule: str) -> None:
    """Raise for anything but one of the three rules."""
    if rule not in get_args(Rule):
        raise SecondLensError(f"unknown rule {rule!r}{closest(rule, get_args(Rule))}")


def sparse(weights: dict[int, Float[Tensor, "image neuron"]]) -> Weights:
    """Weights as sparse matrices."""
    return {layer: csr_array(weight.cpu().double().numpy()) for layer, weight in weights.items()}


class DescribedWords:
    """Factors are the coefficients of the neurons' descriptions. Raises `AtlasError` for a layer without any."""

    def __init__(self, atlas: Atlas, descriptions: Descriptions) -> None:
        count, neurons = descriptions.card.settings.texts, atlas.manifest.model.neurons
        self.texts = [""] * count
        self.coefficients: dict[int, csr_array] = {}
        for layer in atlas.layers:
            table = descriptions.table(layer)
            rows = table["row"].to_numpy()
            values = table["coefficient"].to_numpy().astype(np.float64)
            self.coefficients[layer] = csr_array((values, (table["neuron"].to_numpy(), rows)), shape=(neurons, count))
            known, place = np.unique(rows, return_index=True)
            for row, text in zip(known.tolist(), table["text"].take(place).to_pylist(), strict=True):
                self.texts[row] = text

    def factors(self, layer: int, neurons: Tensor, rows: Tensor) -> Float[Tensor, "text neuron"]:
        """Coefficients; zero where a text does not describe a neuron."""
        return torch.from_numpy(self.coefficients[layer][neurons.cpu().numpy()][:, rows.numpy()].toarray().T.copy())

    def first(self, weights: Weights, count: int) -> Int[Tensor, "image rank"]:
        """See `Words`; ties by row."""
        total, *others = [weight @ self.coefficients[layer] for layer, weight in weights.items()]
        for other in others:
            total = total + other
        scores = csr_array(total)
        found = np.full((scores.shape[0], count), -1, dtype=np.int64)
        for image in range(len(found)):
            span = slice(scores.indptr[image], scores.indptr[image + 1])
            values, columns = scores.data[span], scores.indices[span]
            values, columns = values[values > 0], columns[values > 0]
            order = np.lexsort((columns, -values))[:count]
            found[image, : len(order)] = columns[order]
        return torch.from_numpy(found)


class AlignedWords:
    """Factors are <r, t>."""

    def __init__(self, atlas: Atlas, pool: Pool) -> None:
        self.texts = pool.texts
        self.atoms = text_atoms(pool.embeddings, "unit")
        self.directions = {layer: atlas.layer(layer).directions.double() for layer in atlas.layers}

    def factors(self, layer: int, neurons: Tensor, rows: Tensor) -> Float[Tensor, "text neuron"]:
        """<r, t>."""
        return self.atoms[rows] @ self.directions[layer][neurons.cpu()].T

    def first(self, weights: Weights, count: int) -> Int[Tensor, "image rank"]:
        """See `Words`: through sum_n weight r, one vector an image."""
        parts = [torch.from_numpy(weight @ self.directions[layer].numpy()) for layer, weight in weights.items()]
        scores = torch.stack(parts).sum(dim=0) @ self.atoms.T
        best = scores.topk(min(count, scores.shape[1]), dim=1)
        found = torch.full((len(scores), count), -1, dtype=torch.int64)
        found[:, : best.indices.shape[1]] = torch.where(best.values > 0, best.indices, -1)
        return found
