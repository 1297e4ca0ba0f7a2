"""Sums of float64 tensors that do not depend on how the addends are grouped.

A float64 sum rounds at every step, so (a + b) + c and a + (b + c) differ in the last bit, and with them a survey in one
piece and the same survey in parts. Here the rounding error of each step is kept in a second float64 (Knuth's two-sum):

    s = h + a,   b = s - h,   e = (h - (s - b)) + (a - b):      h + a = s + e exactly
    l + e = l',  h' = s + l', l'' = l' - (h' - s):              h' + l'' = s + l' exactly, h' the nearest float64

106 bits hold the sum exactly as long as the largest partial sum is less than 2^106 times the last bit of the smallest
addend: for float32 addends, a span of 2^80 between the largest partial sum and the smallest addend. Then `value`, the
exact sum rounded once, is the same for every order and every grouping.
"""

import torch
from jaxtyping import Float
from torch import Tensor


class CompensatedSum:
    """A running sum. high: the sum rounded to float64; low: its rounding error."""

    def __init__(self, *shape: int, device: torch.device | None = None) -> None:
        self.high = torch.zeros(shape, dtype=torch.float64, device=device)
        self.low = torch.zeros_like(self.high)

    @property
    def value(self) -> Float[Tensor, "..."]:
        """The sum, rounded once."""
        return self.high

    def add(self, addend: Float[Tensor, "..."]) -> None:
        """Add one tensor of the sum's shape."""
        addend = addend.double()
        total = self.high + addend
        part = total - self.high
        error = self.low + ((self.high - (total - part)) + (addend - part))
        self.high = total + error
        self.low = error - (self.high - total)

    def merge(self, other: "CompensatedSum") -> None:
        """Add another sum, which stays unchanged."""
        self.add(other.high)
        self.add(other.low)
