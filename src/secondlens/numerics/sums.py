"""Sums of float64 tensors that do not depend on how the addends were grouped.

A float64 sum rounds at every step, so that (a + b) + c and a + (b + c) differ in the last bit, and with them a survey
in one piece and the same survey in shards. Here what a step rounds away is kept in a second float64 (Knuth's two-sum):

    s = h + a,   b = s - h,   e = (h - (s - b)) + (a - b):      h + a = s + e exactly
    l + e = l',  h' = s + l', l'' = l' - (h' - s):              h' + l'' = s + l' exactly, h' the nearest float64

106 bits hold the sum exactly as long as the largest partial sum is less than 2^106 times the last bit of the smallest
addend: for float32 addends of one sign or another, a span of 2^80 between the largest sum and the smallest addend.
Then `value`, the exact sum rounded once, is the same for every order and every grouping.
"""

import torch
from jaxtyping import Float
from torch import Tensor


class WideSum:
    """A running sum: high, the sum rounded to float64; low, the rest."""

    def __init__(self, *shape: int, device: torch.device | None = None) -> None:
        self.high = torch.zeros(shape, dtype=torch.float64, device=device)
        self.low = torch.zeros_like(self.high)

    @classmethod
    def of(cls, high: Float[Tensor, "..."], low: Float[Tensor, "..."] | None = None) -> "WideSum":
        """A sum that stands at a value."""
        made = cls(0)
        made.high = high
        made.low = torch.zeros_like(high) if low is None else low
        return made

    @property
    def value(self) -> Float[Tensor, "..."]:
        """The sum, rounded once."""
        return self.high

    def add(self, addend: Float[Tensor, "..."]) -> None:
        """Add one tensor of the sum's shape."""
        wide = addend.double()
        total = self.high + wide
        part = total - self.high
        rest = self.low + ((self.high - (total - part)) + (wide - part))
        self.high = total + rest
        self.low = rest - (self.high - total)

    def merge(self, other: "WideSum") -> None:
        """Add another sum, which is left as it is."""
        self.add(other.high)
        self.add(other.low)

    def __getitem__(self, rows: Tensor) -> "WideSum":
        return WideSum.of(self.high[rows], self.low[rows])
