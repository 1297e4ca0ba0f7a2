"""Relevance propagated through attention (LRP and its variants): rules layer by layer, and the maps made of them.

Relevance starts as 1 at the score <z, t> and goes backwards; every rule conserves its sum, biases left aside:

    linear      z+ rule: R_in[j] = sum_i m[i,j] R_out[i] / sum_k m[i,k],    m[i,j] = x+[j] w+[i,j] + x-[j] w-[i,j]
    product     C = A B:  R_A = A * ((R_C / C) B^T) / 2,   R_B = B * (A^T (R_C / C)) / 2
    sum         u + v:    a = u R / (u + v), b = v R / (u + v), then rescaled so that |sum a| : |sum b| is kept and
                          sum a + sum b = sum R (the paper's equation 10 with the signs of its released code)
    copy        relevances of the copies are added
    layer norm, softmax, GELU   relevance passes unchanged

One departure: the keys' bias is left out of the product of queries and keys, as everywhere in this project; the
softmax removes it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from secondlens.analysis.heatmaps.gradcam import EachTarget
from secondlens.analysis.heatmaps.gradients import AttentionPass
from secondlens.lens.capture import wide
from secondlens.lens.heads import HeadInputs
from secondlens.lens.tower import AttentionWeights

# As the released code's: keeps a division finite, far below any value that matters.
TINY = 1e-9


@dataclass(frozen=True)
class Relevances:
    """attention: of every layer's attention matrix. tokens: of the tokens that enter the first layer."""

    attention: list[Float[Tensor, "image head token token"]]
    tokens: Float[Tensor, "image token"]


def relevances(found: AttentionPass, targets: Float[Tensor, "image target embed"], target: int) -> Relevances:
    """Relevances of one target, made once for all methods that read them. For towers with a class token."""
    return found.once("relevances", targets, target, lambda: _propagate(found, targets[:, target]))


@torch.no_grad()
def _propagate(found: AttentionPass, target: Float[Tensor, "image embed"]) -> Relevances:
    tower = found.model.tower
    relevance = torch.zeros_like(wide(found.layers[0].before))
    relevance[:, 0] = _start(found, target)
    attention: list[Tensor] = []
    for layer in range(len(found.layers) - 1, -1, -1):
        tensors, mlp, weights = found.layers[layer], tower.mlps[layer], found.weights(layer)
        assert mlp.expand is not None
        before, normed, middle, middle_normed, activations = (
            wide(tensor.detach())
            for tensor in (
                tensors.before,
                tensors.normed,
                tensors.middle,
                tensors.middle_normed,
                tensors.activations,
            )
        )
        kept, through = split_sum(middle, mlp.write(activations), relevance)
        through = through_linear(mlp.weight(), activations, through)
        relevance = kept + through_linear(mlp.expand.weight, middle_normed, through)
        kept, through = split_sum(before, middle - before, relevance)
        of_matrix, of_tokens = _through_attention(weights, found.inputs[layer], found.matrices[layer], normed, through)
        attention.insert(0, of_matrix)
        relevance = kept + of_tokens
    return Relevances(attention, relevance.sum(dim=-1))


def _start(found: AttentionPass, target: Float[Tensor, "image embed"]) -> Float[Tensor, "image width"]:
    """Through the score <z, t> and the projection to the final layer norm's output at the pooled token."""
    tower = found.model.tower
    embeddings = found.embeddings.detach()
    products = embeddings * target.to(embeddings)
    positive = products.clamp(min=0)
    relevance = divide(positive, positive.sum(dim=-1, keepdim=True))
    if tower.projection is None:
        return relevance
    norm, last = tower.final_norm, found.layers[-1]
    assert norm is not None
    after = wide(last.middle[:, 0].detach()) + tower.mlps[-1].write(wide(last.activations[:, 0].detach()))
    pooled = torch.nn.functional.layer_norm(
        after, norm.normalized_shape, norm.weight.to(after), norm.bias.to(after), norm.eps
    )
    return through_linear(tower.projection(), pooled, relevance)


def _through_attention(
    weights: AttentionWeights,
    inputs: HeadInputs,
    matrix: Float[Tensor, "image head token token"],
    tokens: Float[Tensor, "image token width"],
    relevance: Float[Tensor, "image token width"],
) -> tuple[Float[Tensor, "image head token token"], Float[Tensor, "image token width"]]:
    """Relevance of the attention matrix and of the layer norm's output, from that of the attention's output."""
    mixed = matrix @ inputs.value
    heads, dim = mixed.shape[1], mixed.shape[3]
    joined = weights.output.to(tokens).permute(1, 0, 2).flatten(1)
    relevance = through_linear(joined, mixed.transpose(1, 2).flatten(2), relevance)
    of_matrix, of_values = through_product(matrix, inputs.value, relevance.unflatten(2, (heads, dim)).transpose(1, 2))
    of_query, of_key = through_product(inputs.query, inputs.key.mT, of_matrix)
    total = torch.zeros_like(tokens)
    for weight, part in ((weights.query, of_query), (weights.key, of_key.mT), (weights.value, of_values)):
        total = total + through_linear(weight.flatten(0, 1), tokens, part.transpose(1, 2).flatten(2))
    return of_matrix, total


def through_linear(
    weight: Float[Tensor, "out in"], inputs: Float[Tensor, "*lead in"], relevance: Float[Tensor, "*lead out"]
) -> Float[Tensor, "*lead in"]:
    """The z+ rule."""
    weight = weight.detach().to(inputs)
    up, down = weight.clamp(min=0), weight.clamp(max=0)
    positive, negative = inputs.clamp(min=0), inputs.clamp(max=0)
    share = divide(relevance, positive @ up.T + negative @ down.T)
    return positive * (share @ up) + negative * (share @ down)


def through_product(
    left: Float[Tensor, "*lead row inner"],
    right: Float[Tensor, "*lead inner column"],
    relevance: Float[Tensor, "*lead row column"],
) -> tuple[Tensor, Tensor]:
    """The rule of a product of two tensors that both depend on the input: half of the relevance to each."""
    share = divide(relevance, left @ right)
    return left * (share @ right.mT) / 2, right * (left.mT @ share) / 2


def split_sum(
    left: Float[Tensor, "image token width"],
    right: Float[Tensor, "image token width"],
    relevance: Float[Tensor, "image token width"],
) -> tuple[Tensor, Tensor]:
    """The rule of a residual connection, with its sums over each image."""
    share = divide(relevance, left + right)
    parts = left * share, right * share
    sums = [part.sum(dim=(1, 2), keepdim=True) for part in parts]
    total = relevance.sum(dim=(1, 2), keepdim=True)
    size = sums[0].abs() + sums[1].abs()
    first, second = (part * divide(divide(own.abs(), size) * total, own) for part, own in zip(parts, sums, strict=True))
    return first, second


def divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    """numerator / denominator, 0 where the denominator is 0, never infinite."""
    shifted = denominator + TINY
    shifted = torch.where(shifted == 0, TINY, shifted)
    return torch.where(denominator == 0, 0.0, numerator / shifted)


@dataclass(frozen=True)
class LRP(EachTarget):
    """Relevance of each patch's token where it enters the first layer, summed over features (Binder et al. 2016).

    The rules are those of `relevance`. The baseline of Chefer et al. goes on through the patch embedding to the
    pixels; that only spreads a token's relevance within its patch.
    """

    name: str = "lrp"

    def row(
        self, found: AttentionPass, targets: Float[Tensor, "image target embed"], target: int
    ) -> Float[Tensor, "image token"]:
        """One backward propagation; signed."""
        return relevances(found, targets, target).tokens


@dataclass(frozen=True)
class PartialLRP(EachTarget):
    """Relevance of the last attention's class-token row, its positive part, mean over heads (Voita et al. 2019).

    H[i] = 1/heads sum_h relu(R_A[last,h,0,i])
    """

    name: str = "partial-lrp"

    def row(
        self, found: AttentionPass, targets: Float[Tensor, "image target embed"], target: int
    ) -> Float[Tensor, "image token"]:
        """One backward propagation."""
        return relevances(found, targets, target).attention[-1][:, :, 0].clamp(min=0).mean(dim=1)


@dataclass(frozen=True)
class TransformerAttribution(EachTarget):
    """Transformer attribution (Chefer, Gur and Wolf, CVPR 2021, equations 13 and 14): "Chefer 2021" of the tables.

    B[l] = I + 1/heads sum_h relu(dS/dA[l,h] * R_A[l,h])
    H    = the class token's row of B[last] ... B[0]

    R_A: relevance of the attention matrix; the gradient is of the score, the matrix seen as a free variable.
    """

    name: str = "chefer"

    def row(
        self, found: AttentionPass, targets: Float[Tensor, "image target embed"], target: int
    ) -> Float[Tensor, "image token"]:
        """One backward pass and one backward propagation."""
        seen = relevances(found, targets, target).attention
        return class_row(found, lambda layer: found.attention_gradients(targets, target, layer) * seen[layer])


@dataclass(frozen=True)
class GenericAttribution(EachTarget):
    """Generic attention explainability (Chefer, Gur and Wolf, ICCV 2021, equations 5 and 6, self-attention).

    As `TransformerAttribution` with the attention itself in the place of its relevance: no propagation is needed.

    B[l] = I + 1/heads sum_h relu(dS/dA[l,h] * A[l,h])
    """

    name: str = "chefer-generic"

    def row(
        self, found: AttentionPass, targets: Float[Tensor, "image target embed"], target: int
    ) -> Float[Tensor, "image token"]:
        """One backward pass."""
        return class_row(found, lambda layer: found.attention_gradients(targets, target, layer) * found.matrices[layer])


def class_row(
    found: AttentionPass, weighted: Callable[[int], Float[Tensor, "image head token token"]]
) -> Float[Tensor, "image token"]:
    """The class token's row of B[last] ... B[0], B[l] = I + 1/heads sum_h relu(weighted(l)[h])."""
    row = torch.zeros_like(found.last_row[:, 0])
    row[:, 0] = 1
    for layer in range(len(found.layers) - 1, -1, -1):
        row = row + torch.einsum("bi,bij->bj", row, weighted(layer).clamp(min=0).mean(dim=1))
    return row
