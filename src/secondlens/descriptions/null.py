"""How well would a direction that means nothing be described? The null that gives a cosine its p-value.

A pool of tens of thousands of texts reproduces *any* direction to some cosine. Two kinds of random directions say to
which: `isotropic`, uniform on the sphere, and `matched`, random mixtures sum_n g[n] r[n] with g standard normal, which
have the covariance of the layer's directions. A neuron that beats the first lies nearer to texts than nothing does; one
that beats the second lies nearer than other directions of what its layer writes: that *this* neuron has a meaning.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from secondlens.numerics.sparse.codes import SparseCodes

NULLS = ("isotropic", "matched")


def random_directions(kind: str, count: int, directions: Float[Tensor, "neuron embed"], seed: int) -> Tensor:
    """[count, embed] of unit norm, of one of `NULLS`; the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    if kind == "matched":
        mixture = torch.randn(count, len(directions), generator=generator)
        drawn = mixture @ directions.cpu().float()
    else:
        drawn = torch.randn(count, directions.shape[1], generator=generator)
    return torch.nn.functional.normalize(drawn, dim=1).to(directions)


def cosines(codes: SparseCodes, sizes: list[int]) -> Float[Tensor, "signal size"]:
    """cos(s, approximation with m texts) for each m: sqrt(1 - |residual|^2 / |s|^2), as the fit is least squares.

    Zero for a signal that is zero.
    """
    norms = codes.signals.double().norm(dim=1, keepdim=True)
    picked = codes.residual_norms.double()[:, [size - 1 for size in sizes]]
    share = (picked / norms.clamp(min=torch.finfo(torch.float64).tiny)).square()
    return torch.where(norms > 0, (1 - share).clamp(min=0).sqrt(), 0.0).float()


def p_values(observed: Float[Tensor, "signal size"], null: Float[Tensor, "draw size"]) -> Float[Tensor, "signal size"]:
    """(1 + draws at least as large) / (1 + draws), for each size by itself (Phipson and Smyth 2010)."""
    draws = len(null)
    ordered = null.sort(dim=0).values.T.contiguous()
    smaller = torch.searchsorted(ordered, observed.T.contiguous()).T
    return (1 + draws - smaller).float() / (1 + draws)


Decompose = Callable[[Tensor], SparseCodes]


def null_cosines(
    kind: str,
    count: int,
    directions: Float[Tensor, "neuron embed"],
    decompose: Decompose,
    sizes: list[int],
    seed: int = 0,
) -> Float[Tensor, "draw size"]:
    """Cosines that random directions of one kind reach through the same decomposition."""
    return cosines(decompose(random_directions(kind, count, directions, seed)), sizes)
