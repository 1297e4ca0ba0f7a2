"""Norms of effects from coefficients: with u u^T = R R^T of a neuron (`gram_root`), |sum_k s[k] u[k]| = |s R|."""

from functools import cached_property
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from secondlens import kernels

if TYPE_CHECKING:
    from secondlens.kernels.stream import Root


class PathNorms:
    """Norms through R of a block of neurons, in float32.

    Args:
        root: R of each neuron.
        low_precision: whether 16 bits of precision suffice where the kernels run.
    """

    def __init__(self, root: Float[Tensor, "neuron path path"], low_precision: bool = False) -> None:
        self.root = root.float()
        self.low_precision = low_precision

    def __call__(
        self, coefficients: Float[Tensor, "neuron image path"], around: Float[Tensor, "neuron path"]
    ) -> Float[Tensor, "neuron image"]:
        """Return |(s - c) R| in float32, c being `around`; infinity for a norm that is not a number."""
        if kernels.fused(coefficients):
            from secondlens.kernels.stream import norms

            result = norms(coefficients, self.prepared, around)
        else:
            offset = torch.bmm(around[:, None], self.root)
            result = torch.baddbmm(offset, coefficients, self.root, beta=-1).norm(dim=2)
        return result.nan_to_num_(nan=torch.inf, posinf=torch.inf)

    def upcast(self, coefficients: Float[Tensor, "neuron image path"]) -> Float[Tensor, "neuron image path"]:
        """Return s R in float64: the effects in an orthonormal basis."""
        return torch.bmm(coefficients.double(), self.root.double())

    def of_rows(self, rows: Float[Tensor, "neuron path"]) -> Float[Tensor, " neuron"]:
        """Return |s R| of one row of coefficients per neuron, in float64."""
        return self.upcast(rows[:, None])[:, 0].norm(dim=1)

    @cached_property
    def prepared(self) -> "Root":
        """R in the layout that the kernels read."""
        from secondlens.kernels.stream import Root

        return Root(self.root, self.low_precision)

    @property
    def epsilon(self) -> float:
        """Largest error of a norm over |s R| + |c R|: a sum over paths of rounded products."""
        bits = 23 if not kernels.on(self.root.device) else 15 if self.low_precision else 21
        return 2.0**-bits * self.root.shape[2] ** 0.5
