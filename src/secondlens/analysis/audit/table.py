"""All neurons of an audit in one table: directions, sparse codes over a pool, and how strongly each acts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix, vstack
from torch import Tensor

from secondlens.atlas.store import Atlas
from secondlens.descriptions.pool import Pool
from secondlens.descriptions.store import Descriptions
from secondlens.errors import AuditError
from secondlens.numerics.sparse.codes import sparse_decompose


@dataclass(frozen=True, eq=False)
class NeuronTable:
    """Neurons of several layers, one a row.

    source: what the directions are of, e.g. "second order". layers, neurons: where a row is in the model.
    directions: r, unit norm. strengths: mean of |x| over the neuron's top images, x the projection of its effect on r,
    in units of the unit-norm embedding; ones where it is not known. codes: coefficients c[n, t] of the texts in r.
    texts: of the pool.
    """

    source: str
    layers: Int[Tensor, " row"]
    neurons: Int[Tensor, " row"]
    directions: Float[Tensor, "row embed"]
    strengths: Float[Tensor, " row"]
    codes: csr_matrix = field(repr=False)
    texts: list[str] = field(repr=False)

    def __len__(self) -> int:
        """Number of neurons."""
        return len(self.layers)


def neuron_table(atlas: Atlas, descriptions: Descriptions, layers: Sequence[int] | None = None) -> NeuronTable:
    """The described neurons of an atlas. layers: default, all that are described.

    Raises `AuditError` for none, `AtlasError` for a layer that is not described.
    """
    chosen = list(descriptions.card.layers if layers is None else layers)
    if not chosen:
        raise AuditError("expected at least one layer to audit, got none")
    texts: dict[int, str] = {}
    codes, parts = [], []
    for index in chosen:
        opened, table = atlas.layer(index), descriptions.table(index)
        columns = {name: table[name].to_numpy() for name in ("neuron", "row", "coefficient")}
        shape = (len(opened.directions), descriptions.card.settings.texts)
        codes.append(csr_matrix((columns["coefficient"], (columns["neuron"], columns["row"])), shape=shape))
        texts |= dict(zip(columns["row"].tolist(), table["text"].to_pylist(), strict=True))
        parts.append((opened.directions, opened.top_projections.abs().mean(dim=1)))
    neurons = len(parts[0][0])
    return NeuronTable(
        source="second order",
        layers=torch.tensor(chosen).repeat_interleave(neurons),
        neurons=torch.arange(neurons).repeat(len(chosen)),
        directions=torch.cat([directions for directions, _ in parts]).float(),
        strengths=torch.cat([strengths for _, strengths in parts]).float(),
        codes=vstack(codes, format="csr").astype(np.float64),
        # A text that no neuron uses can be no cue: its name is never asked for.
        texts=[texts.get(row, "") for row in range(descriptions.card.settings.texts)],
    )


def table_of_directions(
    source: str, directions: Mapping[int, Float[Tensor, "neuron embed"]], pool: Pool, nonzero: int = 128
) -> NeuronTable:
    """A table of any directions by layer, e.g. those of indirect effects, decomposed over a pool now.

    Zero rows (neurons without effect) have no texts. Raises `AuditError` for directions of another space.
    """
    for layer, rows in directions.items():
        if rows.ndim != 2 or rows.shape[1] != pool.embeddings.shape[1]:
            raise AuditError(
                f"expected directions [neuron, {pool.embeddings.shape[1]}] in the joint space of the pool "
                f"{pool.name!r}, got {list(rows.shape)} for layer {layer}"
            )
    stacked = torch.nn.functional.normalize(torch.cat(list(directions.values())).float(), dim=1)
    codes = sparse_decompose(stacked, pool.embeddings, min(nonzero, len(pool.texts)))
    used = codes.indices >= 0
    rows = torch.arange(len(stacked))[:, None].expand_as(used)[used]
    matrix = csr_matrix(
        (codes.coefficients[used].double().numpy(), (rows.numpy(), codes.indices[used].numpy())),
        shape=(len(stacked), len(pool.texts)),
    )
    counts = torch.tensor([len(rows) for rows in directions.values()])
    return NeuronTable(
        source=source,
        layers=torch.tensor(list(directions)).repeat_interleave(counts),
        neurons=torch.cat([torch.arange(len(rows)) for rows in directions.values()]),
        directions=stacked,
        strengths=torch.ones(len(stacked)),
        codes=matrix,
        texts=list(pool.texts),
    )
