"""The dictionary of a sparse decomposition: a pool of text vectors, centred and normalised."""

from typing import Literal, get_args

import torch
from jaxtyping import Float64
from torch import Tensor

from secondlens.errors import TextError, closest

Normalisation = Literal["unit", "released"]


def text_atoms(texts: Tensor, normalisation: Normalisation | str, centre: bool = True) -> Float64[Tensor, "text embed"]:
    r"""The atoms `T` of a pool of text vectors `E`, in float64.

    Formula, with `mu` the mean row of `E` (zero if `centre` is false) and `C = E - mu`:

    - `"unit"`: `T[i, :] = C[i, :] / ||C[i, :]||_2`, every text to length one (Gandelsman et al. 2025).
    - `"released"`: `T[:, d] = C[:, d] / ||C[:, d]||_2`, every embedding dimension divided by its norm over
      the texts. This is what the code released with the paper computes (the norm is taken along axis 0); its
      atoms are not of unit length. That code also multiplies them by 100, the scale it gives to effects; here
      effects are not scaled and neither are texts, so its coefficients are a hundredth of ours.

    Shapes: `texts [text, embed]` to `[text, embed]`. Units: none. A row (or column) whose norm is at the
    level of rounding stays zero: it is no direction and no decomposition picks it.

    Raises:
        TextError: an unknown normalisation, or a pool that is zero once centred (one text, or copies of one).
    """
    if normalisation not in get_args(Normalisation):
        raise TextError(f"unknown normalisation {normalisation!r}{closest(normalisation, get_args(Normalisation))}")
    # A copy, because the steps below work in place: the pool is the largest array held.
    pool = texts.detach().to(torch.float64, copy=True)
    largest = pool.abs().amax().item()
    if largest == 0:
        raise TextError("the pool of texts is zero everywhere; expected the vectors of a text encoder")
    # Divided by its largest entry, so that no scale of the input can overflow a sum of squares.
    pool /= largest
    if centre:
        pool -= pool.mean(dim=0)
    axis = 1 if normalisation == "unit" else 0
    norms = torch.linalg.vector_norm(pool, dim=axis, keepdim=True)
    # Subtracting a mean of n float64 rows leaves this much of a vector that should be zero.
    rounding = 8 * torch.finfo(torch.float64).eps * pool.shape[axis] ** 0.5
    kept = norms > rounding
    if not bool(kept.any()):
        raise TextError(
            f"the pool of {pool.shape[0]} text(s) is zero once its mean is subtracted: all are the same; "
            "give different texts, or centre=False"
        )
    pool *= kept
    pool /= torch.where(kept, norms, 1.0)
    return pool
