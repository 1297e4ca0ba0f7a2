"""The candidates of a block of neurons: the images with the largest norms so far, with their coefficients."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondlens.effects.runners import by_position, ranks
from secondlens.errors import SecondLensError

PARTS = {"held": 0.0, "norms": -1.0, "positions": -1}
"""Tensors with a place a candidate, and what marks an empty place: every image that comes is larger."""


class Candidates:
    """held: coefficients of the images; norms around the reference; positions: their numbers."""

    def __init__(self, neurons: int, places: int, paths: int, device: torch.device) -> None:
        self.held: Float[Tensor, "neuron place path"] = torch.zeros(neurons, places, paths, device=device)
        self.norms: Float[Tensor, "neuron place"] = torch.full((neurons, places), -1.0, device=device)
        self.positions: Int[Tensor, "neuron place"] = torch.full(
            (neurons, places), -1, dtype=torch.int64, device=device
        )

    @property
    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """(held, norms, positions)."""
        return self.held, self.norms, self.positions

    @property
    def taken(self) -> Tensor:
        """[neuron, place]: whether an image is there."""
        return self.positions >= 0

    def fill(self, start: int, coefficients: Tensor, positions: Int[Tensor, " image"]) -> None:
        """The next places, the same of every neuron; without norms."""
        span = slice(start, start + len(positions))
        self.held[:, span] = coefficients
        self.positions[:, span] = positions

    def keep_largest(self, coefficients: Tensor, norms: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Of what is held and what comes, keep the largest norms; what enters takes the place of what leaves.

        (norms, positions) of what does not stay, empty places among it.
        """
        places = self.norms.shape[1]
        both = ranks(torch.cat([self.norms, norms], dim=1), torch.cat([self.positions, positions], dim=1))
        stays = torch.zeros_like(both, dtype=torch.bool)
        stays.scatter_(1, both.topk(places, dim=1, sorted=False).indices, True)
        entering, leaving = stays[:, places:], ~stays[:, :places]
        # Row by row as many enter as leave, and nonzero goes row by row: the two lists pair up.
        neuron, source = entering.nonzero(as_tuple=True)
        _, place = leaving.nonzero(as_tuple=True)
        out_norms, out_positions = norms.clone(), positions.clone()
        out_norms[neuron, source] = self.norms[neuron, place]
        out_positions[neuron, source] = self.positions[neuron, place]
        self.held[neuron, place] = coefficients[neuron, source]
        self.norms[neuron, place] = norms[neuron, source]
        self.positions[neuron, place] = positions[neuron, source]
        return out_norms, out_positions

    def unless_held(self, norms: Tensor, positions: Tensor) -> Tensor:
        """Norms, or -1 for an image that is held already."""
        return torch.where((positions[:, :, None] == self.positions[:, None]).any(dim=2), -1.0, norms)

    def put_in_order(self) -> None:
        """Sort by position."""
        order = by_position(self.positions)
        if not torch.equal(order, torch.arange(order.shape[1], device=order.device).expand_as(order)):
            self.held = self.held.gather(1, order[:, :, None].expand_as(self.held))
            self.norms, self.positions = self.norms.gather(1, order), self.positions.gather(1, order)

    def state(self, places: int) -> dict[str, Tensor]:
        """The first places."""
        return {name: getattr(self, name)[:, :places].clone() for name in PARTS}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take the first places from a state; the others become empty."""
        for name, nothing in PARTS.items():
            mine, found = getattr(self, name), state[name]
            places = found.shape[1]
            if places > mine.shape[1] or (found.shape[0], *found.shape[2:]) != (mine.shape[0], *mine.shape[2:]):
                raise SecondLensError(
                    f"expected a state with {name} of shape {list(mine.shape)}, got {list(found.shape)}"
                )
            made = torch.full_like(mine, nothing)
            made[:, :places] = found.to(mine.device)
            setattr(self, name, made)
