"""Two atlases of the same images: which neurons of the one act on the images that a neuron of the other acts on.

Directions of two models lie in different spaces; the images they act on do not. The overlap of two neurons is the
share of their top images that both have, with `top` the smaller of the two atlases':

    overlap[n, m] = |top(n) & top(m)| / top

Two random sets of `top` of N images share top / N of them on average. The best of M neurons shares more by chance
alone: the median of the largest of M independent hypergeometric draws, which is what medians are to be held against.
"""

from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from scipy.stats import hypergeom

from secondlens.atlas.store import Atlas
from secondlens.errors import AtlasError

MATCHES = 3
BLOCK = 512


def compare_atlases(first: Atlas, second: Atlas) -> tuple[dict[str, Any], dict[int, bytes]]:
    """Facts for `site.json`, and of each layer of the first atlas the best matches of its neurons.

    The matches: int32 [neuron, MATCHES], place of the layer in the second atlas * its neurons + neuron, then float32
    [neuron, MATCHES] overlaps. medians: [first layer, second layer], the median over neurons of the best overlap.
    chance: the mean overlap of random sets; chance_best: the median of the best
    overlap with a layer of as many random sets.

    Raises `AtlasError` where the atlases are of different images.
    """
    if first.source_ids != second.source_ids:
        raise AtlasError(
            f"{first.folder} has {len(first.source_ids)} images and {second.folder} {len(second.source_ids)}, and they "
            "are not the same; two atlases are compared on the same images: survey one again with those of the other"
        )
    top = min(first.manifest.top, second.manifest.top)
    theirs = {layer: _members(second, layer, top).T.tocsc() for layer in second.layers}
    matches, medians = {}, []
    for layer in first.layers:
        mine = _members(first, layer, top)
        largest = np.zeros((mine.shape[0], len(theirs)))
        places, overlaps = [], []
        for start in range(0, mine.shape[0], BLOCK):
            parts = [(mine[start : start + BLOCK] @ other).toarray() for other in theirs.values()]
            largest[start : start + BLOCK] = np.stack([part.max(axis=1) for part in parts], axis=1)
            shared = np.concatenate(parts, axis=1)
            places.append(np.argsort(-shared, axis=1, kind="stable")[:, :MATCHES])
            overlaps.append(np.take_along_axis(shared, places[-1], axis=1) / top)
        matches[layer] = (
            np.concatenate(places).astype("<i4").tobytes() + np.concatenate(overlaps).astype("<f4").tobytes()
        )
        medians.append((np.median(largest, axis=0) / top).tolist())
    facts = {
        "model": second.manifest.model.reference,
        "layers": second.layers,
        "neurons": second.manifest.model.neurons,
        "matches": min(MATCHES, len(second.layers) * second.manifest.model.neurons),
        "chance": top / second.manifest.images.count,
        "chance_best": _best_by_chance(second.manifest.images.count, top, second.manifest.model.neurons),
        "medians": medians,
    }
    return facts, matches


def _best_by_chance(images: int, top: int, neurons: int) -> float:
    """Median of the largest overlap of one set with so many random ones: P(all <= x) = P(one <= x)^neurons = 1/2."""
    return float(hypergeom(images, top, top).ppf(0.5 ** (1 / neurons))) / top


def _members(atlas: Atlas, layer: int, top: int) -> csr_matrix:
    """[neuron, image] with a one for each of a neuron's top images."""
    positions = atlas.layer(layer).top_positions[:, :top].numpy()
    neurons = np.repeat(np.arange(len(positions)), top)
    ones = np.ones(positions.size, dtype=np.int32)
    return csr_matrix((ones, (neurons, positions.ravel())), shape=(len(positions), len(atlas.source_ids)))
