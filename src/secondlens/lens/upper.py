"""The network above one layer, run for many single-neuron changes of that layer at once; exact, and never from pixels.

Neuron n of layer l changes the residual stream r [token, width] after it by c[n,i] w[n]: a number per token times its
write direction. What follows from that:

1. The next layer norm sees r + c w, so its output is (y + c y_w) / sigma' + b with y = diag(g) C r and
   y_w = diag(g) C w. Queries, keys and values are linear in it: those of y are made once per image, those of y_w once
   per neuron, and sigma'^2 = var(r) + 2 c cov(r, w) + c^2 var(w) + epsilon. No projection is run again for a neuron.
2. Of the last readout attention only the pooled query's row is needed, and with queries folded into keys and values
   taken after the mean over tokens, neither keys nor values of the tokens; of the last layer's MLP only one token.
3. Where that attention is the very next one, it reads y and y_w: a neuron makes nothing of [token, width].
4. Everything between is upstream's own: the second half of the next layer, then whole layers.

Which attention reads the changed stream next decides what is run. With L the last layer:

    pooling       layer    next attention      what is run                                              case
    class token   L        none                nothing                                                  _unread
    class token   L - 1    of L, the last      its pooled row (3), MLP of L there                       _last_attention
    class token   < L - 1  of l + 1            that at every token (1), MLP of l + 1, layers to L - 1,  _to_class_token
                                               pooled row of attention L (2), MLP of L there
    attention     L        the pooling head    its pooled row (3)                                       _pooling_head
    attention     < L      of l + 1            that at every token (1), MLP of l + 1, layers to L,      _to_pooling_head
                                               pooled row of the pooling head (2)

Each case gives what `tower.finish` takes: the class token after layer L, or the output of the pooling head's attention.
"""

from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from secondlens.errors import SecondLensError
from secondlens.lens.capture import pooled_attention, pooled_output, wide
from secondlens.lens.tower import Reader, VisionTower


class Upper:
    """What is above `layer`, on the clean residual streams after it, for some images."""

    def __init__(self, tower: VisionTower, layer: int, residual: Float[Tensor, "image token width"]) -> None:
        if not 0 <= layer < len(tower.mlps):
            raise SecondLensError(f"the model has layers 0 to {len(tower.mlps) - 1}, got {layer}")
        self.tower, self.layer, self.last = tower, layer, len(tower.blocks) - 1
        self.dtype, self.residual = residual.dtype, wide(residual)

    def embeddings(
        self, change: Float[Tensor, "neuron image token"], writes: Float[Tensor, "neuron width"]
    ) -> Float[Tensor, "neuron image embed"]:
        """Return the embeddings, unnormalised, with the residual stream changed by `change` times `writes`, each alone.

        Zero changes give the clean embeddings by the same arithmetic. Memory is that of a forward pass's layer over
        neurons times images: the caller chooses how many to give at once.
        """
        case = CASES[self.tower.pooling, min(self.last - self.layer, 2)]
        pooled = case(self, change.transpose(0, 1).to(self.residual), writes.to(self.residual))
        return wide(self.tower.finish(pooled.to(self.dtype))).transpose(0, 1)

    def _unread(
        self, change: Float[Tensor, "image neuron token"], writes: Float[Tensor, "neuron width"]
    ) -> Float[Tensor, "image neuron width"]:
        return torch.addcmul(self.residual[:, None, 0], change[:, :, 0, None], writes)

    def _last_attention(self, change: Tensor, writes: Tensor) -> Float[Tensor, "image neuron width"]:
        return self._mlp(self.last, self._unread(change, writes) + self._next.pooled_row(change, writes))

    def _to_class_token(self, change: Tensor, writes: Tensor) -> Float[Tensor, "image neuron width"]:
        stream = self._stream_before(self.last, change, writes)
        token = wide(stream[:, 0]) + self._pooled_row(stream)
        return self._mlp(self.last, token[:, None])[:, 0].unflatten(0, change.shape[:2])

    def _pooling_head(self, change: Tensor, writes: Tensor) -> Float[Tensor, "image neuron width"]:
        return self._next.pooled_row(change, writes)

    def _to_pooling_head(self, change: Tensor, writes: Tensor) -> Float[Tensor, "image neuron width"]:
        stream = self._stream_before(self.last + 1, change, writes)
        return self._pooled_row(stream).unflatten(0, change.shape[:2])

    @cached_property
    def _next(self) -> "_NextAttention":
        above = self.layer + 1
        reader = self.tower.attentions[above] if above <= self.last else self.tower.readers[-1]
        return _NextAttention(self.residual, reader)

    def _stream_before(self, layer: int, change: Tensor, writes: Tensor) -> Float[Tensor, "row token width"]:
        """Return the changed residual stream before a layer at least two above, in upstream's precision."""
        stream = torch.addcmul(self.residual[:, None], change[..., None], writes[:, None])
        stream = stream.add_(self._next.every_row(change, writes).view_as(stream))
        stream = self._mlp(self.layer + 1, stream.flatten(0, 1)).to(self.dtype)
        for block in self.tower.blocks[self.layer + 2 : layer]:
            stream = block.run(stream)
        return stream

    def _mlp(self, layer: int, tokens: Float[Tensor, "row token width"]) -> Float[Tensor, "row token width"]:
        return wide(self.tower.blocks[layer].mlp(tokens.to(self.dtype)))

    def _pooled_row(self, stream: Float[Tensor, "row token width"]) -> Float[Tensor, "row width"]:
        """Return the output of the last readout attention at the pooled token."""
        reader = self.tower.readers[-1]
        tokens, weights = wide(reader.norm(stream)), reader.weights()
        attention = pooled_attention(weights, tokens, None if reader.probe is None else reader.probe())
        return pooled_output(weights, torch.bmm(attention, tokens))


CASES = {
    ("class token", 0): Upper._unread,
    ("class token", 1): Upper._last_attention,
    ("class token", 2): Upper._to_class_token,
    ("attention", 0): Upper._pooling_head,
    ("attention", 1): Upper._to_pooling_head,
    ("attention", 2): Upper._to_pooling_head,
}
"""The module's table, by pooling and the number of layers above; 2 stands for more."""


class _NextAttention:
    """The attention that reads the changed stream first: its inputs by linearity."""

    def __init__(self, residual: Float[Tensor, "image token width"], reader: Reader) -> None:
        norm = reader.norm
        self.weights, self.eps, self.gain = reader.weights(), norm.eps, norm.weight.detach().to(residual)
        self.pooling_query = None if reader.probe is None else reader.probe()
        self.offset = residual.new_zeros(residual.shape[-1]) if norm.bias is None else norm.bias.detach().to(residual)
        self.centred = residual - residual.mean(dim=-1, keepdim=True)
        self.variance = self.centred.square().mean(dim=-1)
        self.tokens = self.centred * self.gain

    def every_row(
        self, change: Float[Tensor, "image neuron token"], writes: Float[Tensor, "neuron width"]
    ) -> Float[Tensor, "row token width"]:
        """Return the attention's output at every token."""
        weights, (matrix, bias, clean) = self.weights, self._projections
        inverse, scaled = self._scales(change, writes)
        projected = clean[:, None] * inverse[..., None]
        projected = projected.addcmul_(scaled[..., None], (self._normed(writes) @ matrix.T)[:, None]).add_(bias)
        heads, dim = weights.query_bias.shape
        query, key, value = projected.flatten(0, 1).unflatten(-1, (3, heads, dim)).permute(2, 0, 3, 1, 4)
        mixed = torch.nn.functional.scaled_dot_product_attention(query, key, value)
        output = weights.output.permute(1, 0, 2).flatten(1).to(mixed)
        return torch.nn.functional.linear(mixed.transpose(1, 2).flatten(2), output, weights.output_bias.to(mixed))

    def pooled_row(
        self, change: Float[Tensor, "image neuron token"], writes: Float[Tensor, "neuron width"]
    ) -> Float[Tensor, "image neuron width"]:
        """Return the attention's output at the pooled token, for the pooling query or, without one, for token 0's."""
        weights, own = self.weights, self._normed(writes)
        inverse, scaled = self._scales(change, writes)
        images, neurons, count = change.shape
        heads, dim = weights.query_bias.shape
        if self.pooling_query is None:
            source = self.tokens[:, None, 0] * inverse[:, :, 0, None]
            source = source.addcmul_(scaled[:, :, 0, None], own).add_(self.offset)
        else:
            source = self.pooling_query.to(own).expand(images, neurons, -1)
        query = source @ weights.query.flatten(0, 1).to(own).T + weights.query_bias.flatten().to(own)
        query = (query * weights.scale).unflatten(-1, (heads, dim))
        folded = torch.einsum("bnhd,hdw->bnhw", query, weights.key.to(own))
        # A query's product with the offset is the same at every token: the softmax removes it.
        logits = torch.bmm(folded.flatten(1, 2), self.tokens.mT).view(images, neurons, heads, count)
        shift = torch.einsum("bnhw,nw->bnh", folded, own)[..., None]
        attention = torch.softmax(logits * inverse[:, :, None] + shift * scaled[:, :, None], dim=-1)
        mixed = torch.bmm((attention * inverse[:, :, None]).flatten(1, 2), self.tokens)
        mixed = mixed.view(images, neurons, heads, -1) + self.offset
        mixed = mixed + (attention * scaled[:, :, None]).sum(dim=-1)[..., None] * own[:, None]
        return pooled_output(weights, mixed.flatten(0, 1)).unflatten(0, (images, neurons))

    @cached_property
    def _projections(self) -> tuple[Tensor, Tensor, Tensor]:
        """Weights and biases of queries, keys and values, one above the other, and the clean tokens' part of these."""
        weights, width = self.weights, self.tokens.shape[-1]
        parts = (weights.query, weights.key, weights.value)
        matrix = torch.cat([part.reshape(-1, width) for part in parts]).to(self.tokens)
        biases = torch.cat([weights.query_bias, torch.zeros_like(weights.query_bias), weights.value_bias])
        return matrix, matrix @ self.offset + biases.flatten().to(self.tokens), self.tokens @ matrix.T

    def _scales(self, change: Tensor, writes: Tensor) -> tuple[Tensor, Tensor]:
        """Return 1 / sigma' [image, neuron, token] and that times the change.

        One product [image token, width] x [width, neuron], and no changed stream.
        """
        centred = writes - writes.mean(dim=-1, keepdim=True)
        covariance = (self.centred @ centred.T).mT / writes.shape[-1]
        own = centred.square().mean(dim=-1)[:, None]
        variance = self.variance[:, None] + change * (2 * covariance + change * own)
        inverse = variance.clamp_(min=0).add_(self.eps).rsqrt_()
        return inverse, inverse * change

    def _normed(self, writes: Float[Tensor, "neuron width"]) -> Float[Tensor, "neuron width"]:
        return (writes - writes.mean(dim=-1, keepdim=True)) * self.gain
