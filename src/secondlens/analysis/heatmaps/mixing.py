"""How much of each token after an attention came from each token before it: what traced maps are followed back by.

Three kinds. With A the attention of a head, v its values, x the residual stream, rows summing to one in all:

    "norms"        B[q,i] = w[q,i] / sum_i w[q,i],   w[q,i] = |sum_h A[h,q,i] W_O[h] v[h,i] + [q = i] x[q]|
                   (Kobayashi et al. 2021, without their layer norm after)
    "attention"    B = (I + 1/heads sum_h A[h]) / 2            rollout's: what was there, and the attention
    "block"        B = (2 I + 1/heads sum_h A[h]) / 3          ours: a layer gives a token three things, what was there,
                   the attention and the MLP; two of them are the token's own

What it costs, in multiplications a layer of T tokens, width W, H heads, beside the layer's own 12 T W^2 + 2 T^2 W:

    A from queries and keys       T^2 W             they are upstream's own, seen by hooks
    W_O[h] v[h,i]                 T W^2             the floor of "norms": each head's part alone, so its sum is no help
    Gram matrices of these        T H^2 W           instead of T^2 H W for the vectors moved themselves
    the norms                     T^2 H^2

For ViT-B-32 that is 10.4 % of a layer for "norms" and 0.5 % for the others. Values are followed back as rows [target,
token] from the last layer down, T^2 a target and layer; no product of two B is made.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from secondlens.lens.heads import HeadInputs
from secondlens.lens.tower import AttentionWeights

Mixing = Literal["norms", "attention", "block"]
"""How tokens are followed back through a layer: by the norms of what its attention moves, or by shares of attention."""


def mix(kind: Mixing, weights: AttentionWeights, inputs: HeadInputs) -> Float[Tensor, "image token token"]:
    """B of one attention."""
    matrix = inputs.matrix(weights.scale)
    if kind == "norms":
        return shares(weights, inputs, matrix)
    own = {"attention": 1 / 2, "block": 2 / 3}[kind]
    mean = matrix.mean(dim=1) * (1 - own)
    mean.diagonal(dim1=1, dim2=2).add_(own)
    return mean


def shares(
    weights: AttentionWeights, inputs: HeadInputs, matrix: Float[Tensor, "image head token token"]
) -> Float[Tensor, "image token token"]:
    """By norms, through Gram matrices: nothing of [token, token, width] is made.

    With f[h] = W_O[h] v[h,i] and f[H] = x[i] the vectors that token i gives, and A[H,q,i] = [q = i], for the residual
    stream takes the token along:  w[q,i]^2 = sum_{h,h'} A[h,q,i] A[h',q,i] <f[h], f[h']>.
    """
    images, heads, tokens, dim = inputs.value.shape
    given = inputs.residual.new_empty(heads + 1, images * tokens, inputs.residual.shape[2])
    # One product a head, its rows the tokens of all images.
    values = inputs.value.transpose(0, 1).reshape(heads, images * tokens, dim)
    torch.bmm(values, weights.output.to(values).mT, out=given[:heads])
    given[heads] = inputs.residual.flatten(0, 1)
    gram = torch.bmm(given.transpose(0, 1), given.permute(1, 2, 0))
    taken = matrix.new_zeros(images, tokens, heads + 1, tokens)
    taken[:, :, :heads] = matrix.permute(0, 3, 1, 2)
    taken[:, :, heads].diagonal(dim1=1, dim2=2).fill_(1)
    taken = taken.flatten(0, 1)
    squares = (torch.bmm(gram, taken) * taken).sum(dim=1).view(images, tokens, tokens).mT
    norms = squares.clamp(min=0).sqrt_()
    return norms / norms.sum(dim=-1, keepdim=True)


def back_to_input(
    found: Mapping[int, Float[Tensor, "image target token"]], mixing: list[Float[Tensor, "image token token"]]
) -> Float[Tensor, "image target token"]:
    """Values of tokens at some depths to the tokens of the input: sum_d found[d] B[d-1] ... B[0].

    found: by depth, i.e. how many attentions came before. mixing: B of each layer; where its rows sum to one, sums over
    tokens are kept.
    """
    deepest = max(found)
    total = found[deepest]
    for depth in range(deepest - 1, -1, -1):
        total = total @ mixing[depth]
        if depth in found:
            total = total + found[depth]
    return total
