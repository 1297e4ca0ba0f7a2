"""Queries, keys and values of one attention: as upstream made them where a hook sees them, else computed anew."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from secondlens.lens.tower import AttentionWeights, Reader


class HeadInputs(NamedTuple):
    """What one attention works on, float32 or wider. residual: the residual stream before its layer norm."""

    query: Float[Tensor, "image head token dim"]
    key: Float[Tensor, "image head token dim"]
    value: Float[Tensor, "image head token dim"]
    residual: Float[Tensor, "image token width"]

    def matrix(self, scale: float) -> Float[Tensor, "image head token token"]:
        """A[h,q,i] = softmax_i(scale query[q] . key[i])."""
        return torch.softmax(self.query @ self.key.mT * scale, dim=-1)


OnAttention = Callable[[HeadInputs], None]
"""Called with what an attention works on."""


def wide(tensor: Tensor) -> Tensor:
    """Half precisions as float32: the lens's own sums are never narrower."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def head_inputs(
    weights: AttentionWeights, tokens: Float[Tensor, "image token width"], residual: Float[Tensor, "image token width"]
) -> HeadInputs:
    """The same from the layer norm's output, without the keys' bias, which the softmax removes."""

    def made(weight: Tensor, bias: Tensor | None) -> Tensor:
        flat = torch.nn.functional.linear(tokens, weight.flatten(0, 1).to(tokens), bias)
        return split_heads(flat, len(weight))

    query = made(weights.query, weights.query_bias.flatten().to(tokens))
    value = made(weights.value, weights.value_bias.flatten().to(tokens))
    return HeadInputs(query, made(weights.key, None), value, residual)


def split_heads(flat: Float[Tensor, "image token width"], heads: int) -> Float[Tensor, "image head token dim"]:
    """A projection's output, a slice a head."""
    return flat.unflatten(2, (heads, -1)).transpose(1, 2)


class HeadSites:
    """Hooks for one attention that call `on_attention` when queries, keys and values are there."""

    def __init__(self, layer: int, reader: Reader, on_attention: OnAttention) -> None:
        self.layer, self.reader, self.on_attention = layer, reader, on_attention
        self._residual: Tensor | None = None
        self._seen: dict[int, Tensor] = {}

    def sites(self) -> Iterator[tuple[str, nn.Module, Callable[..., None]]]:
        """Yield (name, module, forward hook), all of which must fire once in a pass."""
        yield f"layer norm of attention {self.layer}", self.reader.norm, self._on_norm
        names = ("queries", "keys", "values")
        for place, module in enumerate(self.reader.projections or ()):
            yield f"{names[place]} of attention {self.layer}", module, self._on_projection(place)

    def _on_norm(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self._residual = wide(inputs[0])
        if self.reader.projections is None:
            self.on_attention(head_inputs(self.reader.weights(), wide(output), self._residual))

    def _on_projection(self, place: int) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            self._seen[place] = split_heads(wide(output), len(self.reader.weights().query))
            # In whichever order upstream calls them.
            if len(self._seen) == 3 and self._residual is not None:
                parts = [self._seen.pop(index) for index in range(3)]
                self.on_attention(HeadInputs(parts[0], parts[1], parts[2], self._residual))

        return hook
