"""Who comes behind the candidates of a neuron: numbers and norms of the next images, and what was let go altogether."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Runners:
    """The `places` images with the largest norms of those that were added; an empty place has norm and position -1.

    released: the largest norm that any image outside may have; 0 where there is none.
    """

    def __init__(self, neurons: int, places: int, device: torch.device | None = None) -> None:
        self.places = places
        self.norms = torch.full((neurons, places), -1.0, device=device)
        self.positions = torch.full((neurons, places), -1, dtype=torch.int64, device=device)
        self.released = torch.zeros(neurons, device=device)
        self._pending: list[tuple[Tensor, Tensor]] = []

    def add(self, norms: Float[Tensor, "neuron image"], positions: Int[Tensor, "neuron image"]) -> None:
        """Take in some images, empty places among them; put off until there are enough of them."""
        self._pending.append((norms, positions))
        if sum(some.shape[1] for some, _ in self._pending) >= self.places:
            self.settle()

    @property
    def floor(self) -> Float[Tensor, " neuron"]:
        """Norms below cannot belong here any more; -1 where there are free places."""
        return self.norms.amin(dim=1)

    def settle(self) -> None:
        """Choose now."""
        if not self._pending:
            return
        both = torch.cat([self.norms, *(norms for norms, _ in self._pending)], dim=1)
        positions = torch.cat([self.positions, *(some for _, some in self._pending)], dim=1)
        self._pending = []
        kept = ranks(both, positions).topk(self.places, dim=1, sorted=False).indices
        self.norms, self.positions = both.gather(1, kept), positions.gather(1, kept)
        # Wherever the places are full, nobody outside is above the smallest inside.
        gone = (both >= 0).sum(dim=1) > self.places
        self.released = torch.where(gone, torch.maximum(self.released, self.floor), self.released)

    def put_in_order(self) -> None:
        """Choose now, and sort by position."""
        self.settle()
        order = by_position(self.positions)
        self.norms, self.positions = self.norms.gather(1, order), self.positions.gather(1, order)

    def merge(self, other: "Runners", apart: Float[Tensor, " neuron"]) -> None:
        """Add another's, whose norms may be `apart` larger here."""
        bounds = torch.where(other.positions >= 0, other.norms + apart[:, None], -1.0)
        self.add(bounds, other.positions)
        self.released = torch.maximum(self.released, torch.where(other.released > 0, other.released + apart, 0.0))


def by_position(positions: Int[Tensor, "neuron image"]) -> Int[Tensor, "neuron image"]:
    """Places in the order of their images' numbers, empty ones last."""
    return torch.where(positions < 0, torch.iinfo(torch.int64).max, positions).argsort(dim=1, stable=True)


def ranks(norms: Float[Tensor, "neuron image"], positions: Int[Tensor, "neuron image"]) -> Int[Tensor, "neuron image"]:
    """Numbers that order images by norm and, where norms are equal, by position, the lower one first.

    The bits of float32 numbers that are not negative order as the numbers do; an empty place is below all of them.
    """
    return (norms.contiguous().view(torch.int32).long() << 32) - positions
