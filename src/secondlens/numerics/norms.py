"""Norms of effects from coefficients: with u u^T = R R^T of a neuron (`gram_root`), |sum_k s[k] u[k]| = |s R|."""

from functools import cached_property
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from secondlens import kernels

if TYPE_CHECKING:
    from secondlens.kernels.stream import Root


class Norms:
    """R of a block of neurons, in float32.

    halved: where the kernels run, 16 bits of precision are enough.
    """

    def __init__(self, root: Float[Tensor, "neuron path path"], halved: bool = False) -> None:
        self.root = root.float()
        self.halved = halved

    def __call__(
        self, coefficients: Float[Tensor, "neuron image path"], around: Float[Tensor, "neuron path"]
    ) -> Float[Tensor, "neuron image"]:
        """|(s - c) R| in float32, c being `around`."""
        if kernels.fused(coefficients):
            from secondlens.kernels.stream import norms

            return norms(coefficients, self.prepared, around)
        offset = torch.bmm(around[:, None], self.root)
        return torch.baddbmm(offset, coefficients, self.root, beta=-1).norm(dim=2)

    def wide(self, coefficients: Float[Tensor, "neuron image path"]) -> Float[Tensor, "neuron image path"]:
        """s R in float64."""
        return torch.bmm(coefficients, self.root.double())

    @cached_property
    def prepared(self) -> "Root":
        """R as the kernels want it."""
        from secondlens.kernels.stream import Root

        return Root(self.root, self.halved)

    @property
    def error(self) -> float:
        """What a norm may be off by, over the size of |s R| and |c R|: a sum over paths of rounded products."""
        bits = 23 if not kernels.on(self.root.device) else 15 if self.halved else 21
        return 2.0**-bits * self.root.shape[2] ** 0.5
