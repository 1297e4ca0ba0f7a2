"""One forward pass that keeps its graph: whole attention matrices, and the gradients of scores through them.

Upstream's fused attention gives out no weights, and a copy of the model that does would be a fork. Both follow from
three tensors that plain hooks see, at every layer l: x, the layer norm's output before the attention; m, the residual
stream after the attention (the input of the layer norm before the MLP); p, the neurons' activations. With the
attention's weights,

    A[h,q,i]     = softmax_i(scale (W_Q x[q] + b_Q) . W_K x[i])
    v[h,i]       = W_V x[i] + b_V
    m[q]         = residual[q] + sum_h W_O[h] sum_i A[h,q,i] v[h,i] + b_O
    dS/dA[h,q,i] = (W_O[h]^T dS/dm[q]) . v[h,i]

so the gradient of any score S with respect to an attention matrix, the matrix seen as a free variable, needs S's
gradient at m only: what autograd gives for a model that returns its attention, to float precision.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from secondlens.errors import CaptureError, SecondLensError
from secondlens.lens.capture import pooled_attention, wide
from secondlens.lens.heads import HeadInputs, head_inputs
from secondlens.lens.model import LensModel
from secondlens.lens.tower import AttentionWeights

T = TypeVar("T")


@dataclass
class LayerTensors:
    """What the hooks saw in one layer, on the graph: see the module's formulas. `before` is the residual stream."""

    before: Float[Tensor, "image token width"]
    normed: Float[Tensor, "image token width"]
    middle: Float[Tensor, "image token width"] = field(init=False)
    middle_normed: Float[Tensor, "image token width"] = field(init=False)
    activations: Float[Tensor, "image token neuron"] = field(init=False)


class AttentionPass:
    """One forward pass with its graph. Everything is cached; gradients of one set of targets at a time."""

    def __init__(self, model: LensModel, pixels: Float[Tensor, "image 3 height width"]) -> None:
        self.model = model
        self.layers: list[LayerTensors] = []
        self._pool_tokens = self._pool_read = pixels
        tower = model.tower
        if any(mlp.norm is None for mlp in tower.mlps) or len(tower.attentions) != len(tower.mlps):
            raise SecondLensError(f"the {model.family} adapter does not name the layer norms before the MLPs")
        handles = []
        try:
            for reader, mlp in zip(tower.attentions, tower.mlps, strict=True):
                assert mlp.norm is not None
                handles += [
                    reader.norm.register_forward_hook(self._on_attention_norm),
                    mlp.norm.register_forward_hook(self._on_mlp_norm),
                    mlp.project.register_forward_pre_hook(self._on_project),
                ]
            if tower.pool_mlp is not None:
                assert tower.pool_mlp.norm is not None
                handles.append(tower.readers[-1].norm.register_forward_hook(self._on_pool_norm))
                handles.append(tower.pool_mlp.norm.register_forward_hook(self._on_pool_mlp_norm))
            # A leaf that needs a gradient: the weights need none.
            leaf = pixels.to(model.device, model.dtype).detach().requires_grad_(True)
            with torch.enable_grad():
                self.output = tower.forward(leaf)
        finally:
            for handle in handles:
                handle.remove()
        if len(self.layers) != len(tower.mlps) or any(not hasattr(layer, "activations") for layer in self.layers):
            raise CaptureError(f"expected {len(tower.mlps)} layers to fire their hooks once, got {len(self.layers)}")
        self._made: dict[tuple[str, int], Any] = {}
        self._targets: Tensor | None = None

    def _on_attention_norm(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.layers.append(LayerTensors(inputs[0], output))

    def _on_mlp_norm(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.layers[-1].middle, self.layers[-1].middle_normed = inputs[0], output

    def _on_project(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.layers[-1].activations = inputs[0]

    def _on_pool_norm(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self._pool_tokens = output

    def _on_pool_mlp_norm(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self._pool_read = inputs[0]

    @property
    def embeddings(self) -> Float[Tensor, "image embed"]:
        """The model's output, on the graph, float32 or wider."""
        return wide(self.output)

    @cached_property
    def matrices(self) -> list[Float[Tensor, "image head token token"]]:
        """A of every layer, without a graph."""
        return [seen.matrix(self.weights(layer).scale) for layer, seen in enumerate(self.inputs)]

    @cached_property
    def inputs(self) -> list[HeadInputs]:
        """Queries, keys and values of every layer, without a graph."""
        return [
            head_inputs(self.weights(layer), wide(seen.normed.detach()), wide(seen.before.detach()))
            for layer, seen in enumerate(self.layers)
        ]

    @cached_property
    def last_row(self) -> Float[Tensor, "image head token"]:
        """The pooled query's attention in the last reader: the class token's row, or the pooling head's."""
        tower = self.model.tower
        if tower.pool_mlp is None:
            return self.matrices[-1][:, :, 0]
        reader = tower.readers[-1]
        assert reader.probe is not None
        return pooled_attention(reader.weights(), wide(self._pool_tokens.detach()), reader.probe())

    def last_row_gradients(
        self, targets: Float[Tensor, "image target embed"], target: int
    ) -> Float[Tensor, "image head token"]:
        """dS/dA of that row."""
        if self.model.tower.pool_mlp is None:
            return self.attention_gradients(targets, target, len(self.layers) - 1)[:, :, 0]
        scores = self.scores(targets[:, target])
        gradient = wide(torch.autograd.grad(scores.sum(), self._pool_read, retain_graph=True)[0])
        weights = self.model.tower.readers[-1].weights()
        asked = torch.einsum("bw,hwd->bhd", gradient.flatten(1), weights.output.to(gradient))
        tokens = wide(self._pool_tokens.detach())
        return torch.einsum("bhd,bhid->bhi", asked, head_inputs(weights, tokens, tokens).value)

    def middle_gradients(
        self, targets: Float[Tensor, "image target embed"], target: int
    ) -> list[Float[Tensor, "image token width"]]:
        """dS/dm of every layer for one of the targets; each image's own score."""

        def make() -> list[Tensor]:
            scores = self.scores(targets[:, target])
            middles = [layer.middle for layer in self.layers]
            # Images do not see each other: the gradient of the sum holds each image's own.
            found = torch.autograd.grad(scores.sum(), middles, retain_graph=True)
            return [wide(gradient) for gradient in found]

        return self.once("middle gradients", targets, target, make)

    def once(self, name: str, targets: Float[Tensor, "image target embed"], target: int, make: Callable[[], T]) -> T:
        """What `make` gives for one of the targets, made once however many methods ask; other targets clear it."""
        if self._targets is None or not torch.equal(self._targets, targets):
            self._targets, self._made = targets.clone(), {}
        if (name, target) not in self._made:
            self._made[name, target] = make()
        return self._made[name, target]

    def scores(self, targets: Float[Tensor, "image embed"]) -> Float[Tensor, " image"]:
        """S of each image, on the graph: <z/|z|, t>, or <z, t> for a classifier."""
        embeddings = self.embeddings
        if self.model.classifier is None:
            embeddings = nn.functional.normalize(embeddings, dim=-1)
        return (embeddings * targets.to(embeddings)).sum(dim=-1)

    def attention_gradients(
        self, targets: Float[Tensor, "image target embed"], target: int, layer: int
    ) -> Float[Tensor, "image head token token"]:
        """dS/dA of one layer."""
        return self.through_attention(layer, self.middle_gradients(targets, target)[layer])

    def through_attention(
        self, layer: int, middle_gradient: Float[Tensor, "image token width"]
    ) -> Float[Tensor, "image head token token"]:
        """(W_O[h]^T g[q]) . v[h,i] for a gradient g at m."""
        output = self.weights(layer).output.to(middle_gradient)
        asked = torch.einsum("bqw,hwd->bhqd", middle_gradient, output)
        return asked @ self.inputs[layer].value.mT

    def weights(self, layer: int) -> AttentionWeights:
        """The attention's weights of one layer."""
        return self.model.tower.attentions[layer].weights()
