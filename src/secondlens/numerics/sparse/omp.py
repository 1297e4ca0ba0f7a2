"""Orthogonal matching pursuit of many signals at once, and its non-negative variant.

Signal `s`, atoms `T [text, embed]`. Step `k` picks the atom that correlates most with the residual and fits
the signal again on everything picked so far (Pati, Rezaiifar and Krishnaprasad 1993):

    i_k = argmax_i |<t_i, r_{k-1}>|,    S = {i_1 .. i_k},
    x_k = argmin_x ||s - T_S^T x||,     r_k = s - T_S^T x_k.

An orthonormal basis `Q` of the support is grown by Gram-Schmidt, so `T_S^T = Q^T R`, the residual loses its
part along the new basis vector only, and the coefficients of the end are `R^{-1} Q s`. Everything but the
search (see `secondlens.numerics.sparse.screen`) is float64.

The non-negative variant (Bruckstein, Elad and Zibulevsky 2008) picks `argmax_i <t_i, r>` and fits under
`x >= 0`.

Cost. A step's floor is the product `[signal, embed] x [embed, text]`: `2 * signal * text * embed` operations.
Gram-Schmidt adds `4 * signal * k * embed`. Updating correlations from those of the step before, as Batch-OMP
does (Rubinstein, Zibulevsky and Elad 2008), needs either the product of the texts with the new basis vectors,
which costs the same, or the Gram matrix of the texts, which at 30,000 texts is larger than memory allows.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from secondlens.numerics.sparse.nnls import nnls_gram
from secondlens.numerics.sparse.screen import Screen

TOLERANCE = torch.finfo(torch.float64).eps ** 0.5
"""A signal stops where no `|<t, r>|` exceeds this share of `||s|| * max_i ||t_i||`.

It holds when the residual is zero to that precision. It also holds when every remaining atom lies in the span
of the support: such an atom is orthogonal to the residual. Conversely, an atom `t` above it has a part of at
least this share outside it, since `|<t, r>| <= ||t_outside|| ||r||`: no step divides by rounding errors.
"""

DEPENDENT = 1e-5
"""Non-negative variant: an atom with no larger share of its length outside the support's span is passed over.

There the residual is not orthogonal to the support, so the bound above does not hold; and the fit works on
the Gram matrix, which squares the condition number.
"""

REPEAT = 0.1
"""Gram-Schmidt is applied again where it left less than this share of a vector.

Once keeps the basis orthogonal to rounding / REPEAT; twice is always enough (Giraud et al. 2005).
"""

CACHED_BYTES = 8 * 2**20
"""The piece of the basis that Gram-Schmidt goes over at a time: its second pass then finds it cached."""


class Pursuit(NamedTuple):
    """The answer for a block of signals; see `secondlens.numerics.sparse.codes.SparseCodes`."""

    indices: Int64[Tensor, "signal nonzero"]
    coefficients: Float64[Tensor, "signal nonzero"]
    residual_norms: Float64[Tensor, "signal nonzero"]


def pursue(
    signals: Float64[Tensor, "signal embed"], screen: Screen, nonzero: int, nonnegative: bool = False
) -> Pursuit:
    """Orthogonal matching pursuit of a block of signals over the atoms of `screen`.

    Shapes: `signals [signal, embed]` to three arrays `[signal, nonzero]`. Memory: `8 * signal * nonzero *
    (embed + nonzero)` bytes besides the screen's scores. `nonnegative` must agree with `screen.positive`.
    """
    count, embed = signals.shape
    atoms = screen.atoms
    steps = min(nonzero, _rank(atoms) if nonnegative else embed)
    basis = signals.new_zeros(count, steps, embed)
    upper = torch.eye(steps, dtype=torch.float64, device=signals.device).repeat(count, 1, 1)
    along = signals.new_zeros(count, steps)
    weights = signals.new_zeros(count, steps)
    indices = torch.full((count, nonzero), -1, dtype=torch.int64, device=signals.device)
    norms = torch.linalg.vector_norm(signals, dim=1)
    residual_norms = norms[:, None].repeat(1, nonzero)
    # An infinite floor marks a signal that has stopped.
    floor = torch.where(norms > 0, TOLERANCE * norms * screen.length, torch.inf)
    excluded = indices[:, :0]
    beyond = signals.clone()  # the part of the signal outside the span of its support
    residual = beyond

    for k in range(steps):
        looking = torch.nonzero(floor < torch.inf)[:, 0]
        while looking.numel():
            found = screen.best(residual[looking], excluded[looking], floor[looking]).atom
            floor[looking[found < 0]] = torch.inf
            looking, found = looking[found >= 0], found[found >= 0]
            if looking.numel() == 0:
                break
            picked = torch.full_like(indices[:, 0], screen.rows)
            picked[looking] = found
            excluded = torch.cat([excluded, picked[:, None]], dim=1)
            chosen = atoms[found]
            # Indexing copies the basis; while no signal has stopped, a view does.
            known = basis[:, :k] if looking.numel() == count else basis[looking, :k]
            outside, inside = _orthogonalise(chosen, known)
            length = torch.linalg.vector_norm(outside, dim=1)
            free = length > (DEPENDENT * torch.linalg.vector_norm(chosen, dim=1) if nonnegative else 0.0)
            rows = looking[free]
            upper[rows, :k, k] = inside[free]
            upper[rows, k, k] = length[free]
            basis[rows, k] = outside[free] / length[free, None]
            indices[rows, k] = found[free]
            looking = looking[~free]
        if bool((floor == torch.inf).all()):
            break
        along[:, k] = (basis[:, k] * beyond).sum(dim=1)
        beyond -= along[:, k, None] * basis[:, k]
        if nonnegative:
            seen = slice(0, k + 1)
            weights[:, seen] = fit_nonnegative(
                upper[:, seen, seen], along[:, seen], indices[:, seen] >= 0, weights[:, seen]
            )
            missed = along[:, None, seen] - weights[:, None, seen] @ upper[:, seen, seen].mT
            residual = beyond + (missed @ basis[:, seen])[:, 0]
        residual_norms[:, k:] = torch.linalg.vector_norm(residual, dim=1)[:, None]

    if not nonnegative:
        weights = torch.linalg.solve_triangular(upper, along[:, :, None], upper=True)[:, :, 0]
    coefficients = signals.new_zeros(count, nonzero)
    coefficients[:, :steps] = weights
    return Pursuit(indices, coefficients, residual_norms)


def refit(
    signals: Float64[Tensor, "signal embed"],
    atoms: Float64[Tensor, "text embed"],
    indices: Int64[Tensor, "signal nonzero"],
    nonnegative: bool = False,
) -> Float64[Tensor, "signal nonzero"]:
    """The least-squares coefficients of given supports, `argmin_x ||s - T_S^T x||` (under `x >= 0` if asked).

    By a QR factorisation of the atoms: that of their Gram matrix would square the condition number.
    Shapes: `signals [signal, embed]`, `indices [signal, nonzero]` with -1 (coefficient 0) at the end of short
    supports, to `[signal, nonzero]`. Needs `8 * signal * nonzero * embed` bytes several times over.
    """
    coefficients = signals.new_zeros(indices.shape)
    used = indices >= 0
    longest = int(used.sum(dim=1).amax()) if indices.numel() else 0
    if longest == 0:
        return coefficients
    indices, used = indices[:, :longest], used[:, :longest]
    columns = (atoms[indices.clamp(min=0)] * used[:, :, None]).mT
    basis, upper = torch.linalg.qr(columns)
    along = (signals[:, None] @ basis)[:, 0]
    if nonnegative:
        coefficients[:, :longest] = fit_nonnegative(upper, along, used)
        return coefficients
    # Columns that do not exist are zero: with a diagonal of one and no target their coefficient is zero.
    upper.diagonal(dim1=1, dim2=2).masked_fill_(~used, 1.0)
    along = torch.where(used, along, 0.0)
    coefficients[:, :longest] = torch.linalg.solve_triangular(upper, along[:, :, None], upper=True)[:, :, 0]
    return coefficients


def fit_nonnegative(
    upper: Float64[Tensor, "signal atom atom"],
    along: Float64[Tensor, "signal atom"],
    used: Bool[Tensor, "signal atom"],
    guess: Float64[Tensor, "signal atom"] | None = None,
) -> Float64[Tensor, "signal atom"]:
    """`argmin_{x >= 0} ||Q s - R x||` for the triangular factor `R` of a support, from the signs of `guess`.

    The last variable starts as positive as well: the newest atom was picked because it correlates positively.
    """
    positive = None
    if guess is not None:
        positive = guess > 0
        positive[:, -1] = True
    products = (along[:, None] @ upper)[:, 0]
    return nnls_gram(upper.mT @ upper, products, used, positive)


def _orthogonalise(vectors: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """Split `vectors [n, embed]` by `basis [n, k, embed]`: the part outside, and the products `[n, k]`."""
    if basis.shape[1] == 0:
        return vectors, vectors.new_zeros(vectors.shape[0], 0)
    piece = max(1, CACHED_BYTES // (basis[0].numel() * basis.element_size()))
    parts = [_project(v, b) for v, b in zip(torch.split(vectors, piece), torch.split(basis, piece), strict=True)]
    outside, inside = (torch.cat(part) for part in zip(*parts, strict=True))
    shrunk = torch.linalg.vector_norm(outside, dim=1) < REPEAT * torch.linalg.vector_norm(vectors, dim=1)
    again = torch.nonzero(shrunk)[:, 0]
    if again.numel():
        outside[again], more = _project(outside[again], basis[again])
        inside[again] += more
    return outside, inside


def _project(vectors: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    inside = vectors[:, None] @ basis.mT
    return torch.baddbmm(vectors[:, None], inside, basis, alpha=-1)[:, 0], inside[:, 0]


def _rank(atoms: Tensor) -> int:
    """The number of singular values of the atoms above DEPENDENT times the largest."""
    spectrum = torch.linalg.eigvalsh(atoms.T @ atoms)
    return int((spectrum > DEPENDENT**2 * spectrum.amax()).sum())
