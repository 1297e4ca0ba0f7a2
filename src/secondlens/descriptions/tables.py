"""Sparse codes as tables of texts."""

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondlens.numerics.sparse.codes import SparseCodes


def code_shares(codes: SparseCodes) -> Float[Tensor, "signal nonzero"]:
    """Share of each text in the squared norm of the reconstruction: c[j] <t[j], s> / sum_j c[j] <t[j], s>.

    For a least-squares fit <t[j], s> = <t[j], s'> with the reconstruction s', so the sum is |s'|^2. Signed; sums to one
    (zero throughout for a signal without any text).
    """
    parts = torch.zeros_like(codes.coefficients, dtype=torch.float64)
    for start in range(0, len(parts), 64):
        rows = slice(start, start + 64)
        atoms = codes.dictionary[codes.indices[rows].clamp(min=0)]
        products = torch.einsum("sje,se->sj", atoms, codes.signals[rows].double())
        parts[rows] = products * codes.coefficients[rows].double()
    total = parts.sum(dim=1, keepdim=True)
    return torch.where(total > 0, parts / torch.where(total > 0, total, 1.0), 0.0)


def texts_table(codes: dict[str, Tensor], senses: Int[Tensor, "neuron nonzero"], texts: list[str]) -> pa.Table:
    """One row a (neuron, rank): see `store.texts_file`. codes: indices, coefficients, fractions [neuron, nonzero]."""
    indices = codes["indices"].numpy()
    neuron, rank = np.nonzero(indices >= 0)
    rows = indices[neuron, rank]
    return pa.table(
        {
            "neuron": pa.array(neuron, pa.int32()),
            "rank": pa.array(rank, pa.int16()),
            "row": pa.array(rows, pa.int32()),
            "text": pa.DictionaryArray.from_arrays(pa.array(rows, pa.int32()), pa.array(texts, pa.string())).cast(
                pa.string()
            ),
            "coefficient": pa.array(codes["coefficients"].numpy()[neuron, rank], pa.float32()),
            "fraction": pa.array(codes["fractions"].numpy()[neuron, rank], pa.float32()),
            "sense": pa.array(senses.numpy()[neuron, rank], pa.int8()),
        }
    )
