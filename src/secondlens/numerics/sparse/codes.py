"""Sparse decompositions of directions over a pool of texts."""

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from secondlens.errors import TextError
from secondlens.numerics.sparse.dictionary import Normalisation, text_atoms
from secondlens.numerics.sparse.omp import Pursuit, pursue, refit
from secondlens.numerics.sparse.screen import Screen
from secondlens.progress import Count

BASIS_BYTES = 384 * 2**20
"""Bound on the arrays of one block that grow with its number of signals."""

BLOCK = 512
"""Signals in a block at most: beyond this the product with the texts gets no faster."""

REFIT_BYTES = 64 * 2**20
"""Bound on the gathered atoms of one block of a refit, which holds a few arrays of this size."""


@dataclass(frozen=True, eq=False)
class SparseCodes:
    """The texts that make up each direction, and how much of each.

    With atoms `T` (`dictionary`) and a signal `s`: `s ~ sum_j coefficients[j] * T[indices[j]]`.

    Attributes:
        indices: Rows of the pool in the order picked, `[signal, nonzero]`; -1 beyond the signal's stop.
        coefficients: Of the fit on the whole support, `[signal, nonzero]`, in the units of the signals; 0
            beyond the stop. Least squares (non-negative least squares if `nonnegative`).
        residual_norms: `||s - approximation||_2` after each step, `[signal, nonzero]`, in the units of the
            signals; constant beyond the stop.
        counts: Atoms picked, `[signal]`. Fewer than `nonzero` where a signal was reproduced to rounding, or
            where no atom outside the span of those picked was left.
        signals: The signals themselves, `[signal, embed]`: held for `prefix`.
        dictionary: The atoms, `[text, embed]`, float64: held for `prefix` (`8 * text * embed` bytes).
        nonnegative: Whether coefficients were held at or above zero.
    """

    indices: Int64[Tensor, "signal nonzero"]
    coefficients: Float[Tensor, "signal nonzero"]
    residual_norms: Float[Tensor, "signal nonzero"]
    counts: Int64[Tensor, "signal"]
    signals: Float[Tensor, "signal embed"] = field(repr=False)
    dictionary: Float64[Tensor, "text embed"] = field(repr=False)
    nonnegative: bool = False

    def prefix(self, nonzero: int) -> "SparseCodes":
        """The codes of a run with a smaller `nonzero`, without that run.

        Matching pursuit picks the same first atoms whatever the number asked for; only their coefficients
        differ, and are solved for again, from the atoms. Storing the factors of every prefix would cost
        `4 * nonzero^2` bytes a signal, solving costs milliseconds a signal.

        Raises:
            TextError: `nonzero` outside 1 to the number of this run.
        """
        _check_count(nonzero, self.indices.shape[1], "atoms of these codes")
        indices = self.indices[:, :nonzero].clone()
        return SparseCodes(
            indices=indices,
            coefficients=_refit(self.signals, self.dictionary, indices, self.nonnegative),
            residual_norms=self.residual_norms[:, :nonzero].clone(),
            counts=self.counts.clamp(max=nonzero),
            signals=self.signals,
            dictionary=self.dictionary,
            nonnegative=self.nonnegative,
        )


def sparse_decompose(
    directions: Tensor | np.ndarray,
    texts: Tensor | np.ndarray,
    nonzero: int = 128,
    nonnegative: bool = False,
    normalisation: Normalisation | str = "unit",
    centre: bool = True,
    block: int | None = None,
    progress: Count | None = None,
) -> SparseCodes:
    r"""Write every direction as a sum of few texts (Gandelsman et al. 2025, the second-order lens).

    Formula: `min_x ||s - sum_i x_i T[i]||_2` with at most `nonzero` of the `x_i` not zero. The atoms `T` are
    the text vectors minus their mean over the pool, then normalised (`secondlens.numerics.sparse.dictionary.text_atoms`
    has both equations). Signals `s` are used as they are, neither centred nor normalised. The problem is
    solved greedily by orthogonal matching pursuit (Pati et al. 1993; `secondlens.numerics.sparse.omp`). Supports are
    those of a search in float64, ties going to the lower index; precision, block size and device do not change them.

    Args:
        directions: Signals `[signal, embed]`, torch or numpy. The work runs on their device.
        texts: The pool, `[text, embed]`, torch or numpy.
        nonzero: Atoms per signal, from 1 to the number of texts.
        nonnegative: Pick only atoms that correlate positively and hold coefficients at or above zero.
        normalisation: "unit", or "released" for the published code's normalisation by embedding dimension.
        centre: Subtract the mean text.
        block: Signals worked on at once; the default bounds memory to about a gigabyte plus the pool.
        progress: Called after each block with the number of signals done and their total.

    Returns:
        Tensors on the device of `directions`, in its precision (float32 at least, float64 for integers).

    Raises:
        TextError: an input that is not a finite real matrix, an empty pool or one that is zero once centred,
            unequal embedding sizes, `nonzero` out of range, `block` below one, or an unknown
            normalisation.
    """
    signals = _matrix("directions", directions)
    pool = _matrix("texts", texts).to(signals.device)
    if pool.shape[0] == 0:
        raise TextError("the pool of texts is empty; expected at least one row")
    if signals.shape[1] != pool.shape[1]:
        raise TextError(
            f"directions have {signals.shape[1]} dimensions and texts {pool.shape[1]}; expected the same: "
            "both must come from the text-image space of one model"
        )
    _check_count(nonzero, pool.shape[0], "texts of the pool")
    if block is not None and block < 1:
        raise TextError(f"block must be at least 1, not {block}")

    atoms = text_atoms(pool, normalisation, centre)
    total, embed = signals.shape
    if block is None:
        kept = min(nonzero, embed)
        block = max(1, min(BLOCK, BASIS_BYTES // (8 * kept * (embed + 2 * kept))))
    screen = Screen(atoms, positive=nonnegative)
    found = []
    for start in range(0, total, block):
        part = signals[start : start + block].double()
        found.append(pursue(part, screen, nonzero, nonnegative))
        if progress is not None:
            progress(min(start + block, total), total)
    indices, coefficients, residual_norms = _join(found, nonzero, signals)
    return SparseCodes(
        indices=indices,
        coefficients=coefficients.to(signals.dtype),
        residual_norms=residual_norms.to(signals.dtype),
        counts=(indices >= 0).sum(dim=1),
        signals=signals,
        dictionary=atoms,
        nonnegative=nonnegative,
    )


def _join(found: list[Pursuit], nonzero: int, signals: Tensor) -> Pursuit:
    if not found:
        empty = torch.zeros(0, nonzero, dtype=torch.float64, device=signals.device)
        return Pursuit(empty.long(), empty, empty)
    return Pursuit(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def _refit(signals: Tensor, atoms: Tensor, indices: Tensor, nonnegative: bool) -> Tensor:
    """`secondlens.numerics.sparse.omp.refit` in blocks of bounded memory, in the precision of the signals."""
    coefficients = signals.new_zeros(indices.shape)
    block = max(1, REFIT_BYTES // (8 * indices.shape[1] * atoms.shape[1]))
    for start in range(0, signals.shape[0], block):
        rows = slice(start, start + block)
        fitted = refit(signals[rows].double(), atoms, indices[rows], nonnegative)
        coefficients[rows] = fitted.to(signals.dtype)
    return coefficients


def _check_count(nonzero: int, most: int, what: str) -> None:
    if not 1 <= nonzero <= most:
        raise TextError(f"nonzero must be between 1 and {most} (the {what}), not {nonzero}")


def _matrix(name: str, value: Tensor | np.ndarray) -> Tensor:
    """A finite real matrix as a floating tensor: float32 and float64 are kept, other types converted."""
    tensor = torch.as_tensor(value).detach()
    if tensor.ndim != 2:
        raise TextError(f"{name} must be a matrix [rows, embed], not of shape {tuple(tensor.shape)}")
    if tensor.is_complex() or tensor.dtype == torch.bool:
        raise TextError(f"{name} must be real numbers, not {tensor.dtype}")
    if not tensor.is_floating_point():
        tensor = tensor.double()
    elif tensor.dtype != torch.float64:
        tensor = tensor.float()
    broken = torch.nonzero(~torch.isfinite(tensor).all(dim=1))[:, 0].tolist()
    if broken:
        listed = ", ".join(map(str, broken[:5])) + (", ..." if len(broken) > 5 else "")
        raise TextError(f"{name} must be finite; NaN or infinity in {len(broken)} row(s): {listed}")
    return tensor
