"""What to keep of one forward pass, and what was kept."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from secondlens.errors import SecondLensError
from secondlens.lens.heads import OnAttention
from secondlens.lens.tower import VisionTower

POOL_MLP = -1
"""Key of the pooling head's MLP among `Trace.pooled_activations`."""

OnReadout = Callable[[int, Tensor, Tensor], None]
"""Called with a readout attention's index, its layer norm's output [image, token, width] and the pooled attention."""


@dataclass(frozen=True)
class CaptureRequest:
    """What to keep of one forward pass.

    Attributes:
        layers: Layers whose neurons' activations to keep, and with them what every readout attention after the first
            of them sees.
        first_order: Keep the parts of all direct contributions: of every readout attention and every MLP.
        resid_pre: Keep the residual stream before each of these readout attentions, at every token.
        resid_post: Layers after which to keep the residual stream.
        mlp_writes: Keep what the neurons of each of `layers` together write, from the output of its MLP.
        low_precision: Keep activations in upstream's precision instead of float32 or wider.
        on_readout: Called at each of these readout attentions while what it sees exists.
        on_attention: Layer to what is called with the queries, keys and values of its attention while they exist.
    """

    layers: Sequence[int] = ()
    first_order: bool = False
    resid_pre: bool = False
    resid_post: Sequence[int] = ()
    mlp_writes: bool = False
    low_precision: bool = False
    on_readout: OnReadout | None = None
    on_attention: Mapping[int, OnAttention] = field(default_factory=dict)

    def readouts(self, tower: VisionTower) -> Sequence[int]:
        """Return the indices of the readout attentions that are captured."""
        if self.first_order:
            return range(len(tower.readers))
        return tower.readers_of(min(self.layers)) if self.layers else []

    def check(self, tower: VisionTower) -> None:
        """Raise `SecondLensError` for a layer that the model does not have."""
        known = range(len(tower.mlps))
        unknown = {*self.layers, *self.resid_post, *self.on_attention}.difference(known)
        if unknown:
            got = ", ".join(map(str, sorted(unknown)))
            raise SecondLensError(f"the model has layers 0 to {known[-1]}, got {got}")


@dataclass
class ReadoutTrace:
    """What one readout attention sees.

    Attributes:
        attention: The pooled query's attention to each token.
        sigma: Standard deviation (with the layer norm's epsilon) of the residual stream at each token.
        mixed: With `first_order`, the attention-weighted mean of the layer norm's output, per head.
        pooled_resid_pre: With `first_order`, the residual stream before it at token 0.
        resid_pre: With `resid_pre`, the same at every token.
    """

    attention: Float[Tensor, "image head token"]
    sigma: Float[Tensor, "image token"]
    mixed: Float[Tensor, "image head width"] | None = None
    pooled_resid_pre: Float[Tensor, "image width"] | None = None
    resid_pre: Float[Tensor, "image token width"] | None = None


@dataclass
class Trace:
    """What was kept of one forward pass, float32 or wider except where it says upstream's precision.

    Attributes:
        embeddings: The model's own output, unnormalised.
        activations: Layer to post-activation values of its neurons at every token.
        readouts: Index of a readout attention to what it sees.
        resid_post: Layer to the residual stream after it, in upstream's precision.
        mlp_writes: Layer to what its neurons together write at every token (no bias).
        final_sigma: Sigma of the final layer norm at the pooled token; ones where there is no such norm.
        pooled_activations: With `first_order`, layer to activations at token 0; `POOL_MLP` is the pooling head's MLP.
        pooled_resid_post: With `first_order`, the input of the final layer norm at token 0.
        path_weights: Computed by `lens.paths` when they are first needed.
    """

    embeddings: Float[Tensor, "image embed"]
    activations: dict[int, Float[Tensor, "image token neuron"]] = field(default_factory=dict)
    readouts: dict[int, ReadoutTrace] = field(default_factory=dict)
    resid_post: dict[int, Float[Tensor, "image token width"]] = field(default_factory=dict)
    mlp_writes: dict[int, Float[Tensor, "image token width"]] = field(default_factory=dict)
    final_sigma: Float[Tensor, " image"] | None = None
    pooled_activations: dict[int, Float[Tensor, "image neuron"]] = field(default_factory=dict)
    pooled_resid_post: Float[Tensor, "image width"] | None = None
    path_weights: Float[Tensor, "image path token"] | None = None

    @property
    def final_scale(self) -> Float[Tensor, " image"]:
        """sigma_post |z|, which every contribution to the unit-norm embedding is divided by."""
        assert self.final_sigma is not None
        return self.final_sigma * self.embeddings.norm(dim=-1)

    def upcast(self) -> "Trace":
        """Return a copy in float64, for sums whose terms cancel; the forward pass stays as precise as it was."""
        copy: Trace = _upcast(self)
        return copy


def _upcast(part: Any) -> Any:
    if isinstance(part, Tensor):
        return part.to(torch.float64)
    if isinstance(part, dict):
        return {key: _upcast(value) for key, value in part.items()}
    if is_dataclass(part) and not isinstance(part, type):
        return replace(part, **{each.name: _upcast(getattr(part, each.name)) for each in fields(part)})
    if part is None:
        return None
    raise TypeError(f"a trace holds tensors, dicts and dataclasses of them, got {type(part).__name__}")
