"""Mergeable statistics of the second-order effects of a block of neurons, in one pass over the images.

All of it lives in path space: with u u^T = R R^T of a neuron (`gram_root`), |sum_k s[k] u[k]| = |s R|.

1. While fewer images than `candidates` have come, keep all their coefficients.
2. When there are that many, their mean becomes the reference c, once and for all.
3. From then on keep, per neuron, the coefficients of the `candidates` images with the largest norm around c, and of as
   many after them, the *runners-up*, only number and norm. Any other image had a norm of at most `released`.
4. At the end, norms are taken around the final mean, which can add at most |mean - c| to a norm around c. A neuron
   whose top-th norm is above every runner-up's bound is *proved*: no image without coefficients belongs to its top.
5. For the others a second pass looks at just those runners-up that could belong (`ambiguous`), around the mean that is
   then known; at all images only where even `released` could.

Sums over batches are float64 and do not depend on their grouping (`numerics.sums`), ties go to the image of the lower
number, and a result looks at what is held in the order of those numbers: so images that came in one pass, and images
that came in shards around one reference and were merged, give the same bits. `update`, `merge`, `result`, `state_dict`:
one machine, resumed runs and a cluster use the same code.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondlens.effects.candidates import Candidates
from secondlens.effects.runners import Runners
from secondlens.effects.top import Moments, TopEffects, moments, top_effects
from secondlens.effects.waiting import WaitingRoom
from secondlens.errors import SecondLensError
from secondlens.kernels import fused
from secondlens.numerics.histogram import NormHistogram
from secondlens.numerics.norms import Norms
from secondlens.numerics.sums import WideSum

SUMS = ("total", "square_total")


class EffectStatistics:
    """Streaming statistics of a block of neurons.

    root: R of each neuron. candidates: how many images to keep a neuron, at least the `top` asked of `result`.
    complete: a second pass, which seeks the largest norms only; its state comes from `second_pass`.
    halved: of a model in half precision; where the kernels run, norms of the first pass have 16 bits.
    """

    def __init__(
        self,
        root: Float[Tensor, "neuron path path"],
        candidates: int,
        complete: bool = False,
        halved: bool = False,
    ) -> None:
        if candidates < 1:
            raise SecondLensError(f"expected at least one candidate image a neuron, got {candidates}")
        neurons, paths = root.shape[0], root.shape[2]
        device = root.device
        self.norms_of = Norms(root, halved and not complete)
        self.places = candidates
        self.count = 0
        # Of the images after those that fixed the reference: theirs are added when it is fixed.
        self.total = WideSum(neurons, paths, device=device)
        self.square_total = WideSum(neurons, device=device)
        self.complete = complete
        self.halved = halved
        self.reference: Tensor | None = None
        self.histogram = NormHistogram(neurons, device=device)
        self.candidates = Candidates(neurons, candidates, paths, device)
        self.runners = Runners(neurons, candidates, device)
        self._waiting: WaitingRoom | None = None

    @property
    def root(self) -> Float[Tensor, "neuron path path"]:
        """R of each neuron, float32."""
        return self.norms_of.root

    @property
    def filling(self) -> bool:
        """Still keeping every image, with no reference yet."""
        return self.reference is None

    def update(self, coefficients: Float[Tensor, "neuron image path"], positions: Int[Tensor, " image"]) -> None:
        """Take in the coefficients of some images; `positions` are their (unique) numbers in the survey."""
        if self.filling:
            room = self.places - self.count
            self._fill(coefficients[:, :room], positions[:room])
            # Contiguous, so that the products over them are the same wherever they come from.
            coefficients, positions = coefficients[:, room:].contiguous(), positions[room:]
        if len(positions):
            self._stream(coefficients, positions)

    @property
    def sum(self) -> Float[Tensor, "neuron path"]:
        """Of the coefficients of all images so far."""
        return self.candidates.held[:, : self.count].double().sum(dim=1) if self.filling else self.total.value

    def merge(self, other: "EffectStatistics") -> None:
        """Add what another pass over other images found; `other` is left as it is.

        Around another reference, norms that were let go are at most the distance of the references larger, and the
        histogram stays as it was counted: both enter `drift` and the proof.
        """
        # One that keeps all its images may have room for more of them than can be held here.
        fits = other.places == self.places or (other.filling and other.places > self.places)
        if other.root.shape != self.root.shape or not fits:
            raise SecondLensError("expected statistics of the same neurons with as many candidates to merge")
        theirs = other.candidates
        if other.filling:
            self.update(theirs.held[:, : other.count], theirs.positions[0, : other.count])
            return
        if self.filling:
            mine = (self.candidates.held[:, : self.count].clone(), self.candidates.positions[0, : self.count].clone())
            self.load_state_dict(other.state_dict())
            self.update(*mine)
            return
        if self.complete:
            unseen = self.candidates.unless_held(theirs.norms, theirs.positions)
            self._keep_largest(theirs.held, unseen, theirs.positions)
            return
        assert self.reference is not None
        assert other.reference is not None
        other._settle()
        apart, norms = torch.zeros_like(self.runners.released), theirs.norms
        if not torch.equal(self.reference, other.reference):
            apart = self.norms_of(other.reference[:, None], self.reference)[:, 0]
            norms = torch.where(theirs.taken, self.norms_of(theirs.held, self.reference), -1.0)
            # Moving the second moment from one reference to the other: sum |x - c|^2 = sum |x - d|^2 + ...
            shift = (other.reference - self.reference).double()
            toward = (other.sum - other.count * other.reference.double())[:, None]
            cross = (self.norms_of.wide(toward) * self.norms_of.wide(shift[:, None])).sum(dim=(1, 2))
            self.square_total.add(2 * cross + other.count * apart.double().square())
        self.square_total.merge(other.square_total)
        self.total.merge(other.total)
        self.count += other.count
        self.histogram.merge(other.histogram)
        self._keep_largest(theirs.held, norms, theirs.positions)
        self.runners.merge(other.runners, apart)

    def shard_state(self) -> dict[str, Tensor]:
        """The state with which statistics of other images begin, to be merged here: nothing yet around the same
        reference; of a second pass, what it begins with.
        """
        if self.complete:
            return self.state_dict()
        empty = EffectStatistics(self.root, self.places, halved=self.halved)
        empty.reference = self.reference
        return empty.state_dict()

    def merge_state(self, state: dict[str, Tensor]) -> None:
        """Add what statistics in another place found, by their `state_dict`."""
        other = EffectStatistics(self.root, max(self.places, state["held"].shape[1]), self.complete, self.halved)
        other.load_state_dict(state)
        self.merge(other)

    def result(self, top: int) -> TopEffects:
        """Statistics around the mean of everything so far; raises where fewer than `top` images have come."""
        if self.count < top or top > self.places:
            raise SecondLensError(
                f"asked for the {top} largest effects of {self.count} images with {self.places} candidates; "
                "expected at most as many as there are"
            )
        self._put_in_order()
        return top_effects(self.candidates, self.runners, self._moments(), self.norms_of, top)

    def second_pass(self, neurons: Tensor, top: int) -> "EffectStatistics":
        """Statistics of some of the neurons around the mean, holding what is held here: for step 5.

        Give it the ambiguous images; it ignores those that it holds.
        """
        self._put_in_order()
        found = self._moments()
        again = EffectStatistics(self.root[neurons], top, complete=True, halved=self.halved)
        again.reference = found.mean[neurons].float()
        held, positions = self.candidates.held[neurons], self.candidates.positions[neurons]
        norms = torch.where(positions >= 0, again.norms_of(held, again.reference), -1.0)
        again._keep_largest(held, norms, positions)
        again.total, again.count = WideSum.of(self.sum[neurons]), self.count
        again.square_total = WideSum.of(found.variance[neurons] * self.count)
        again.histogram.counts = self.histogram.counts[neurons]
        return again

    def state_dict(self) -> dict[str, Tensor]:
        """Everything but `root`, as tensors, without empty places; a reference that is not yet fixed is absent."""
        self._put_in_order()
        state = self.candidates.state(self.count if self.filling else int(self.candidates.taken.sum(dim=1).max()))
        behind = int((self.runners.positions >= 0).sum(dim=1).max())
        state["runner_norms"] = self.runners.norms[:, :behind].clone()
        state["runner_positions"] = self.runners.positions[:, :behind].clone()
        for name in SUMS:
            state |= {f"{name}.high": getattr(self, name).high.clone(), f"{name}.low": getattr(self, name).low.clone()}
        state |= {"released": self.runners.released.clone(), "count": torch.tensor(self.count)}
        state["histogram"] = self.histogram.counts.clone()
        if self.reference is not None:
            state["reference"] = self.reference.clone()
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from a state; the same `root` and `candidates` must have been given."""
        device = self.root.device
        self.candidates.load(state)
        self.runners = Runners(len(self.root), self.places, device)
        self.runners.add(state["runner_norms"].to(device), state["runner_positions"].to(device))
        self.runners.settle()
        self.runners.released = state["released"].to(device, copy=True)
        for name in SUMS:
            parts = (state[f"{name}.{part}"].to(device, copy=True) for part in ("high", "low"))
            setattr(self, name, WideSum.of(*parts))
        self._waiting = None
        self.count = int(state["count"])
        self.histogram.counts = state["histogram"].to(device, copy=True)
        reference = state.get("reference")
        self.reference = None if reference is None else reference.to(device, copy=True)

    def _fill(self, coefficients: Tensor, positions: Tensor) -> None:
        self.candidates.fill(self.count, coefficients, positions)
        self.count += len(positions)
        if self.count == self.places:
            self.total.add(self.sum)
            self.reference = (self.total.value / self.count).float()
            self.candidates.norms = self.norms_of(self.candidates.held, self.reference)
            self._count_norms(self.candidates.norms)

    def _stream(self, coefficients: Tensor, positions: Tensor) -> None:
        assert self.reference is not None
        if not self.complete and fused(coefficients) and self._make_room(len(positions)):
            assert self._waiting is not None
            sums = (self.total, self.square_total, self.histogram)
            self._waiting.take_in(coefficients, positions, self.norms_of, self.reference, *sums)
            self.count += len(positions)
            return
        norms, positions = self.norms_of(coefficients, self.reference), positions.expand(len(coefficients), -1)
        if self.complete:
            self._keep_largest(coefficients, self.candidates.unless_held(norms, positions), positions)
            return
        self._count_norms(norms)
        self.total.add(coefficients.sum(dim=1))
        self.count += positions.shape[1]
        self._keep_largest(coefficients, norms, positions)

    def _make_room(self, images: int) -> bool:
        """Whether some images can wait, after those before them have left if need be."""
        places = WaitingRoom.places_for(self.places, images)
        if self._waiting is None or self._waiting.places < places or not self._waiting.has_room(images):
            self._settle()
        if places and (self._waiting is None or self._waiting.places < places):
            neurons, _, paths = self.root.shape
            self._waiting = WaitingRoom(neurons, places, paths, self.root.device)
            self._waiting.floor = self.runners.floor
        return places > 0

    def _settle(self) -> None:
        """Give the images that wait their places, and choose the runners-up."""
        # Of more images than there are places, some were let go.
        outside = self.count > self.places + self.runners.places
        if self._waiting is not None:
            self._waiting.leave(self.candidates, self.runners, outside)
        self.runners.settle()

    def _count_norms(self, norms: Tensor) -> None:
        self.histogram.update(norms)
        self.square_total.add(norms.double().square().sum(dim=1))

    def _keep_largest(self, coefficients: Tensor, norms: Tensor, positions: Tensor) -> None:
        left = self.candidates.keep_largest(coefficients, norms, positions)
        if not self.complete:
            self.runners.add(*left)

    def _put_in_order(self) -> None:
        """Sort by position what is held, and the runners-up: the order in which images came does not show."""
        self._settle()
        self.runners.put_in_order()
        if not self.filling:
            self.candidates.put_in_order()

    def _moments(self) -> Moments:
        mean, second = self.sum / self.count, self.square_total.value
        return moments(mean, self.reference, second, self.candidates, self.norms_of, self.count)
