"""A buffer of coefficients per neuron: rows are appended, and compacted to those with the largest norms."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

EMPTY = -(2**62)
"""Key of an empty slot, below that of any row."""


def slots_for(capacity: int) -> int:
    """Return the slots per neuron: on a CPU room to append between compactions; the kernels reserve more."""
    return capacity + max(8, capacity // 4)


class Buffer:
    """Rows of coefficients with their norms and positions, per neuron in the first `filled` of its slots."""

    def __init__(self, coefficients: Tensor, norms: Tensor, positions: Tensor, filled: Tensor, most: int) -> None:
        self.coefficients: Float[Tensor, "neuron slot path"] = coefficients
        self.norms: Float[Tensor, "neuron slot"] = norms
        self.positions: Int[Tensor, "neuron slot"] = positions
        self.filled: Int[Tensor, " neuron"] = filled
        self.most = most
        """An upper bound of `filled`; on a GPU it may be larger, so that nothing waits for the device."""
        self._event: torch.cuda.Event | None = None
        self._host: Tensor | None = None

    @classmethod
    def empty(cls, neurons: int, slots: int, paths: int, device: torch.device) -> "Buffer":
        """Return a buffer without rows."""
        return cls(
            torch.zeros(neurons, slots, paths, device=device),
            torch.full((neurons, slots), -1.0, device=device),
            torch.full((neurons, slots), -1, dtype=torch.int32, device=device),
            torch.zeros(neurons, dtype=torch.int32, device=device),
            0,
        )

    @classmethod
    def joined(cls, one: "Buffer", other: "Buffer") -> "Buffer":
        """Return the rows of two buffers that both have all their slots up to `most` filled."""
        slots = one.coefficients.shape[1]
        parts = [(buffer, slice(None, buffer.most)) for buffer in (one, other)]
        rows = [torch.cat([getattr(b, name)[:, s] for b, s in parts], dim=1) for name in ("coefficients", "positions")]
        joined = cls.empty(len(rows[0]), max(slots, one.most + other.most), rows[0].shape[2], rows[0].device)
        joined.load(rows[0], joined.norms[:, : rows[0].shape[1]], rows[1])
        return joined

    def with_slots(self, slots: int) -> "Buffer":
        """Return a buffer of another size with the same rows, all slots up to `most` being filled."""
        if slots == self.slots:
            return self
        copy = Buffer.empty(len(self.norms), slots, self.coefficients.shape[2], self.norms.device)
        some = slice(None, self.most)
        copy.load(self.coefficients[:, some], self.norms[:, some], self.positions[:, some])
        return copy

    @property
    def slots(self) -> int:
        """Slots per neuron."""
        return self.norms.shape[1]

    @property
    def occupied(self) -> Bool[Tensor, "neuron slot"]:
        """Which slots hold a row."""
        return torch.arange(self.slots, device=self.filled.device) < self.filled[:, None]

    def load(self, coefficients: Tensor, norms: Tensor, positions: Tensor) -> None:
        """Fill the first slots of an empty buffer."""
        self.most = coefficients.shape[1]
        self.coefficients[:, : self.most] = coefficients
        self.norms[:, : self.most] = norms
        self.positions[:, : self.most] = positions
        self.filled.fill_(self.most)

    def append_all(self, coefficients: Float[Tensor, "neuron image path"], positions: Int[Tensor, " image"]) -> None:
        """Append rows to every neuron, while all have as many."""
        stop = self.most + len(positions)
        self.coefficients[:, self.most : stop] = coefficients
        self.positions[:, self.most : stop] = positions
        self.most = stop
        self.filled.fill_(stop)

    def append(
        self,
        enters: Bool[Tensor, "neuron image"],
        coefficients: Float[Tensor, "neuron image path"],
        norms: Float[Tensor, "neuron image"],
        positions: Int[Tensor, " image"],
    ) -> bool:
        """Append the rows that `enters` marks, and return True; or change nothing where they do not fit."""
        filled = self.filled + enters.sum(dim=1, dtype=torch.int32)
        most = int(filled.max())
        if most > self.slots:
            return False
        neuron, image = enters.nonzero(as_tuple=True)
        slot = (self.filled[:, None] + enters.cumsum(dim=1) - 1)[neuron, image]
        self.coefficients[neuron, slot] = coefficients[neuron, image]
        self.norms[neuron, slot] = norms[neuron, image]
        self.positions[neuron, slot] = positions[image]
        self.filled, self.most = filled, most
        return True

    def compact(self, capacity: int) -> Float[Tensor, " neuron"]:
        """Keep the rows with the largest norms, of equal ones the lower positions; return the smallest norm kept.

        Rows that stay behind the first `capacity` slots take those of rows that are evicted: nothing else is moved.
        """
        most = int(self.filled.max())
        if most > capacity:
            # One integer per row: the bits of a norm that is not negative are in the order of the norms.
            keys = (self.norms[:, :most].contiguous().view(torch.int32).long() << 32) - self.positions[:, :most]
            keys.masked_fill_(~self.occupied[:, :most], EMPTY)
            evicted = torch.zeros_like(keys, dtype=torch.bool)
            evicted.scatter_(1, keys.topk(most - capacity, dim=1, largest=False).indices, True)
            # As many slots are free in front as rows stay behind, neuron by neuron: the two lists pair up.
            neuron, target = evicted[:, :capacity].nonzero(as_tuple=True)
            source = (~evicted[:, capacity:]).nonzero(as_tuple=True)[1] + capacity
            for tensor in (self.coefficients, self.norms, self.positions):
                tensor[neuron, target] = tensor[neuron, source]
            self.norms[:, capacity:most] = -1.0
        self.filled.fill_(capacity)
        self.most = capacity
        return self.norms[:, :capacity].amin(dim=1)

    def sort(self) -> None:
        """Put the rows, all slots up to `most`, in the order of their positions: what follows depends on the set."""
        order = self.positions[:, : self.most].argsort(dim=1)
        rows = order[:, :, None].expand(-1, -1, self.coefficients.shape[2])
        self.coefficients[:, : self.most] = self.coefficients.gather(1, rows)
        self.norms[:, : self.most] = self.norms.gather(1, order)
        self.positions[:, : self.most] = self.positions.gather(1, order)

    def reserve(self, capacity: int, images: int) -> None:
        """Make slots for a whole batch beside two compacted buffers' rows, on a GPU."""
        slots = 2 * capacity + images
        if slots <= self.slots:
            return
        larger = Buffer.empty(len(self.norms), slots, self.coefficients.shape[2], self.norms.device)
        for name in ("coefficients", "norms", "positions"):
            getattr(larger, name)[:, : self.slots] = getattr(self, name)
        self.coefficients, self.norms, self.positions = larger.coefficients, larger.norms, larger.positions

    def has_room(self, images: int) -> bool:
        """Whether a whole batch fits, by the number of rows that the device last reported."""
        if self.most + images > self.slots and self._host is not None:
            if self._event is not None:
                self._event.synchronize()
            self.most = int(self._host)
        return self.most + images <= self.slots

    def appended(self, images: int) -> None:
        """Note that a kernel appended at most so many rows, and have the device report how many there are."""
        cuda = self.filled.is_cuda
        if self._host is None:
            self._host = torch.zeros((), dtype=torch.int32, pin_memory=cuda)
            self._event = torch.cuda.Event() if cuda else None
        self.most += images
        self._host.copy_(self.filled.max(), non_blocking=True)
        if self._event is not None:
            self._event.record()


TIED = 2.0**-40
"""Relative difference up to which two float64 norms count as equal."""


def descending(
    norms: Float[Tensor, "neuron slot"], positions: Int[Tensor, "neuron slot"]
) -> tuple[Int[Tensor, "neuron slot"], Float[Tensor, "neuron slot"]]:
    """Return the slots by norm, descending, of tied norms the lower position first; and the norms, tied ones equal.

    Norms are tied where each equals the next to within rounding: equal rows in different slots may differ in the last
    bits. Rounding each norm instead would part those that lie on either side of a midpoint.
    """
    values, slots = norms.sort(dim=1, descending=True)
    opens = torch.ones_like(values, dtype=torch.bool)
    opens[:, 1:] = values[:, :-1] - values[:, 1:] > TIED * values[:, :-1]
    group = opens.cumsum(dim=1)
    by_position = positions.gather(1, slots).argsort(dim=1)
    within = by_position.gather(1, group.gather(1, by_position).argsort(dim=1, stable=True))
    first = torch.where(opens, torch.arange(values.shape[1], device=values.device), 0).cummax(dim=1).values
    return slots.gather(1, within), values.gather(1, first)
