"""Mergeable statistics of the second-order effects of a block of neurons, in one pass over the images.

All of it lives in path space: with u u^T = F^T F of a neuron (`gram_factor`), |sum_k s[k] u[k]| = |F s|.

1. While fewer images than `candidates` have come, keep all their coefficients.
2. When there are that many, their mean becomes the reference c, once and for all.
3. From then on keep, per neuron, the coefficients of the `candidates` images with the largest norm around c. An image
   that was let go has a norm of at most `released` around c, so at most released + |mean - c| around the final mean.
4. At the end, norms are taken around the final mean. A neuron whose top-th norm exceeds that bound is *proved*: no
   image that was let go can belong to its top. The others need a second pass, around the mean that is then known.

Sums are float64. `update`, `merge`, `result`, `state_dict`: one machine, resumed runs and a cluster use the same code.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondlens.effects.histogram import NormHistogram
from secondlens.errors import SecondLensError

FLOAT32_EPS = torch.finfo(torch.float32).eps


@dataclass(frozen=True)
class TopEffects:
    """What a pass found about a block of neurons.

    mean: mean coefficients. positions, norms: images with the largest |phi - mean phi|, descending, ties by position.
    centred: their coefficients less the mean. variance: mean over images of |phi - mean phi|^2.
    proved: no other image can belong to the top. drift: |mean phi - reference|, which blurs the histogram.
    """

    mean: Float[Tensor, "neuron path"]
    positions: Int[Tensor, "neuron top"]
    norms: Float[Tensor, "neuron top"]
    centred: Float[Tensor, "neuron top path"]
    variance: Float[Tensor, " neuron"]
    proved: Tensor
    drift: Float[Tensor, " neuron"]


class EffectStatistics:
    """Streaming statistics of a block of neurons.

    factor: F of each neuron. candidates: how many images to keep a neuron, at least the `top` asked of `result`.
    reference: coefficients of a known reference point (then the first images are not waited for).
    """

    def __init__(
        self,
        factor: Float[Tensor, "neuron path path"],
        candidates: int,
        reference: Float[Tensor, "neuron path"] | None = None,
    ) -> None:
        if candidates < 1:
            raise SecondLensError(f"expected at least one candidate image a neuron, got {candidates}")
        neurons, paths = factor.shape[0], factor.shape[2]
        like = {"device": factor.device}
        self.factor = factor.float()
        self.candidates = candidates
        self.count = 0
        self.sum = torch.zeros(neurons, paths, dtype=torch.float64, **like)
        self.square_sum = torch.zeros(neurons, dtype=torch.float64, **like)
        self.reference = None if reference is None else reference.float()
        self.histogram = NormHistogram(neurons, device=factor.device)
        self.held = torch.zeros(neurons, candidates, paths, **like)
        # -1 marks an empty place: every image that comes is larger.
        self.norms = torch.full((neurons, candidates), -1.0, **like)
        self.positions = torch.full((neurons, candidates), -1, dtype=torch.int64, **like)
        self.released = torch.zeros(neurons, **like)

    @property
    def filling(self) -> bool:
        """Still keeping every image, with no reference yet."""
        return self.reference is None

    def update(self, coefficients: Float[Tensor, "neuron image path"], positions: Int[Tensor, " image"]) -> None:
        """Take in the coefficients of some images; `positions` are their (unique) numbers in the survey."""
        if self.filling:
            room = self.candidates - self.count
            self._fill(coefficients[:, :room], positions[:room])
            coefficients, positions = coefficients[:, room:], positions[room:]
        if len(positions):
            self._stream(coefficients, positions)

    def merge(self, other: "EffectStatistics") -> None:
        """Add what another pass over other images found; `other` is left as it is.

        Around another reference, norms that were let go are at most the distance of the references larger, and the
        histogram stays as it was counted: both enter `drift` and the proof.
        """
        if other.candidates != self.candidates or other.factor.shape != self.factor.shape:
            raise SecondLensError("expected statistics of the same neurons with as many candidates to merge")
        if other.filling:
            self.update(other.held[:, : other.count], other.positions[0, : other.count])
            return
        if self.filling:
            mine = (self.held[:, : self.count].clone(), self.positions[0, : self.count].clone())
            self.load_state_dict(other.state_dict())
            self.update(*mine)
            return
        assert self.reference is not None
        assert other.reference is not None
        apart = self._norms((other.reference - self.reference)[:, None], centre=False)[:, 0]
        kept = other.positions >= 0
        norms = torch.where(kept, self._norms(other.held), -1.0)
        # Moving the second moment from one reference to the other: sum |x - c|^2 = sum |x - d|^2 + ...
        shift = (other.reference - self.reference).double()
        toward = (other.sum - other.count * other.reference.double())[:, None]
        cross = (self._wide(toward) * self._wide(shift[:, None])).sum(dim=(1, 2))
        self.square_sum += other.square_sum + 2 * cross + other.count * apart.double().square()
        self.sum += other.sum
        self.count += other.count
        self.histogram.merge(other.histogram)
        # `other` let images go only where its places were full.
        gone = torch.where(kept.all(dim=1), torch.maximum(other.released, other.norms.amin(dim=1)) + apart, 0.0)
        self.released = torch.maximum(self.released, gone)
        self._keep_largest(other.held, norms, other.positions)

    def result(self, top: int) -> TopEffects:
        """Statistics around the mean of everything so far; raises where fewer than `top` images have come."""
        if self.count < top or top > self.candidates:
            raise SecondLensError(
                f"asked for the {top} largest effects of {self.count} images with {self.candidates} candidates; "
                "expected at most as many as there are"
            )
        mean = self.sum / self.count
        centred = self.held.double() - mean[:, None]
        norms = torch.where(self.positions >= 0, self._wide(centred).norm(dim=2), -1.0)
        # Ties by position, so that the order in which images came does not show.
        by_position = self.positions.argsort(dim=1)
        order = norms.gather(1, by_position).argsort(dim=1, descending=True, stable=True)[:, :top]
        chosen = by_position.gather(1, order)
        norms = norms.gather(1, chosen)
        rows = torch.arange(len(chosen), device=chosen.device)[:, None]
        drift, proved, variance = self._around(mean, norms[:, -1])
        return TopEffects(mean, self.positions.gather(1, chosen), norms, centred[rows, chosen], variance, proved, drift)

    def state_dict(self) -> dict[str, Tensor]:
        """Everything but `factor`, as tensors; a reference that is not yet fixed is absent."""
        names = ("sum", "square_sum", "held", "norms", "positions", "released")
        state = {name: getattr(self, name).clone() for name in names}
        state["count"] = torch.tensor(self.count)
        state["histogram"] = self.histogram.counts.clone()
        if self.reference is not None:
            state["reference"] = self.reference.clone()
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from a state; the same `factor` and `candidates` must have been given."""
        for name in ("sum", "square_sum", "held", "norms", "positions", "released"):
            if state[name].shape != getattr(self, name).shape:
                raise SecondLensError(
                    f"expected a state with {name} of shape {list(getattr(self, name).shape)}, "
                    f"got {list(state[name].shape)}"
                )
            setattr(self, name, state[name].to(self.factor.device, copy=True))
        self.count = int(state["count"])
        self.histogram.counts = state["histogram"].to(self.factor.device, copy=True)
        reference = state.get("reference")
        self.reference = None if reference is None else reference.to(self.factor.device, copy=True)

    def _fill(self, coefficients: Tensor, positions: Tensor) -> None:
        span = slice(self.count, self.count + len(positions))
        self.held[:, span] = coefficients
        self.positions[:, span] = positions
        self.sum += coefficients.sum(dim=1, dtype=torch.float64)
        self.count += len(positions)
        if self.count == self.candidates:
            self._fix_reference()

    def _fix_reference(self) -> None:
        self.reference = (self.sum / self.count).float()
        self.norms = self._norms(self.held)
        self._count_norms(self.norms)

    def _stream(self, coefficients: Tensor, positions: Tensor) -> None:
        norms = self._norms(coefficients)
        self._count_norms(norms)
        self.sum += coefficients.sum(dim=1, dtype=torch.float64)
        self.count += len(positions)
        self._keep_largest(coefficients, norms, positions.expand(len(norms), -1))

    def _count_norms(self, norms: Tensor) -> None:
        self.histogram.update(norms)
        self.square_sum += norms.double().square().sum(dim=1)

    def _norms(self, coefficients: Float[Tensor, "neuron image path"], centre: bool = True) -> Tensor:
        """|F (s - c)| in float32."""
        if centre:
            assert self.reference is not None
            offset = torch.bmm(self.reference[:, None], self.factor.mT)
            return torch.baddbmm(offset, coefficients, self.factor.mT, beta=-1).norm(dim=2)
        return torch.bmm(coefficients, self.factor.mT).norm(dim=2)

    def _wide(self, coefficients: Tensor) -> Tensor:
        """F s in float64."""
        return torch.bmm(coefficients, self.factor.double().mT)

    def _keep_largest(self, coefficients: Tensor, norms: Tensor, positions: Tensor) -> None:
        """Of what is held and what comes, keep the largest norms, in place: what enters takes the place of what leaves."""
        both = torch.cat([self.norms, norms], dim=1)
        stays = torch.zeros_like(both, dtype=torch.bool)
        stays.scatter_(1, both.topk(self.candidates, dim=1, sorted=False).indices, True)
        # Row by row as many enter as leave, and nonzero goes row by row: the two lists pair up.
        neuron, source = stays[:, self.candidates :].nonzero(as_tuple=True)
        _, place = (~stays[:, : self.candidates]).nonzero(as_tuple=True)
        self.held[neuron, place] = coefficients[neuron, source]
        self.norms[neuron, place] = norms[neuron, source]
        self.positions[neuron, place] = positions[neuron, source]

    def _around(self, mean: Tensor, smallest: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(drift, proved, variance) around the final mean."""
        everything = torch.ones_like(self.released, dtype=torch.bool)
        if self.reference is None:
            held = self.held[:, : self.count].double() - mean[:, None]
            variance = self._wide(held).square().sum(dim=(1, 2)) / self.count
            return torch.zeros_like(variance), everything, variance
        reference = self.reference.double()
        drift = self._wide((mean - reference)[:, None])[:, 0].norm(dim=1)
        variance = (self.square_sum / self.count - drift.square()).clamp(min=0)
        let_go = torch.maximum(self.released, torch.where(self.positions.amin(dim=1) >= 0, self.norms.amin(dim=1), 0.0))
        # Norms were taken in float32: a sum over paths of products of the size of |F s|, less |F c|.
        size = let_go + self._wide(reference[:, None])[:, 0].norm(dim=1)
        bound = let_go.double() + drift + FLOAT32_EPS * self.factor.shape[2] ** 0.5 * size
        nothing_gone = (self.count <= self.candidates) & (self.released == 0)
        return drift, torch.where(nothing_gone, everything, smallest >= bound), variance
