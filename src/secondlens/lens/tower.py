"""What every image tower looks like to the rest of the project: references into the upstream modules.

A `VisionTower` names the three kinds of hook sites (the layer norm before each attention, the input of each
MLP's output projection, the input of the final layer norm) and hands out the weights around them. It holds no copy
of a weight and re-implements no forward pass.

A **reader** is an attention whose output reaches the pooled token directly. In a tower with a class token every
layer's attention is a reader, with the class token's row as query. In a tower with an attention-pooling head that
head is the only reader, its probe the query: an attention between patches moves information on, it does not write to
the embedding.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True)
class AttentionWeights:
    """The weights of one attention, a slice a head (views where upstream's layout allows).

    The keys' bias is absent on purpose: for a single query it adds the same number to every token's logit, and the
    softmax removes it.
    """

    query: Float[Tensor, "head dim width"]
    query_bias: Float[Tensor, "head dim"]
    key: Float[Tensor, "head dim width"]
    value: Float[Tensor, "head dim width"]
    value_bias: Float[Tensor, "head dim"]
    output: Float[Tensor, "head width dim"]
    output_bias: Float[Tensor, " width"]

    @property
    def scale(self) -> float:
        """1 / sqrt(dim), the factor on the logits."""
        return float(self.query.shape[1]) ** -0.5

    @classmethod
    def from_linears(
        cls, query: nn.Linear, key: nn.Linear, value: nn.Linear, output: nn.Linear, heads: int
    ) -> "AttentionWeights":
        """Views of four `nn.Linear` projections."""
        return cls._split(
            query.weight, key.weight, value.weight, query.bias, value.bias, output.weight, output.bias, heads
        )

    @classmethod
    def from_multihead(cls, attention: nn.MultiheadAttention) -> "AttentionWeights":
        """Views of an `nn.MultiheadAttention` whose three inputs have the same width."""
        query, key, value = attention.in_proj_weight.chunk(3)
        query_bias = value_bias = None
        if attention.in_proj_bias is not None:
            query_bias, _, value_bias = attention.in_proj_bias.chunk(3)
        out = attention.out_proj
        return cls._split(query, key, value, query_bias, value_bias, out.weight, out.bias, attention.num_heads)

    @classmethod
    def _split(
        cls,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        query_bias: Tensor | None,
        value_bias: Tensor | None,
        output: Tensor,
        output_bias: Tensor | None,
        heads: int,
    ) -> "AttentionWeights":
        width = query.shape[1]
        split = (heads, -1, width)
        zeros = query.new_zeros(query.shape[0])
        return cls(
            query=query.detach().view(split),
            query_bias=(zeros if query_bias is None else query_bias.detach()).view(heads, -1),
            key=key.detach().reshape(split),
            value=value.detach().reshape(split),
            value_bias=(zeros if value_bias is None else value_bias.detach()).view(heads, -1),
            output=output.detach().view(output.shape[0], heads, -1).transpose(0, 1),
            output_bias=output.new_zeros(output.shape[0]) if output_bias is None else output_bias.detach(),
        )

    def scaled(self, gain: Tensor) -> "AttentionWeights":
        """The same attention with its output multiplied by LayerScale's `gain` [width]."""
        return AttentionWeights(
            self.query,
            self.query_bias,
            self.key,
            self.value,
            self.value_bias,
            self.output * gain[None, :, None],
            self.output_bias * gain,
        )


@dataclass(frozen=True)
class Reader:
    """An attention that writes to the pooled token.

    norm: the layer norm before it, a hook site (its input gives sigma, its output feeds queries, keys and values).
    weights: a function, so that the reference survives a change of precision or device.
    layers_before: it sees what layers 0 .. layers_before - 1 wrote.
    probe: the fixed query [width] of an attention-pooling head; None where the class token asks.
    projections: the modules that make queries, keys and values of the layer norm's output, hook sites too; None where
    upstream calls them functionally.
    """

    norm: nn.LayerNorm
    weights: Callable[[], AttentionWeights]
    layers_before: int
    probe: Callable[[], Tensor] | None = None
    projections: tuple[nn.Linear, nn.Linear, nn.Linear] | None = None


@dataclass(frozen=True)
class MLP:
    """An MLP's output projection; `project` is the hook site, its *input* the post-activation values.

    norm, expand: the layer norm before the MLP and its first projection, which only gradients and relevances need.
    """

    project: nn.Linear
    gain: Callable[[], Tensor] | None = None
    norm: nn.LayerNorm | None = None
    expand: nn.Linear | None = None

    def weight(self) -> Float[Tensor, "width neuron"]:
        """What each neuron writes to the residual stream per unit of activation (LayerScale included)."""
        weight = self.project.weight.detach()
        return weight if self.gain is None else weight * self.gain()[:, None]

    def bias(self) -> Float[Tensor, " width"]:
        """The constant that the MLP adds whatever its neurons do."""
        bias: Tensor | None = self.project.bias
        if bias is None:
            return self.project.weight.new_zeros(self.project.weight.shape[0])
        return bias.detach() if self.gain is None else bias.detach() * self.gain()

    def write(self, activations: Float[Tensor, "... neuron"]) -> Float[Tensor, "... width"]:
        """What the MLP adds to the residual stream, bias included, in the precision of the activations."""
        return activations @ self.weight().to(activations).T + self.bias().to(activations)


@dataclass(frozen=True)
class Block:
    """One layer as upstream runs it, for a network that is entered half-way.

    module: upstream's layer, whose output is the residual stream after it. run: calls it on a residual stream.
    norm, weights: the layer norm before its attention, and that attention (LayerScale included).
    mlp: the second half, x + MLP(layer norm(x)), through upstream's own modules and for any tokens.
    projections: of its attention, as in `Reader`.
    """

    module: nn.Module
    run: Callable[[Tensor], Tensor]
    norm: nn.LayerNorm
    weights: Callable[[], AttentionWeights]
    mlp: Callable[[Tensor], Tensor]
    projections: tuple[nn.Linear, nn.Linear, nn.Linear] | None = None

    def reader(self, layers_before: int) -> Reader:
        """Its attention."""
        return Reader(self.norm, self.weights, layers_before, projections=self.projections)


@dataclass(frozen=True)
class VisionTower:
    """References into one image tower.

    forward: pixels [image, 3, height, width] to embeddings [image, embed], unnormalised: upstream's own forward pass.
    readers: in the order in which they fire.
    mlps: one a layer, in order. blocks: the layers themselves.
    readout: residual stream after the last layer [image, token, width] to embeddings, through upstream's modules.
    finish: the same from what the last reader gave, [image, width]: the class token's residual after the last layer,
    or the output of a pooling head's attention.
    final_norm: the layer norm on the pooled token; None for an attention-pooling head, which has none.
    pool_mlp: the MLP after an attention-pooling head, None elsewhere.
    projection: W [embed, width] to the joint space; None for the identity.
    patch: the side of a patch in pixels.
    prefix_tokens: tokens before the first patch (class token, registers).
    any_size: whether `forward` takes images of other sizes (multiples of the patch), by interpolated positions.
    """

    module: nn.Module
    forward: Callable[[Tensor], Tensor]
    readers: tuple[Reader, ...]
    mlps: tuple[MLP, ...]
    blocks: tuple[Block, ...]
    readout: Callable[[Tensor], Tensor]
    finish: Callable[[Tensor], Tensor]
    final_norm: nn.LayerNorm | None
    projection: Callable[[], Tensor] | None
    activation: str
    image_size: tuple[int, int]
    patch: int
    prefix_tokens: int = 1
    pool_mlp: MLP | None = None
    any_size: bool = False

    @property
    def attentions(self) -> tuple[Reader, ...]:
        """The attention of every layer, reader or not; with a class token they are the readers."""
        if self.pool_mlp is None:
            return self.readers
        return tuple(block.reader(layer) for layer, block in enumerate(self.blocks))

    @property
    def pooling(self) -> str:
        """How the embedding is read off the tokens: "class token" or "attention"."""
        return "class token" if self.final_norm is not None else "attention"

    @cached_property
    def heads(self) -> int:
        """Heads of one reader."""
        return self.readers[0].weights().query.shape[0]

    @property
    def neurons(self) -> int:
        """Neurons of one layer's MLP."""
        return self.mlps[0].project.weight.shape[1]

    @property
    def width(self) -> int:
        """Features of the residual stream."""
        return self.mlps[0].project.weight.shape[0]

    @property
    def embed_dim(self) -> int:
        """Dimensions of the joint space."""
        return self.width if self.projection is None else self.projection().shape[0]

    def readers_of(self, layer: int) -> list[int]:
        """Indices of the readers that see what neurons of `layer` write."""
        return [index for index, reader in enumerate(self.readers) if reader.layers_before > layer]

    @property
    def lens_layers(self) -> range:
        """Layers whose neurons have a second-order effect, i.e. at least one later reader."""
        return range(max(reader.layers_before for reader in self.readers))

    def run_from(self, layer: int, residual: Float[Tensor, "image token width"]) -> Float[Tensor, "image embed"]:
        """Upstream's forward pass from the residual stream before `layer` on; `layer` may be one past the last."""
        for block in self.blocks[layer:]:
            residual = block.run(residual)
        return self.readout(residual)

    def final_gain(self) -> Float[Tensor, " width"]:
        """Weight of the final layer norm, ones where there is none."""
        if self.final_norm is None:
            return torch.ones_like(self.readers[0].norm.weight.detach())
        return self.final_norm.weight.detach()

    def project(self, residual: Float[Tensor, "... width"]) -> Float[Tensor, "... embed"]:
        """The projection to the joint space."""
        return residual if self.projection is None else residual @ self.projection().to(residual).T
