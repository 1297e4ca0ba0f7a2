"""Norms of effects from coefficients: with u u^T = R R^T of a neuron (`gram_root`), |sum_k s[k] u[k]| = |s R|.

A norm computed in float32 errs by what its products and sums round. Per product s[k] R[k,j] that is at most some rho of
its size, whatever cancels in the sum, so with e[k] the largest |s[k]| of all images and |.| of each element,

    |computed - |(s - c) R|| <= rho |(e + |c|) |R||

A bound in terms of |s R| alone does not hold: R may be near singular, and s nearly in its null space.
"""

from functools import cached_property
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from secondlens.numerics import kernels

if TYPE_CHECKING:
    from secondlens.numerics.kernels.stream import Root


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
            from secondlens.numerics.kernels.stream import norms

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
        from secondlens.numerics.kernels.stream import Root

        return Root(self.root, self.low_precision)

    def error(
        self, extent: Float[Tensor, "neuron path"], around: Float[Tensor, "neuron path"]
    ) -> Float[Tensor, " neuron"]:
        """Return the largest error of a computed norm, in float64; zero where nothing but zeros is multiplied.

        Args:
            extent: largest size of a coefficient. around: the reference.
        """
        sizes = (extent.double() + around.double().abs())[:, None]
        largest = torch.bmm(sizes, self.root.double().abs())[:, 0].norm(dim=1)
        # Squares below 2^-126 may count as zero.
        return torch.where(largest > 0, self.rounding * largest + 2.0**-63 * self.root.shape[2] ** 0.5, 0.0)

    @property
    def rounding(self) -> float:
        """rho: the relative error of a product, a sum of as many as there are paths, and the norm, together.

        A sum of K terms rounds K times, the norm K / 2 times more: less than (K + 4) 2^-23 in all. The kernels'
        matrix units may cut where others round, and multiply 16 bits, or 20 in three parts.
        """
        paths = self.root.shape[2]
        if not kernels.on(self.root.device):
            return (paths + 4) * 2.0**-23
        return (paths + 4) * 2.0**-21 + (2.0**-15 if self.low_precision else 2.0**-18)
