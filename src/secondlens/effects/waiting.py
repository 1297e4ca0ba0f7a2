"""Images that wait for their place among the largest, on an accelerator: sorting seldom is cheaper than sorting often.

Once a neuron's candidates and runners-up are full, an image below the last of them, the *floor*, can be let go at
once. The others wait, with their coefficients, until their places are used up: fewer and fewer of a batch do.
"""

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondlens.effects.histogram import LOWEST, PER_OCTAVE, NormHistogram
from secondlens.effects.sums import WideSum

if TYPE_CHECKING:
    from secondlens.kernels.stream import Root


class WaitingRoom:
    """Places a neuron. coefficients, norms, positions: as of candidates, an empty place has norm and position -1.

    floor: norms below need not wait; -1 as long as all must.
    """

    def __init__(self, neurons: int, places: int, paths: int, device: torch.device) -> None:
        self.coefficients = torch.zeros(neurons, places, paths, device=device)
        self.norms = torch.full((neurons, places), -1.0, device=device)
        self.positions = torch.full((neurons, places), -1, dtype=torch.int64, device=device)
        self.filled = torch.zeros(neurons, dtype=torch.int32, device=device)
        self.floor = torch.full((neurons,), -1.0, device=device)
        # Places that may be taken: what is known without asking the device.
        self._most = 0

    @property
    def places(self) -> int:
        """Of each neuron."""
        return self.norms.shape[1]

    def has_room(self, images: int) -> bool:
        """Whether all of some more images could wait."""
        if self._most + images > self.places:
            self._most = int(self.filled.max())
        return self._most + images <= self.places

    def take_in(
        self,
        coefficients: Float[Tensor, "neuron image path"],
        positions: Int[Tensor, " image"],
        root: "Root",
        reference: Float[Tensor, "neuron path"],
        total: WideSum,
        square_total: WideSum,
        histogram: NormHistogram,
    ) -> None:
        """Norms, sums and counts of a batch in one pass; who is not below the floor waits. There must be room."""
        from secondlens.kernels.stream import stream

        stream(
            coefficients,
            positions,
            root,
            reference,
            self.floor,
            (total.high, total.low),
            (square_total.high, square_total.low),
            histogram.counts,
            self.filled,
            (self.coefficients, self.norms, self.positions),
            lowest=LOWEST,
            per_octave=PER_OCTAVE,
        )
        self._most += len(positions)

    def leave(self) -> tuple[Tensor, Tensor, Tensor]:
        """(coefficients, norms, positions) of all that wait; to be used up before the next batch is taken in."""
        most = int(self.filled.max())
        return self.coefficients[:, :most], self.norms[:, :most], self.positions[:, :most]

    def clear(self, floor: Float[Tensor, " neuron"]) -> None:
        """Empty all places."""
        self.norms.fill_(-1)
        self.positions.fill_(-1)
        self.filled.zero_()
        self._most = 0
        self.floor = floor
