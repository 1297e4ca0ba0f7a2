"""Indirect effects: what changes in the embedding when a neuron is held at its mean in the running model.

    effect[n](I) = z(I) / |z(I)| - z_n(I) / |z_n(I)|

z_n is the embedding with neuron n's post-activation value replaced at every token i by m[i,n], its mean at that token
over a reference set, and everything above run again: attention, layer norms and later MLPs respond, which is why later
layers can repair it (Gandelsman et al. 2025, section 4.1 and table 1). `lens.upper` runs that for many neurons from
one clean pass; the result is that of replacing the activation in a full forward pass, to float precision.

Statistics of indirect effects over images: the same rule as for second-order effects, so that the two compare.

A neuron's direction is the first right singular vector of its largest effects, centred on the mean over all images,
and its explained variance that component's share (`numerics.rank_one`). Indirect effects do not factor into paths, so
what `numerics.largest` keeps an image is the effect itself: its "paths" are the dimensions of the joint space, in an
orthonormal basis already.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from secondlens.errors import ModelError, SecondLensError
from secondlens.lens.capture import capture, wide
from secondlens.lens.model import LensModel
from secondlens.lens.tower import VisionTower
from secondlens.lens.trace import CaptureRequest, Trace
from secondlens.lens.upper import Upper
from secondlens.numerics.largest import LargestEffects
from secondlens.numerics.rank_one import rank_one

ROWS = 32
"""Neurons times images run at a time: few enough that a layer's activations stay near the cores' caches."""

# As in the models' self-check.
TOLERANCE = 1e-4


class MeanActivations:
    """Mean post-activation value of each neuron at each token, summed in float64; parts can be merged."""

    def __init__(self) -> None:
        self.sum: Tensor | None = None
        self.count = 0

    def update(self, activations: Float[Tensor, "image token neuron"]) -> None:
        """Take in some images."""
        part = activations.double().sum(dim=0)
        self.sum = part if self.sum is None else self.sum + part
        self.count += len(activations)

    def merge(self, other: "MeanActivations") -> None:
        """Add what another pass over other images found."""
        if other.sum is not None:
            self.sum = other.sum if self.sum is None else self.sum + other.sum
            self.count += other.count

    def result(self) -> Float[Tensor, "token neuron"]:
        """The means; raises `SecondLensError` where no image has come."""
        if self.sum is None or not self.count:
            raise SecondLensError("expected at least one image to take mean activations of, got none")
        return self.sum / self.count


@dataclass(frozen=True)
class Clean:
    """One batch of images, run once: what indirect effects of a layer start from.

    embeddings: unnormalised. activations: of the layer. residual: the residual stream after it.
    """

    embeddings: Float[Tensor, "image embed"]
    activations: Float[Tensor, "image token neuron"]
    residual: Float[Tensor, "image token width"]

    @classmethod
    def of(cls, trace: Trace, layer: int) -> "Clean":
        """Return the parts of a trace that has the layer's activations and the residual stream after it."""
        return cls(trace.embeddings, trace.activations[layer], trace.resid_post[layer])

    @classmethod
    def run(cls, tower: VisionTower, pixels: Float[Tensor, "image 3 height width"], layer: int) -> "Clean":
        """Run the model once on preprocessed images."""
        return cls.of(capture(tower, pixels, CaptureRequest(layers=[layer], resid_post=[layer])), layer)


def check_means(tower: VisionTower, clean: Clean, means: Float[Tensor, "token neuron"]) -> None:
    """Raise where the means are not those of this model's tokens and neurons."""
    expected = list(clean.activations.shape[1:])
    if list(means.shape) != expected:
        raise SecondLensError(f"expected mean activations [token, neuron] = {expected}, got {list(means.shape)}")


@torch.no_grad()
def indirect_effects(
    model: LensModel,
    pixels: Float[Tensor, "image 3 height width"],
    layer: int,
    means: Float[Tensor, "token neuron"],
    neurons: Sequence[int] | None = None,
    *,
    rows: int = ROWS,
) -> Float[Tensor, "image chosen embed"]:
    """Indirect effects of a layer's neurons, each alone, on a batch of preprocessed images.

    means: as `MeanActivations` gives them. neurons: indices; all by default. rows: neurons times images at a time.

    Raises `SecondLensError` for a layer or neuron that is not there or means of another shape, and `ModelError` where
    the clean embedding, run through the same shortcut, is not the model's.
    """
    return effects_of(model.tower, layer, Clean.run(model.tower, pixels, layer), means, neurons, rows=rows)


@torch.no_grad()
def effects_of(
    tower: VisionTower,
    layer: int,
    clean: Clean,
    means: Float[Tensor, "token neuron"],
    neurons: Sequence[int] | None = None,
    *,
    rows: int = ROWS,
) -> Float[Tensor, "image chosen embed"]:
    """The same from a clean pass that has been made."""
    check_means(tower, clean, means)
    if rows < 1:
        raise SecondLensError(f"expected at least one row at a time, got {rows}")
    chosen = torch.arange(tower.neurons) if neurons is None else torch.as_tensor(list(neurons), dtype=torch.int64)
    _check_neurons(tower, chosen)
    chosen = chosen.to(clean.residual.device)
    writes = wide(tower.mlps[layer].weight()).T[chosen]
    change = (means.to(clean.activations) - clean.activations)[:, :, chosen].permute(2, 0, 1)
    images = len(clean.embeddings)
    result = clean.embeddings.new_empty(images, len(chosen), clean.embeddings.shape[1])
    some = min(images, rows)
    for start in range(0, images, some):
        part = slice(start, start + some)
        upper = Upper(tower, layer, clean.residual[part])
        before = upper.embeddings(torch.zeros_like(change[:1, part]), writes.new_zeros(1, tower.width))[0]
        # In half precision upstream rounds in places where the shortcut does not.
        if clean.residual.dtype in (torch.float32, torch.float64):
            _check_shortcut(before, clean.embeddings[part])
        unit = torch.nn.functional.normalize(before, dim=-1)
        step = max(1, rows // some)
        for first in range(0, len(chosen), step):
            group = slice(first, first + step)
            after = upper.embeddings(change[group, part], writes[group])
            result[part, group] = (unit - torch.nn.functional.normalize(after, dim=-1)).transpose(0, 1)
    return result


@torch.no_grad()
def replaced_embeddings(
    tower: VisionTower,
    layer: int,
    clean: Clean,
    means: Float[Tensor, "token neuron"],
    neurons: Sequence[int] | None = None,
) -> Float[Tensor, "image embed"]:
    """The embedding, unnormalised, with a set of neurons (by default the whole layer) held at their means together."""
    check_means(tower, clean, means)
    change = means.to(clean.activations) - clean.activations
    written = wide(tower.mlps[layer].weight())
    if neurons is not None:
        chosen = torch.as_tensor(list(neurons), dtype=torch.int64)
        _check_neurons(tower, chosen)
        chosen = chosen.unique().to(change.device)
        change, written = change[:, :, chosen], written[:, chosen]
    residual = wide(clean.residual) + change @ written.T
    return wide(tower.run_from(layer + 1, residual.to(clean.residual.dtype)))


@torch.no_grad()
def indirect_effect_of_set(
    model: LensModel,
    pixels: Float[Tensor, "image 3 height width"],
    layer: int,
    means: Float[Tensor, "token neuron"],
    neurons: Sequence[int] | None = None,
) -> Float[Tensor, "image embed"]:
    """What changes in the unit-norm embedding when a set of neurons, by default the whole layer, is held at its means.

    Raises as `indirect_effects` does.
    """
    clean = Clean.run(model.tower, pixels, layer)
    after = replaced_embeddings(model.tower, layer, clean, means, neurons)
    return torch.nn.functional.normalize(clean.embeddings, dim=-1) - torch.nn.functional.normalize(after, dim=-1)


def _check_neurons(tower: VisionTower, chosen: Tensor) -> None:
    if not len(chosen):
        raise SecondLensError("expected at least one neuron, got none")
    if int(chosen.min()) < 0 or int(chosen.max()) >= tower.neurons:
        raise SecondLensError(f"the model has neurons 0 to {tower.neurons - 1} a layer, got {chosen.tolist()[:10]}")


def _check_shortcut(ours: Tensor, theirs: Tensor) -> None:
    error = float(((ours - theirs).norm(dim=-1) / theirs.norm(dim=-1)).max())
    if not error <= TOLERANCE:
        raise ModelError(
            f"the layers above, run from the residual stream, give another embedding than the model (relative "
            f"difference {error:.1e}, expected at most {TOLERANCE:.0e}); the adapter does not know something that this "
            "model does"
        )


BLOCK = 32
"""Neurons worked on at a time."""


@dataclass(frozen=True)
class IndirectResult:
    """What is known of each neuron, in the order of the neurons asked for.

    directions: first principal component of the largest centred effects, unit norm. explained_variance: its share.
    mean_effects: over all images. top_norms, top_positions: |effect - mean|, descending, and whose.
    root_mean_square: of |effect - mean| over all images. certified: no other image can belong to the top.
    """

    directions: Float[Tensor, "neuron embed"]
    explained_variance: Float[Tensor, " neuron"]
    mean_effects: Float[Tensor, "neuron embed"]
    top_norms: Float[Tensor, "neuron top"]
    top_positions: Int[Tensor, "neuron top"]
    root_mean_square: Float[Tensor, " neuron"]
    certified: Bool[Tensor, " neuron"]


class IndirectStatistics:
    """Streaming statistics of the indirect effects of some neurons; memory is neurons x capacity x embed floats."""

    def __init__(self, neurons: int, embed: int, capacity: int) -> None:
        basis = torch.eye(embed)
        sizes = [len(block) for block in torch.arange(neurons).split(BLOCK)]
        self.blocks = [LargestEffects(basis.expand(size, -1, -1), capacity) for size in sizes]

    @property
    def count(self) -> int:
        """Images taken in so far."""
        return self.blocks[0].count

    def update(self, effects: Float[Tensor, "image neuron embed"], positions: Int[Tensor, " image"]) -> None:
        """Take in some images; `positions` are their unique numbers."""
        parts = effects.transpose(0, 1).float().cpu().split(BLOCK)
        for block, part in zip(self.blocks, parts, strict=True):
            block.update(part, positions.cpu())

    def merge(self, other: "IndirectStatistics") -> None:
        """Add what another pass over other images found."""
        for mine, theirs in zip(self.blocks, other.blocks, strict=True):
            mine.merge(theirs)

    def result(self, top: int) -> IndirectResult:
        """Directions and explained variance from the `top` largest effects; raises where fewer images have come."""
        parts = []
        for block in self.blocks:
            found = block.result(top)
            leading = rank_one(found, block.root, components=1)
            parts.append(
                (
                    torch.nn.functional.normalize(leading.components[:, 0], dim=1).float(),
                    leading.spectrum[:, 0].float(),
                    found.mean.float(),
                    found.norms.float(),
                    found.positions,
                    found.variance.sqrt().float(),
                    found.certified,
                )
            )
        return IndirectResult(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))
