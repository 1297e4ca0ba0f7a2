"""Images that wait for their place among the largest, on an accelerator: sorting seldom is cheaper than sorting often.

Once a neuron's candidates and runners-up are full, an image below the last of them, the *floor*, can be let go at
once. The others wait, with their coefficients, until their places are used up: fewer and fewer of a batch do.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondlens.effects.candidates import Candidates
from secondlens.effects.runners import Runners
from secondlens.numerics.histogram import LOWEST, PER_OCTAVE, NormHistogram
from secondlens.numerics.norms import Norms
from secondlens.numerics.sums import WideSum


class WaitingRoom:
    """waiting: places as those of candidates, of which `filled` count, a neuron.

    floor: norms below need not wait; -1 as long as all must.
    """

    def __init__(self, neurons: int, places: int, paths: int, device: torch.device) -> None:
        self.waiting = Candidates(neurons, places, paths, device)
        self.filled = torch.zeros(neurons, dtype=torch.int32, device=device)
        self.floor = torch.full((neurons,), -1.0, device=device)
        # Places that may be taken, without asking the device; and where it says how many are, by and by.
        self._most = 0
        self._used = False
        cuda = device.type == "cuda"
        self._taken = torch.zeros((), dtype=torch.int32, pin_memory=cuda)
        self._told = torch.cuda.Event() if cuda else None

    @property
    def places(self) -> int:
        """Of each neuron."""
        return self.waiting.norms.shape[1]

    @staticmethod
    def places_for(candidates: int, images: int) -> int:
        """How many suit batches of some images; none where a program could not choose among so many."""
        from secondlens.kernels.settle import MOST

        places = min(images + 2 * candidates, MOST - 2 * candidates)
        return places if places >= images else 0

    def has_room(self, images: int) -> bool:
        """Whether all of some more images could wait."""
        if self._most + images > self.places:
            if self._told is not None:
                self._told.synchronize()
            self._most = int(self._taken)
        return self._most + images <= self.places

    def take_in(
        self,
        coefficients: Float[Tensor, "neuron image path"],
        positions: Int[Tensor, " image"],
        norms_of: Norms,
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
            norms_of.prepared,
            reference,
            self.floor,
            (total.high, total.low),
            (square_total.high, square_total.low),
            histogram.counts,
            self.filled,
            self.waiting.parts,
            lowest=LOWEST,
            per_octave=PER_OCTAVE,
        )
        self._most += len(positions)
        self._used = True
        self._taken.copy_(self.filled.max(), non_blocking=True)
        if self._told is not None:
            self._told.record()

    def leave(self, candidates: Candidates, runners: Runners, outside: bool) -> None:
        """All go to their places among candidates and runners-up, or are let go. outside: others were before."""
        from secondlens.kernels.settle import settle

        # Where nobody waits, images that were let go must still be told of.
        if not self._used:
            return
        runners.settle()
        settle(
            candidates.parts,
            (runners.norms, runners.positions),
            self.waiting.parts,
            self.filled,
            self.floor,
            runners.released,
            outside,
            min(self._most, self.places),
        )
        self._most, self._used = 0, False
        self._taken.zero_()
