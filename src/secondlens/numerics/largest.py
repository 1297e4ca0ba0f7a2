"""The images with the largest effects around a mean that is known only at the end; exact, in one pass, mergeable.

All of it lives in path space: with u u^T = R R^T of a neuron, |sum_k s[k] u[k]| = |s R|. Per neuron the state is a
reference c, a buffer of coefficients with norms around c, a threshold tau, and bounds of evicted norms.

1. *Fill*: until `capacity` images have come, their rows are appended. Then c becomes their mean.
2. *Push*: rows whose norm around c is at least tau are appended. When the buffer is full it is *compacted* to the
   `capacity` rows with the largest norms, of equal ones the lower position, and tau becomes the smallest norm kept. So
   every image that is not in the buffer had a norm of at most tau around c.
3. *Re-centre* when the number of images has grown by a quarter, if need be within a batch: note (tau, c) as a bound of
   what was evicted (`evictions`), let c be the mean so far, and compute the norms of the rows in the buffer, and tau,
   again.
4. *Result*: norms of the rows in the buffer around the final mean m, in float64; the `top_k` largest, of equal ones the
   lower position; these rows again in the order of their positions, so that their bits do not depend on their slots.
   A neuron is *certified* where its `top_k`-th norm exceeds the largest bound b + |(c - m) R| of evicted norms.
   Proof: an evicted image had a norm of at most b around c, so of at most b + |(c - m) R| around m.
5. *Second pass*, for neurons that are not certified: the same class around the fixed reference m. What is not certified
   then is *tied*: an evicted norm equals the `top_k`-th to within rounding.
6. *Merge*: both sides note their bounds, c becomes the joint mean, norms of both buffers are computed around it, and
   the joint buffer is compacted. So parts of the images, in any order, give what one pass gives.

A norm computed in float32 is within an error of the true one that follows from the largest coefficients so far
(`norms`), so b is tau plus that error. Certificates allow for the rounding of float64, too.

For certified neurons the top images, their norms and rows, and the mean have the same bits for any parts and any order
of merging (sums: `sums`). The variance is equal to rounding; the histogram, which counts norms around the reference of
their time, and the certificates themselves depend on the parts.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from secondlens.errors import NotFiniteError, SecondLensError
from secondlens.numerics import kernels
from secondlens.numerics.buffer import Buffer, descending, slots_for
from secondlens.numerics.evictions import Evictions
from secondlens.numerics.histogram import LOWEST, PER_OCTAVE, NormHistogram
from secondlens.numerics.norms import PathNorms
from secondlens.numerics.sums import CompensatedSum

GROWTH = 1.25
"""Factor by which the number of images grows between two references."""


SLACK = 2.0**-16
"""Slack of a certificate per error of a float32 norm, at least 2^-21 of any norm: covers `TIED` and float64 sums."""


@dataclass(frozen=True)
class TopEffects:
    """The largest effects of a block of neurons.

    mean: mean coefficients. positions, norms: images with the largest |phi - mean phi|, descending, ties by position.
    centred: their coefficients less the mean. rows: the same times R, the effects in an orthonormal basis.
    variance: mean over images of |phi - mean phi|^2. certified: no other image can belong to the top.
    """

    mean: Float[Tensor, "neuron path"]
    positions: Int[Tensor, "neuron top"]
    norms: Float[Tensor, "neuron top"]
    centred: Float[Tensor, "neuron top path"]
    rows: Float[Tensor, "neuron top path"]
    variance: Float[Tensor, " neuron"]
    certified: Bool[Tensor, " neuron"]


class LargestEffects:
    """Streaming statistics of a block of neurons.

    Args:
        root: R of each neuron.
        capacity: number of images kept per neuron, at least the `top_k` asked of `result`.
        reference: a reference that stays, for a second pass; by default it follows the mean.
        low_precision: whether the model runs in half precision; norms then have 16 bits where the kernels run.

    Raises `SecondLensError` for a capacity below one.
    """

    def __init__(
        self,
        root: Float[Tensor, "neuron path path"],
        capacity: int,
        reference: Float[Tensor, "neuron path"] | None = None,
        low_precision: bool = False,
    ) -> None:
        if capacity < 1:
            raise SecondLensError(f"cannot keep the largest effects: expected a capacity of 1 or more, got {capacity}")
        self.norms_of = PathNorms(root, low_precision and reference is None)
        self.capacity = capacity
        self._fixed = None if reference is None else reference.float()
        self.clear()

    def clear(self) -> None:
        """Forget all images."""
        neurons, _, paths = self.root.shape
        device = self.root.device
        self.count = 0
        self.total = CompensatedSum(neurons, paths, device=device)
        self.extent = torch.zeros(neurons, paths, device=device)
        self.second_moment = torch.zeros(neurons, dtype=torch.float64, device=device)
        self.histogram = NormHistogram(neurons, device=device)
        self.evictions = Evictions(neurons, paths, device)
        self.reference = self._fixed
        self._evicted = False
        self._next_reference = self.capacity
        self._buffer = Buffer.empty(neurons, slots_for(self.capacity), paths, device)
        self._threshold = torch.full((neurons,), -1.0, device=device)

    @property
    def root(self) -> Float[Tensor, "neuron path path"]:
        """R of each neuron, float32."""
        return self.norms_of.root

    @property
    def mean(self) -> Float[Tensor, "neuron path"]:
        """Mean coefficients of all images so far, float64."""
        # By a tensor: CUDA multiplies by the reciprocal of a number, which rounds twice.
        return self.total.value / torch.full((), max(1, self.count), device=self.root.device)

    def update(self, coefficients: Float[Tensor, "neuron image path"], positions: Int[Tensor, " image"]) -> None:
        """Add the coefficients of a batch; `positions` are the images' unique numbers in the survey, below 2^31.

        Raises `NotFiniteError`, at the latest where the reference moves next, for an image whose effect is not finite.
        """
        positions = positions.to(torch.int32)
        images, stop = len(positions), 0
        total = None
        while stop < images:
            start, stop = stop, min(images, stop + self._until_next_reference(images))
            if not start and stop < images:
                total = self.total.copy()
            self._update(coefficients[:, start:stop], positions[start:stop])
        if total is not None:
            # Sums over pieces of a batch may round otherwise than that of the whole: keep to whole batches.
            self.total = total
            self.total.add(coefficients.sum(dim=1, dtype=torch.float64))

    def merge(self, other: "LargestEffects") -> None:
        """Add the statistics of other images, which stay unchanged.

        Raises `SecondLensError` for statistics of other neurons, of another capacity, or around another fixed
        reference, and what `result` raises for norms that are not finite.
        """
        fixed = (self._fixed is None) == (other._fixed is None)
        if fixed and self._fixed is not None and other._fixed is not None:
            fixed = torch.equal(self._fixed, other._fixed)
        if other.root.shape != self.root.shape or other.capacity != self.capacity or not fixed:
            raise SecondLensError(
                f"cannot merge statistics: expected those of {len(self.root)} neurons with a capacity of "
                f"{self.capacity} around the same reference, got {len(other.root)} with {other.capacity}"
            )
        self.merge_state(other.state_dict())

    def merge_state(self, state: dict[str, Tensor]) -> None:
        """Add the statistics of other images, given by their `state_dict`."""
        if not int(state["count"]):
            return
        if not self.count:
            self.load_state_dict(state)
            return
        copy = LargestEffects(self.root, self.capacity, self._fixed)
        copy.norms_of = self.norms_of
        copy.load_state_dict(state)
        for side in (self, copy):
            if side.reference is None:
                side._start()
            side._close()
        joint = (self.total.value + copy.total.value) / (self.count + copy.count)
        joint = joint.float() if self._fixed is None else self._fixed
        self.second_moment = self._moment_around(joint) + copy._moment_around(joint)
        self.total.merge(copy.total)
        self.extent = torch.maximum(self.extent, copy.extent)
        self.count += copy.count
        self.histogram.merge(copy.histogram)
        self.evictions.add(copy.evictions.bounds, copy.evictions.references, self.norms_of, self.mean)
        self.reference = joint
        self._buffer = Buffer.joined(self._buffer, copy._buffer)
        self._refresh_norms()
        self._buffer = self._buffer.with_slots(slots_for(self.capacity))
        self._next_reference = max(self.capacity, _grown(self.count))

    def result(self, top_k: int) -> TopEffects:
        """Return the largest effects around the mean of everything so far; the statistics stay as they are.

        Raises `SecondLensError` for a `top_k` above the number of images or the capacity, and `NotFiniteError` for an
        image whose effect is not finite.
        """
        if not 0 < top_k <= min(self.count, self.capacity):
            raise SecondLensError(
                f"cannot give the {top_k} largest effects: expected 1 to {min(self.count, self.capacity)}, for "
                f"{self.count} images and a capacity of {self.capacity}"
            )
        self._compact()
        self._require_finite()
        mean = self.mean
        rows, positions, occupied = self._buffer.coefficients, self._buffer.positions, self._buffer.occupied
        norms = self.norms_of.upcast(rows.double() - mean[:, None]).norm(dim=2)
        chosen = descending(norms.masked_fill(~occupied, -1.0), positions)[0][:, :top_k]
        # In the order of their positions, whatever slots they had.
        chosen = chosen.gather(1, positions.gather(1, chosen).argsort(dim=1))
        neuron = torch.arange(len(rows), device=rows.device)[:, None]
        positions = positions[neuron, chosen]
        centred = rows[neuron, chosen].double() - mean[:, None]
        images = self.norms_of.upcast(centred)
        order, norms = descending(images.norm(dim=2), positions)
        bound = self.evictions.bound_around(self.norms_of, mean)
        if self._evicted:
            assert self.reference is not None
            current = self._bound() + self.norms_of.of_rows(self.reference.double() - mean)
            bound = torch.maximum(bound, current)
        slack = SLACK * self.norms_of.error(self.extent, mean)
        return TopEffects(
            mean=mean,
            positions=positions[neuron, order].long(),
            norms=norms,
            centred=centred[neuron, order],
            rows=images[neuron, order],
            variance=self._variance(mean),
            certified=(norms[:, -1] > bound + slack) | (bound == 0),
        )

    def state_dict(self) -> dict[str, Tensor]:
        """Return everything but `root`, as tensors without empty slots, each with neurons first or without them.

        Raises `NotFiniteError` for an image whose effect is not finite.
        """
        self._compact()
        self._require_finite()
        self._buffer.sort()
        most = self._buffer.most
        state = {
            "count": torch.tensor(self.count),
            "next_reference": torch.tensor(self._next_reference),
            "evicted": torch.tensor(self._evicted),
            "coefficients": self._buffer.coefficients[:, :most],
            "norms": self._buffer.norms[:, :most],
            "positions": self._buffer.positions[:, :most],
            "threshold": self._threshold,
            "total.high": self.total.high,
            "total.low": self.total.low,
            "extent": self.extent,
            "second_moment": self.second_moment,
            "histogram": self.histogram.counts,
            "evictions.bounds": self.evictions.bounds,
            "evictions.references": self.evictions.references,
        }
        if self.reference is not None:
            state["reference"] = self.reference
        return {name: tensor.clone() for name, tensor in state.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Replace everything by a state; the same `root`, capacity and fixed reference must have been given.

        Raises `SecondLensError` for a state of other neurons, other paths, or another capacity.
        """
        self.clear()
        rows = state["coefficients"]
        neurons, _, paths = self.root.shape
        if rows.shape[1] > self.capacity or rows.shape[0] != neurons or rows.shape[2] != paths:
            raise SecondLensError(
                f"cannot load statistics: expected coefficients [{neurons}, up to {self.capacity}, {paths}], got "
                f"{list(rows.shape)}"
            )
        to = {name: tensor.to(self.root.device, copy=True) for name, tensor in state.items()}
        self.count, self._next_reference = int(state["count"]), int(state["next_reference"])
        self._evicted = bool(state["evicted"])
        self._buffer.load(to["coefficients"], to["norms"], to["positions"])
        self._threshold = to["threshold"]
        self.total.high, self.total.low = to["total.high"], to["total.low"]
        self.extent, self.second_moment, self.histogram.counts = to["extent"], to["second_moment"], to["histogram"]
        self.evictions.bounds, self.evictions.references = to["evictions.bounds"], to["evictions.references"]
        self.reference = to.get("reference")

    def _until_next_reference(self, images: int) -> int:
        """Return how many of some images come until the reference moves."""
        if self.reference is None:
            return self.capacity - self.count
        return images if self._fixed is not None else max(1, self._next_reference - self.count)

    def _update(self, coefficients: Float[Tensor, "neuron image path"], positions: Int[Tensor, " image"]) -> None:
        """Add images that come before the reference moves, and then move it if that is due."""
        self.count += len(positions)
        if self.reference is not None and kernels.fused(coefficients):
            self._stream(coefficients.contiguous(), positions)
        else:
            # Exact, and so the same for any batches, where a batch's coefficients along a path span less than 2^24.
            self.total.add(coefficients.sum(dim=1, dtype=torch.float64))
            torch.maximum(self.extent, torch.linalg.vector_norm(coefficients, math.inf, dim=1), out=self.extent)
            if self.reference is None:
                self._buffer.append_all(coefficients, positions)
                if self.count == self.capacity:
                    self._start()
                return
            self._push(coefficients.contiguous(), positions)
        if self._fixed is None and self.count >= self._next_reference:
            self._recentre()

    def _start(self) -> None:
        """Take the mean as the first reference, while every image is in the buffer."""
        self._require_finite()
        self.reference = self.mean.float()
        norms = self._refresh_norms()[:, : self._buffer.most]
        self.histogram.update(norms)
        self.second_moment += norms.double().square().sum(dim=1)
        self._next_reference = _grown(self.count)

    def _stream(self, coefficients: Float[Tensor, "neuron image path"], positions: Int[Tensor, " image"]) -> None:
        """Do what `_push` does, and add to the sums, in the kernels."""
        from secondlens.numerics.kernels.stream import stream

        assert self.reference is not None
        self._evicted |= self.count > self.capacity
        self._buffer.reserve(self.capacity, len(positions))
        if not self._buffer.has_room(len(positions)):
            self._compact()
        stream(
            coefficients,
            positions,
            self.norms_of.prepared,
            self.reference,
            self._threshold,
            (self.total.high, self.total.low, self.extent),
            self.second_moment,
            self.histogram.counts,
            self._buffer.filled,
            (self._buffer.coefficients, self._buffer.norms, self._buffer.positions),
            lowest=LOWEST,
            per_octave=PER_OCTAVE,
        )
        self._buffer.appended(len(positions))

    def _push(self, coefficients: Float[Tensor, "neuron image path"], positions: Int[Tensor, " image"]) -> None:
        """Append the rows of a batch that are not below the threshold, compacting the buffer where it is full."""
        assert self.reference is not None
        self._evicted |= self.count > self.capacity
        norms = self.norms_of(coefficients, self.reference)
        self.histogram.update(norms)
        self.second_moment += norms.double().square().sum(dim=1)
        self._append(coefficients, norms, positions)

    def _append(self, coefficients: Tensor, norms: Tensor, positions: Tensor) -> None:
        """Append rows that are not below the threshold; where too many are, compact, or append one half first."""
        enters = norms >= self._threshold[:, None]
        if self._buffer.append(enters, coefficients, norms, positions):
            return
        if self._buffer.most > self.capacity:
            self._compact()
            self._append(coefficients, norms, positions)
            return
        half = len(positions) // 2
        for part in (slice(None, half), slice(half, None)):
            self._append(coefficients[:, part], norms[:, part], positions[part])

    def _compact(self) -> None:
        """Keep the `capacity` largest rows, and raise the threshold to the smallest of their norms."""
        if self.reference is not None and self._buffer.most > self.capacity:
            self._threshold = self._buffer.compact(self.capacity)

    def _recentre(self) -> None:
        """Note the bound of what was evicted, and move the reference to the mean so far."""
        self._close()
        reference = self.mean.float()
        self.second_moment = self._moment_around(reference)
        self.reference = reference
        self._refresh_norms()
        self._next_reference = _grown(self.count)

    def _close(self) -> None:
        """End the time of a reference: note the bound of what was evicted."""
        assert self.reference is not None
        self._compact()
        self._require_finite()
        if self._evicted:
            self.evictions.add(self._bound()[:, None], self.reference[:, None], self.norms_of, self.mean)
            self._evicted = False

    def _bound(self) -> Float[Tensor, " neuron"]:
        """Return the largest true norm around the reference that an evicted row can have had."""
        assert self.reference is not None
        return self._threshold.double().clamp(min=0) + self.norms_of.error(self.extent, self.reference)

    def _moment_around(self, reference: Float[Tensor, "neuron path"]) -> Float[Tensor, " neuron"]:
        """Return sum |(s - c') R|^2 = sum |(s - c) R|^2 + 2 <sum (s - c) R, (c - c') R> + n |(c - c') R|^2."""
        assert self.reference is not None
        here = self.reference.double()
        shift = self.norms_of.upcast((here - reference.double())[:, None])[:, 0]
        offset = self.norms_of.upcast((self.total.value - self.count * here)[:, None])[:, 0]
        return self.second_moment + (2 * offset * shift).sum(dim=1) + self.count * shift.square().sum(dim=1)

    def _variance(self, mean: Float[Tensor, "neuron path"]) -> Float[Tensor, " neuron"]:
        if self.reference is None:
            most = self._buffer.most
            rows = self.norms_of.upcast(self._buffer.coefficients[:, :most].double() - mean[:, None])
            return rows.square().sum(dim=(1, 2)) / self.count
        drift = self.norms_of.of_rows(mean - self.reference.double())
        return (self.second_moment / self.count - drift.square()).clamp(min=0)

    def _refresh_norms(self) -> Float[Tensor, "neuron slot"]:
        """Compute the norms of the buffer around the reference, and the threshold; compact where it is too full."""
        assert self.reference is not None
        buffer = self._buffer
        # All slots up to `most` are filled here. The last bits of a norm depend on its slot.
        buffer.sort()
        rows = buffer.coefficients[:, : buffer.most].contiguous()
        buffer.norms[:, : buffer.most] = self.norms_of(rows, self.reference)
        if buffer.most > self.capacity:
            self._evicted = True
            self._threshold = buffer.compact(self.capacity)
        elif buffer.most == self.capacity:
            self._threshold = buffer.norms[:, : buffer.most].amin(dim=1)
        return buffer.norms

    def _require_finite(self) -> None:
        """Raise `NotFiniteError` with the lowest position in the buffer whose norm is not finite.

        Around a finite reference such a norm is infinite, so that its row is among the largest and is never evicted.
        """
        most = self._buffer.most
        norms = self._buffer.norms[:, :most]
        if self.reference is None:
            origin = torch.zeros_like(self.root[:, 0])
            norms = self.norms_of(self._buffer.coefficients[:, :most], origin)
        finite = norms.isfinite()
        if not bool(finite.all()):
            raise NotFiniteError(int(self._buffer.positions[:, :most][~finite].min()))


def _grown(count: int) -> int:
    """Return the number of images at which the reference moves next."""
    return math.ceil(GROWTH * count)
