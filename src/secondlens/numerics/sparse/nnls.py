"""Many small non-negative least-squares problems at once."""

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from secondlens.errors import TextError

SLACK = 1e-10
"""Negative values this small, in problems scaled to length one, count as zero."""

PATIENCE = 3
"""Exchanges of all variables without progress before one variable is exchanged at a time."""


def nnls_gram(
    gram: Float64[Tensor, "signal atom atom"],
    products: Float64[Tensor, "signal atom"],
    used: Bool[Tensor, "signal atom"],
    guess: Bool[Tensor, "signal atom"] | None = None,
) -> Float64[Tensor, "signal atom"]:
    r"""Solve `min_x ||A x - s||^2` subject to `x >= 0`, given `G = A^T A` and `b = A^T s`.

    The solution is the `x` with `x >= 0`, `g = G x - b >= 0` and `x * g = 0` (Karush-Kuhn-Tucker). Method:
    block principal pivoting (Portugal, Judice and Vicente 1994; Kim and Park 2011): guess the set of positive
    variables, solve the equations on it, exchange every variable that breaks a sign, and fall back to Murty's
    rule (exchange only the last one), which ends for any positive definite `G`. Batched over signals.

    Shapes: `gram [signal, atom, atom]`, `products [signal, atom]`; `used` marks the variables that exist
    (others stay zero and their entries are ignored); `guess` is a first set of positive variables. Units:
    those of `b / G`.

    Raises:
        TextError: no solution was found, which means that `G` is not positive definite on the used variables.
    """
    count, size = products.shape
    scale = torch.where(used, gram.diagonal(dim1=1, dim2=2).clamp(min=0).sqrt(), 1.0)
    usable = used & (scale > 0)
    scale = torch.where(usable, scale, 1.0)
    gram = gram / (scale[:, :, None] * scale[:, None, :])
    target = torch.where(usable, products / scale, 0.0)
    height = torch.linalg.vector_norm(target, dim=1, keepdim=True)
    target = target / torch.where(height > 0, height, 1.0)

    solution = torch.zeros_like(target)
    positive = usable.clone() if guess is None else guess & usable
    fewest = torch.full((count,), size + 1, device=target.device)
    patience = torch.full((count,), PATIENCE, device=target.device)
    order = torch.arange(size, device=target.device)
    open_ = torch.arange(count, device=target.device)
    for _ in range(20 * size + 100):
        inside = positive[open_]
        solved = _solve_on(gram[open_], target[open_], inside)
        gradient = (gram[open_] @ solved[:, :, None])[:, :, 0] - target[open_]
        broken = torch.where(inside, solved < -SLACK, gradient < -SLACK) & usable[open_]
        number = broken.sum(dim=1)
        done = number == 0
        solution[open_[done]] = solved[done]
        open_, broken, number = open_[~done], broken[~done], number[~done]
        if open_.numel() == 0:
            return solution.clamp_(min=0) * height / scale
        better = number < fewest[open_]
        patience[open_] = torch.where(better, PATIENCE, patience[open_] - 1)
        fewest[open_] = torch.minimum(fewest[open_], number)
        last = (torch.where(broken, order, -1).amax(dim=1, keepdim=True) == order) & broken
        positive[open_] ^= torch.where((patience[open_] >= 0)[:, None], broken, last)
    raise TextError(
        f"non-negative least squares found no solution for {open_.numel()} of {count} signals: the atoms of "
        "their supports are linearly dependent; remove near-copies from the pool of texts"
    )


def _solve_on(gram: Tensor, target: Tensor, inside: Tensor) -> Tensor:
    """Solve `G x = b` on the variables `inside`, zero elsewhere (the rest of `G` becomes the identity)."""
    both = inside[:, :, None] & inside[:, None, :]
    identity = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
    factor, failed = torch.linalg.cholesky_ex(torch.where(both, gram, identity))
    if bool(failed.any()):
        raise TextError(
            "non-negative least squares met linearly dependent atoms in a support; "
            "remove near-copies from the pool of texts"
        )
    return torch.cholesky_solve(torch.where(inside, target, 0.0)[:, :, None], factor)[:, :, 0]
