"""Sparse codes from the lasso path, by scikit-learn."""

import warnings

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from secondlens.errors import MissingExtra
from secondlens.numerics.sparse.omp import Pursuit


def lasso_codes(
    signals: Float64[Tensor, "signal embed"],
    atoms: Float64[Tensor, "text embed"],
    nonzero: int,
    nonnegative: bool = False,
) -> Pursuit:
    r"""The first point of the lasso path of every signal that has `nonzero` active atoms.

    The path is that of `min_x 1/2 ||s - T^T x||^2 + lambda ||x||_1` as `lambda` falls from where `x = 0`,
    found by least-angle regression with the lasso modification (Efron et al. 2004;
    `sklearn.linear_model.lars_path`). A path that ends earlier gives its last point. Atoms are listed in the
    order in which they entered; `residual_norms[:, k]` belongs to the first point with `k + 1` active atoms.

    Shapes: `signals [signal, embed]`, `atoms [text, embed]`, to three arrays `[signal, nonzero]`. Signals are
    scaled to length one for the path (its stopping rules are absolute) and the coefficients scaled back. One
    signal at a time, seconds each at tens of thousands of texts: for a few signals, not for all neurons of a
    model.

    Raises:
        MissingExtra: scikit-learn is not installed.
    """
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import lars_path
    except ImportError as error:
        raise MissingExtra("scikit-learn", "lasso", "method='lasso'") from error

    columns = np.asfortranarray(atoms.cpu().numpy().T)
    indices = np.full((signals.shape[0], nonzero), -1, dtype=np.int64)
    coefficients = np.zeros(indices.shape)
    residual_norms = np.zeros(indices.shape)
    for row, signal in enumerate(signals.cpu().numpy()):
        norm = float(np.linalg.norm(signal))
        if norm == 0:
            continue
        unit = signal / norm
        budget = nonzero
        while True:
            with warnings.catch_warnings():
                # Degenerate atoms are dropped from the path with a warning; the result says as much.
                warnings.simplefilter("ignore", ConvergenceWarning)
                alphas, _, path = lars_path(
                    columns, unit, max_iter=budget, method="lasso", positive=nonnegative, return_path=True
                )
            active = np.count_nonzero(path, axis=0)
            # Atoms may leave the path again: reaching `nonzero` of them can take more than `nonzero` steps.
            if active.max() >= nonzero or len(alphas) <= budget:
                break
            budget *= 2
        sizes = np.arange(1, min(nonzero, int(active.max())) + 1)
        points = np.argmax(active[None, :] >= sizes[:, None], axis=1)
        if not sizes.size:
            residual_norms[row] = norm
            continue
        end = points[-1] if sizes[-1] == nonzero else path.shape[1] - 1
        support = np.flatnonzero(path[:, end])
        support = support[np.argsort(np.argmax(path[support] != 0, axis=1), kind="stable")]
        indices[row, : support.size] = support
        coefficients[row, : support.size] = path[support, end] * norm
        residuals = unit[:, None] - columns @ path[:, points]
        residual_norms[row, : sizes.size] = norm * np.linalg.norm(residuals, axis=0)
        residual_norms[row, sizes.size :] = norm * np.linalg.norm(unit - columns @ path[:, end])
    device = signals.device
    return Pursuit(
        torch.from_numpy(indices).to(device),
        torch.from_numpy(coefficients).to(device),
        torch.from_numpy(residual_norms).to(device),
    )
