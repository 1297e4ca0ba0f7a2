"""The network above one layer, run for many single-neuron changes of that layer at once; exact, and never from pixels.

Neuron n of layer l changes the residual stream r [token, width] after it by c[n,i] w[n]: a number a token times its
write direction. What follows from that:

1. The next layer norm sees r + c w, so its output is (y + c y_w) / sigma' + b with y = diag(g) C r and
   y_w = diag(g) C w. Queries, keys and values are linear in it: those of y are made once an image, those of y_w once a
   neuron, and sigma'^2 = var(r) + 2 c cov(r, w) + c^2 var(w) + epsilon. No projection is run again for a neuron.
2. Of the last reader only the pooled query's row is needed, and with queries folded into keys and values taken after
   the mean over tokens, neither keys nor values of the tokens; of the last layer's MLP only the class token.
3. Where that last reader is the very next attention, it reads y and y_w: a neuron makes nothing of [token, width].
4. Everything between is upstream's own: the second half of the next layer, then whole layers.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from secondlens.errors import SecondLensError
from secondlens.models.capture import attention_output, pooled_attention, wide
from secondlens.models.tower import AttentionWeights, VisionTower


class Upper:
    """What is above `layer`, on the clean residual streams after it, for some images."""

    def __init__(self, tower: VisionTower, layer: int, residual: Float[Tensor, "image token width"]) -> None:
        if not 0 <= layer < len(tower.mlps):
            raise SecondLensError(f"the model has layers 0 to {len(tower.mlps) - 1}, got {layer}")
        self.tower = tower
        self.layer = layer
        self.dtype = residual.dtype
        self.residual = wide(residual)
        self.has_class_token = tower.final_norm is not None
        self.last = len(tower.blocks) - 1
        self.entry: _Entry | None = None
        if layer < self.last:
            self.entry = _Entry(self.residual, tower.blocks[layer + 1].norm, tower.blocks[layer + 1].weights())
        elif not self.has_class_token:
            self.entry = _Entry(self.residual, tower.readers[0].norm, tower.readers[0].weights())

    def embeddings(
        self, change: Float[Tensor, "neuron image token"], writes: Float[Tensor, "neuron width"]
    ) -> Float[Tensor, "neuron image embed"]:
        """The embeddings, unnormalised, with the residual stream changed by `change` times `writes`, each alone.

        Zero changes give the clean embeddings by the same arithmetic. Memory is that of a forward pass's layer over
        neurons times images: the caller chooses how many to give at once.
        """
        change, writes = change.transpose(0, 1).to(self.residual), writes.to(self.residual)
        pooled = self._pooled(change, writes)
        return wide(self.tower.finish(pooled.to(self.dtype))).transpose(0, 1)

    def _pooled(
        self, change: Float[Tensor, "image neuron token"], writes: Float[Tensor, "neuron width"]
    ) -> Float[Tensor, "image neuron width"]:
        """What `tower.finish` takes."""
        if self.entry is None:
            return self._token(change, writes)
        scaled = self.entry.scaled(change, writes)
        if self.layer == self.last:
            assert self.tower.readers[0].probe is not None
            return self.entry.read(scaled, writes, self.tower.readers[0].probe())
        if self.layer + 1 == self.last and self.has_class_token:
            token = self._token(change, writes) + self.entry.read(scaled, writes, None)
            return self._mlp(self.last, token)
        images, neurons = change.shape[:2]
        stream = torch.addcmul(self.residual[:, None], change[..., None], writes[:, None])
        stream = stream.add_(self.entry.attend(scaled, writes).view_as(stream))
        stream = self._mlp(self.layer + 1, stream.flatten(0, 1))
        return self._rest(stream).unflatten(0, (images, neurons))

    def _token(self, change: Tensor, writes: Tensor) -> Float[Tensor, "image neuron width"]:
        """The changed residual stream at the class token."""
        return torch.addcmul(self.residual[:, None, 0], change[:, :, 0, None], writes)

    def _mlp(self, layer: int, tokens: Float[Tensor, "rows token width"]) -> Float[Tensor, "rows token width"]:
        return wide(self.tower.blocks[layer].mlp(tokens.to(self.dtype)))

    def _rest(self, stream: Float[Tensor, "row token width"]) -> Float[Tensor, "row width"]:
        """From the residual stream after the layer that follows: upstream's layers, then the pooled row alone."""
        stop = self.last if self.has_class_token else self.last + 1
        current = stream.to(self.dtype)
        for block in self.tower.blocks[self.layer + 2 : stop]:
            current = block.run(current)
        reader = self.tower.readers[-1]
        tokens = wide(reader.norm(current))
        weights = reader.weights()
        attention = pooled_attention(weights, tokens, None if reader.probe is None else reader.probe())
        read = attention_output(weights, torch.bmm(attention, tokens)).sum(dim=1) + weights.output_bias.to(tokens)
        if not self.has_class_token:
            return read
        return self._mlp(self.last, (wide(current[:, 0]) + read)[:, None])[:, 0]


class _Scaled(NamedTuple):
    """1 / sigma' a token, and the same times the change."""

    clean: Float[Tensor, "image neuron token"]
    change: Float[Tensor, "image neuron token"]


class _Entry:
    """The attention that reads the changed stream first: its inputs by linearity."""

    def __init__(
        self, residual: Float[Tensor, "image token width"], norm: nn.LayerNorm, weights: AttentionWeights
    ) -> None:
        self.gain, self.eps = norm.weight.detach().to(residual), norm.eps
        self.offset = residual.new_zeros(residual.shape[-1]) if norm.bias is None else norm.bias.detach().to(residual)
        self.centred = residual - residual.mean(dim=-1, keepdim=True)
        self.variance = self.centred.square().mean(dim=-1)
        self.tokens = self.centred * self.gain
        self.weights = weights
        width = residual.shape[-1]
        parts = (weights.query, weights.key, weights.value)
        self.matrix = torch.cat([part.reshape(-1, width) for part in parts]).to(residual)
        zero = torch.zeros_like(weights.query_bias)
        biases = torch.cat([weights.query_bias, zero, weights.value_bias]).flatten().to(residual)
        self.bias = self.matrix @ self.offset + biases
        self._projected: Tensor | None = None

    def scaled(self, change: Float[Tensor, "image neuron token"], writes: Float[Tensor, "neuron width"]) -> _Scaled:
        """1 / sigma' of every token: a product [image token, width] x [width, neuron], and no changed stream."""
        centred = writes - writes.mean(dim=-1, keepdim=True)
        covariance = (self.centred @ centred.T).mT / writes.shape[-1]
        own = centred.square().mean(dim=-1)[:, None]
        variance = self.variance[:, None] + change * (2 * covariance + change * own)
        inverse = variance.clamp_(min=0).add_(self.eps).rsqrt_()
        return _Scaled(inverse, inverse * change)

    def attend(self, scaled: _Scaled, writes: Float[Tensor, "neuron width"]) -> Float[Tensor, "row token width"]:
        """The attention's output at every token."""
        if self._projected is None:
            self._projected = self.tokens @ self.matrix.T
        mine = self._own(writes) @ self.matrix.T
        projected = self._projected[:, None] * scaled.clean[..., None]
        projected = projected.addcmul_(scaled.change[..., None], mine[:, None]).add_(self.bias)
        heads, dim = self.weights.query_bias.shape
        query, key, value = projected.flatten(0, 1).unflatten(-1, (3, heads, dim)).permute(2, 0, 3, 1, 4)
        mixed = torch.nn.functional.scaled_dot_product_attention(query, key, value)
        output = self.weights.output.permute(1, 0, 2).flatten(1).to(mixed)
        return torch.nn.functional.linear(mixed.transpose(1, 2).flatten(2), output, self.weights.output_bias.to(mixed))

    def read(
        self, scaled: _Scaled, writes: Float[Tensor, "neuron width"], probe: Float[Tensor, " width"] | None
    ) -> Float[Tensor, "image neuron width"]:
        """The attention's output at the pooled token, query by token 0 or by a probe."""
        weights, own = self.weights, self._own(writes)
        images, neurons, count = scaled.clean.shape
        heads, dim = weights.query_bias.shape
        if probe is None:
            asks = self.tokens[:, None, 0] * scaled.clean[:, :, 0, None]
            asks = asks.addcmul_(scaled.change[:, :, 0, None], own).add_(self.offset)
        else:
            asks = probe.to(own).expand(images, neurons, -1)
        query = asks @ weights.query.flatten(0, 1).to(own).T + weights.query_bias.flatten().to(own)
        query = (query * weights.scale).unflatten(-1, (heads, dim))
        folded = torch.einsum("bnhd,hdw->bnhw", query, weights.key.to(own))
        # A query's product with the offset is the same at every token: the softmax removes it.
        logits = torch.bmm(folded.flatten(1, 2), self.tokens.mT).view(images, neurons, heads, count)
        shift = torch.einsum("bnhw,nw->bnh", folded, own)[..., None]
        logits = logits * scaled.clean[:, :, None] + shift * scaled.change[:, :, None]
        attention = torch.softmax(logits, dim=-1)
        mixed = torch.bmm((attention * scaled.clean[:, :, None]).flatten(1, 2), self.tokens)
        mixed = mixed.view(images, neurons, heads, -1) + self.offset
        mixed = mixed + (attention * scaled.change[:, :, None]).sum(dim=-1)[..., None] * own[:, None]
        read = attention_output(weights, mixed.flatten(0, 1)).sum(dim=1) + weights.output_bias.to(own)
        return read.unflatten(0, (images, neurons))

    def _own(self, writes: Float[Tensor, "neuron width"]) -> Float[Tensor, "neuron width"]:
        return (writes - writes.mean(dim=-1, keepdim=True)) * self.gain
