"""The words of an atlas's neurons as sparse matrices: coefficients by layer, [neuron, text]."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import csr_array
from torch import Tensor

from secondlens.atlas.store import Atlas
from secondlens.descriptions.store import Descriptions


@dataclass(frozen=True, eq=False)
class NeuronWords:
    """What each neuron is described by. coefficients: layer to a matrix [neuron, text]. texts: by row of the pool.

    Texts that describe no neuron are "".
    """

    coefficients: dict[int, csr_array]
    texts: list[str]

    def scores(self, weights: dict[int, Float[Tensor, "image neuron"]]) -> csr_array:
        """[image, text]: sum over layers and neurons of weight * coefficient, float64."""
        return self.sparse_scores(
            {layer: csr_array(weight.cpu().double().numpy()) for layer, weight in weights.items()}
        )

    def sparse_scores(self, weights: dict[int, csr_array]) -> csr_array:
        """The same from sparse weights [image, neuron]."""
        first, *others = [weight @ self.coefficients[layer] for layer, weight in weights.items()]
        for other in others:
            first = first + other
        return csr_array(first)


def neuron_words(atlas: Atlas, descriptions: Descriptions) -> NeuronWords:
    """Read the descriptions of all layers of an atlas; `AtlasError` where a layer is not described."""
    count, neurons = descriptions.card.settings.texts, atlas.manifest.model.neurons
    texts, found = [""] * count, {}
    for layer in atlas.layers:
        table = descriptions.table(layer)
        rows = table["row"].to_numpy()
        places = (table["neuron"].to_numpy(), rows)
        found[layer] = csr_array((table["coefficient"].to_numpy().astype(np.float64), places), shape=(neurons, count))
        first = np.unique(rows, return_index=True)
        for row, text in zip(first[0].tolist(), table["text"].take(first[1]).to_pylist(), strict=True):
            texts[row] = text
    return NeuronWords(found, texts)


def largest(scores: csr_array, count: int) -> Int[Tensor, "image rank"]:
    """Rows of the pool with the largest positive scores, descending, ties by row; -1 where there are no more."""
    found = np.full((scores.shape[0], count), -1, dtype=np.int64)
    for image in range(scores.shape[0]):
        span = slice(scores.indptr[image], scores.indptr[image + 1])
        values, columns = scores.data[span], scores.indices[span]
        values, columns = values[values > 0], columns[values > 0]
        order = np.lexsort((columns, -values))[:count]
        found[image, : len(order)] = columns[order]
    return torch.from_numpy(found)
