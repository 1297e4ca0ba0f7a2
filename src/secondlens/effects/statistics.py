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

Sums over batches are float64 and do not depend on their grouping (`effects.sums`), ties go to the image of the lower
number, and a result looks at what is held in the order of those numbers: so images that came in one pass, and images
that came in shards around one reference and were merged, give the same bits. `update`, `merge`, `result`, `state_dict`:
one machine, resumed runs and a cluster use the same code.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondlens.effects.histogram import NormHistogram
from secondlens.effects.runners import Runners, by_position, ranks
from secondlens.effects.sums import WideSum
from secondlens.effects.waiting import WaitingRoom
from secondlens.errors import SecondLensError
from secondlens.kernels import fused

if TYPE_CHECKING:
    from secondlens.kernels.stream import Root

FLOAT32_EPS = torch.finfo(torch.float32).eps


@dataclass(frozen=True)
class TopEffects:
    """What a pass found about a block of neurons.

    mean: mean coefficients. positions, norms: images with the largest |phi - mean phi|, descending, ties by position.
    centred: their coefficients less the mean. rows: the same times R, the effects in an orthonormal basis.
    variance: mean over images of |phi - mean phi|^2.
    proved: no other image can belong to the top. drift: |mean phi - reference|, which blurs the histogram.
    ambiguous: numbers of the images that could belong to the top of a neuron that is not proved; None if any could.
    """

    mean: Float[Tensor, "neuron path"]
    positions: Int[Tensor, "neuron top"]
    norms: Float[Tensor, "neuron top"]
    centred: Float[Tensor, "neuron top path"]
    rows: Float[Tensor, "neuron top path"]
    variance: Float[Tensor, " neuron"]
    proved: Tensor
    drift: Float[Tensor, " neuron"]
    ambiguous: Int[Tensor, " image"] | None


SUMS = ("total", "square_total")
HELD = {"held": 0.0, "norms": -1.0, "positions": -1}
"""Tensors with a place a candidate, and what marks an empty place: every image that comes is larger."""


class EffectStatistics:
    """Streaming statistics of a block of neurons.

    root: R of each neuron. candidates: how many images to keep a neuron, at least the `top` asked of `result`.
    complete: a second pass, which seeks the largest norms only; its state comes from `second_pass`.
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
        self.root = root.float()
        self.candidates = candidates
        self.count = 0
        # Of the images after those that fixed the reference: theirs are added when it is fixed.
        self.total = WideSum(neurons, paths, device=device)
        self.square_total = WideSum(neurons, device=device)
        self.complete = complete
        self.halved = halved
        self.reference: Tensor | None = None
        self.histogram = NormHistogram(neurons, device=device)
        self.held = torch.zeros(neurons, candidates, paths, device=device)
        self.norms = torch.full((neurons, candidates), -1.0, device=device)
        self.positions = torch.full((neurons, candidates), -1, dtype=torch.int64, device=device)
        self._waiting: WaitingRoom | None = None
        self._fused_root: Root | None = None
        self.runners = Runners(neurons, candidates, device)

    @property
    def filling(self) -> bool:
        """Still keeping every image, with no reference yet."""
        return self.reference is None

    def update(self, coefficients: Float[Tensor, "neuron image path"], positions: Int[Tensor, " image"]) -> None:
        """Take in the coefficients of some images; `positions` are their (unique) numbers in the survey."""
        if self.filling:
            room = self.candidates - self.count
            self._fill(coefficients[:, :room], positions[:room])
            # Contiguous, so that the products over them are the same wherever they come from.
            coefficients, positions = coefficients[:, room:].contiguous(), positions[room:]
        if len(positions):
            self._stream(coefficients, positions)

    @property
    def sum(self) -> Float[Tensor, "neuron path"]:
        """Of the coefficients of all images so far."""
        return self.held[:, : self.count].double().sum(dim=1) if self.filling else self.total.value

    def merge(self, other: "EffectStatistics") -> None:
        """Add what another pass over other images found; `other` is left as it is.

        Around another reference, norms that were let go are at most the distance of the references larger, and the
        histogram stays as it was counted: both enter `drift` and the proof.
        """
        # One that keeps all its images may have room for more of them than can be held here.
        fits = other.candidates == self.candidates or (other.filling and other.candidates > self.candidates)
        if other.root.shape != self.root.shape or not fits:
            raise SecondLensError("expected statistics of the same neurons with as many candidates to merge")
        if other.filling:
            self.update(other.held[:, : other.count], other.positions[0, : other.count])
            return
        if self.filling:
            mine = (self.held[:, : self.count].clone(), self.positions[0, : self.count].clone())
            self.load_state_dict(other.state_dict())
            self.update(*mine)
            return
        if self.complete:
            self._keep_largest(other.held, self._unless_held(other.norms, other.positions), other.positions)
            return
        assert self.reference is not None
        assert other.reference is not None
        other._select()
        other.runners.settle(other._outside)
        apart, norms = torch.zeros_like(self.runners.released), other.norms
        if not torch.equal(self.reference, other.reference):
            apart = self._norms(other.reference[:, None])[:, 0]
            norms = torch.where(other.positions >= 0, self._norms(other.held), -1.0)
            # Moving the second moment from one reference to the other: sum |x - c|^2 = sum |x - d|^2 + ...
            shift = (other.reference - self.reference).double()
            toward = (other.sum - other.count * other.reference.double())[:, None]
            cross = (self._wide(toward) * self._wide(shift[:, None])).sum(dim=(1, 2))
            self.square_total.add(2 * cross + other.count * apart.double().square())
        self.square_total.merge(other.square_total)
        self.total.merge(other.total)
        self.count += other.count
        self.histogram.merge(other.histogram)
        self._keep_largest(other.held, norms, other.positions)
        self.runners.merge(other.runners, apart)

    def shard_state(self) -> dict[str, Tensor]:
        """The state with which statistics of other images begin, to be merged here: nothing yet around the same
        reference; of a second pass, what it begins with.
        """
        if self.complete:
            return self.state_dict()
        empty = EffectStatistics(self.root, self.candidates, halved=self.halved)
        empty.reference = self.reference
        return empty.state_dict()

    def merge_state(self, state: dict[str, Tensor]) -> None:
        """Add what statistics in another place found, by their `state_dict`."""
        other = EffectStatistics(self.root, max(self.candidates, state["held"].shape[1]), self.complete, self.halved)
        other.load_state_dict(state)
        self.merge(other)

    def result(self, top: int) -> TopEffects:
        """Statistics around the mean of everything so far; raises where fewer than `top` images have come."""
        if self.count < top or top > self.candidates:
            raise SecondLensError(
                f"asked for the {top} largest effects of {self.count} images with {self.candidates} candidates; "
                "expected at most as many as there are"
            )
        self._put_in_order()
        mean = self.sum / self.count
        # float32 picks a few more than asked for, float64 ranks them: ties are then as close as float32's rounding.
        rough = torch.where(self.positions >= 0, self._norms(self.held, mean.float()), -1.0)
        picked = rough.topk(min(self.candidates, top + top // 8 + 8), dim=1).indices
        # Ties by position, so that the order in which images came does not show.
        picked = picked.gather(1, self.positions.gather(1, picked).argsort(dim=1))
        neuron = torch.arange(len(picked), device=picked.device)[:, None]
        positions = self.positions[neuron, picked]
        centred = self.held[neuron, picked].double() - mean[:, None]
        rows = self._wide(centred)
        norms = torch.where(positions >= 0, rows.norm(dim=2), -1.0)
        order = norms.argsort(dim=1, descending=True, stable=True)[:, :top]
        norms = norms.gather(1, order)
        drift, slack, variance = self._around(mean)
        threshold = norms[:, -1:]
        runners = self.runners
        maybe = (runners.positions >= 0) & (runners.norms + (drift + slack)[:, None] >= threshold)
        lost = (runners.released > 0) & (runners.released + drift + slack >= threshold[:, 0])
        return TopEffects(
            mean=mean,
            positions=positions.gather(1, order),
            norms=norms,
            centred=centred[neuron, order],
            rows=rows[neuron, order],
            variance=variance,
            proved=~(maybe.any(dim=1) | lost),
            drift=drift,
            ambiguous=None if lost.any() else runners.positions[maybe].unique(),
        )

    def second_pass(self, neurons: Tensor, top: int) -> "EffectStatistics":
        """Statistics of some of the neurons around the mean, holding what is held here: for step 5.

        Give it the ambiguous images; it ignores those that it holds.
        """
        self._put_in_order()
        mean = self.sum / self.count
        again = EffectStatistics(self.root[neurons], top, complete=True, halved=self.halved)
        again.reference = mean[neurons].float()
        held, positions = self.held[neurons], self.positions[neurons]
        again._keep_largest(held, torch.where(positions >= 0, again._norms(held), -1.0), positions)
        again.total, again.count = WideSum.of(self.sum[neurons]), self.count
        again.square_total = WideSum.of(self._around(mean)[2][neurons] * self.count)
        again.histogram.counts = self.histogram.counts[neurons]
        return again

    def state_dict(self) -> dict[str, Tensor]:
        """Everything but `root`, as tensors, without empty places; a reference that is not yet fixed is absent."""
        self._put_in_order()
        held = self.count if self.filling else int((self.positions >= 0).sum(dim=1).max())
        behind = int((self.runners.positions >= 0).sum(dim=1).max())
        state = {name: getattr(self, name)[:, :held].clone() for name in HELD}
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
        for name, nothing in HELD.items():
            mine, found = getattr(self, name), state[name]
            places = found.shape[1]
            if places > mine.shape[1] or (found.shape[0], *found.shape[2:]) != (mine.shape[0], *mine.shape[2:]):
                raise SecondLensError(
                    f"expected a state with {name} of shape {list(mine.shape)}, got {list(found.shape)}"
                )
            made = torch.full_like(mine, nothing)
            made[:, :places] = found.to(device)
            setattr(self, name, made)
        self.runners = Runners(len(self.root), self.candidates, device)
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
        span = slice(self.count, self.count + len(positions))
        self.held[:, span] = coefficients
        self.positions[:, span] = positions
        self.count += len(positions)
        if self.count == self.candidates:
            self._fix_reference()

    def _fix_reference(self) -> None:
        self.total.add(self.sum)
        self.reference = (self.total.value / self.count).float()
        self.norms = self._norms(self.held)
        self._count_norms(self.norms)

    def _stream(self, coefficients: Tensor, positions: Tensor) -> None:
        if not self.complete and fused(coefficients) and self._make_room(len(positions)):
            self._stream_fused(coefficients, positions)
            return
        norms, positions = self._norms(coefficients), positions.expand(len(coefficients), -1)
        if self.complete:
            self._keep_largest(coefficients, self._unless_held(norms, positions), positions)
            return
        self._count_norms(norms)
        self.total.add(coefficients.sum(dim=1))
        self.count += positions.shape[1]
        self._keep_largest(coefficients, norms, positions)

    def _stream_fused(self, coefficients: Tensor, positions: Tensor) -> None:
        assert self._waiting is not None
        assert self.reference is not None
        self._waiting.take_in(
            coefficients,
            positions,
            self.fused_root,
            self.reference,
            self.total,
            self.square_total,
            self.histogram,
        )
        self.count += len(positions)

    def _make_room(self, images: int) -> bool:
        """Whether some images can wait, after those before them have left if need be."""
        places = WaitingRoom.places_for(self.candidates, images)
        if self._waiting is None or self._waiting.places < places or not self._waiting.has_room(images):
            self._select()
        if places and (self._waiting is None or self._waiting.places < places):
            neurons, paths = self.root.shape[::2]
            self._waiting = WaitingRoom(neurons, places, paths, self.root.device)
            self._waiting.floor = self.runners.floor
        return places > 0

    def _select(self) -> None:
        """Give the images that wait their places."""
        if self._waiting is not None:
            self._waiting.leave((self.held, self.norms, self.positions), self.runners, self._outside)

    @property
    def _outside(self) -> bool:
        """Whether images were let go: there were more than there are places."""
        return self.count > self.candidates + self.runners.places

    def _count_norms(self, norms: Tensor) -> None:
        self.histogram.update(norms)
        self.square_total.add(norms.double().square().sum(dim=1))

    def _unless_held(self, norms: Tensor, positions: Tensor) -> Tensor:
        """Norms, or -1 for an image that is held already."""
        return torch.where((positions[:, :, None] == self.positions[:, None]).any(dim=2), -1.0, norms)

    @property
    def fused_root(self) -> "Root":
        """R as the kernels want it."""
        if self._fused_root is None:
            from secondlens.kernels.stream import Root

            self._fused_root = Root(self.root, self.halved)
        return self._fused_root

    def _norms(
        self, coefficients: Float[Tensor, "neuron image path"], around: Float[Tensor, "neuron path"] | None = None
    ) -> Float[Tensor, "neuron image"]:
        """|(s - c) R| in float32, around the reference if no other c is given."""
        centre = self.reference if around is None else around
        assert centre is not None
        if fused(coefficients):
            from secondlens.kernels.stream import norms

            return norms(coefficients, self.fused_root, centre)
        offset = torch.bmm(centre[:, None], self.root)
        return torch.baddbmm(offset, coefficients, self.root, beta=-1).norm(dim=2)

    def _wide(self, coefficients: Tensor) -> Tensor:
        """s R in float64."""
        return torch.bmm(coefficients, self.root.double())

    def _keep_largest(self, coefficients: Tensor, norms: Tensor, positions: Tensor) -> None:
        """Of what is held and what comes, keep the largest norms; what enters takes the place of what leaves."""
        both = ranks(torch.cat([self.norms, norms], dim=1), torch.cat([self.positions, positions], dim=1))
        stays = torch.zeros_like(both, dtype=torch.bool)
        stays.scatter_(1, both.topk(self.candidates, dim=1, sorted=False).indices, True)
        entering, leaving = stays[:, self.candidates :], ~stays[:, : self.candidates]
        # Row by row as many enter as leave, and nonzero goes row by row: the two lists pair up.
        neuron, source = entering.nonzero(as_tuple=True)
        _, place = leaving.nonzero(as_tuple=True)
        out_norms, out_positions = norms.clone(), positions.clone()
        out_norms[neuron, source] = self.norms[neuron, place]
        out_positions[neuron, source] = self.positions[neuron, place]
        self.held[neuron, place] = coefficients[neuron, source]
        self.norms[neuron, place] = norms[neuron, source]
        self.positions[neuron, place] = positions[neuron, source]
        if not self.complete:
            self.runners.add(out_norms, out_positions)

    def _put_in_order(self) -> None:
        """Sort by position what is held, and the runners-up: the order in which images came does not show."""
        self._select()
        self.runners.put_in_order()
        if self.filling:
            return
        order = by_position(self.positions)
        if not torch.equal(order, torch.arange(order.shape[1], device=order.device).expand_as(order)):
            self.held = self.held.gather(1, order[:, :, None].expand_as(self.held))
            self.norms, self.positions = self.norms.gather(1, order), self.positions.gather(1, order)

    def _around(self, mean: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(drift, slack, variance) around the final mean; slack is what float32 may add to a norm around c."""
        if self.reference is None:
            centred = torch.where((self.positions >= 0)[:, :, None], self.held.double() - mean[:, None], 0.0)
            variance = self._wide(centred).square().sum(dim=(1, 2)) / self.count
            return torch.zeros_like(variance), torch.zeros_like(variance), variance
        reference = self.reference.double()
        drift = self._wide((mean - reference)[:, None])[:, 0].norm(dim=1)
        variance = (self.square_total.value / self.count - drift.square()).clamp(min=0)
        # A float32 sum over paths of products of the size of |s R|, less |c R|.
        size = self.norms.amax(dim=1).clamp(min=0) + self._wide(reference[:, None])[:, 0].norm(dim=1)
        return drift, FLOAT32_EPS * self.root.shape[2] ** 0.5 * size, variance
