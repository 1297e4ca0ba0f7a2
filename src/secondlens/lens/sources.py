"""Where does what a head writes to the embedding come from? Its direct contribution, told apart by source and by token.

A head h of reader r writes W_O[h] (W_V[h] sum_i a[i] LN(x[i]) + b_V[h]), x[i] being the residual stream at token i.
For a direction d of the joint space, with b[i] = a[i] / (sigma[i] sigma_post |z|) and the head's reading vector

    q[h] = C diag(g[r]) W_V[h]^T W_O[h]^T C diag(g_post) Proj^T d,

its direct contribution to <z/|z|, d> is exactly

    sum_i b[i] <q[h], x[i]>  +  <W_O[h]^T C diag(g_post) Proj^T d, W_V[h] beta[r] + b_V[h]> / (sigma_post |z|)

(g, beta: weight and bias of the layer norm; C subtracts the mean over features; the attention sums to one). The first
term is linear in the residual stream, and that is a sum: token embeddings, what earlier attentions wrote to each token,
what earlier neurons wrote, and the biases of earlier MLPs. The neurons' part is their second-order effect.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from secondlens.lens.paths import output_map
from secondlens.lens.tower import VisionTower
from secondlens.lens.trace import Trace


@dataclass(frozen=True)
class HeadReading:
    """What one reader's heads look for, for one direction. vectors: q. constants: the last term, before its scale."""

    vectors: Float[Tensor, "head width"]
    constants: Float[Tensor, " head"]


@dataclass(frozen=True)
class HeadSources:
    """Parts of the direct contributions of one reader's heads to <z/|z|, d>, on a batch of images; they sum to them.

    neurons: second order, of every earlier layer's neurons. mlp_biases: of every earlier MLP's output bias.
    stream: of token embeddings, or of all that is no MLP where the tower does not show its first tokens apart.
    attentions: of what each earlier attention wrote to the tokens. constants: biases of the layer norm and the values.
    tokens: the same contribution without the constants, by token.
    """

    neurons: dict[int, Float[Tensor, "image head neuron"]]
    mlp_biases: dict[int, Float[Tensor, "image head"]]
    stream: Float[Tensor, "image head"]
    attentions: dict[int, Float[Tensor, "image head"]]
    constants: Float[Tensor, "image head"]
    tokens: Float[Tensor, "image head token"]


def head_reading(tower: VisionTower, reader: int, direction: Float[Tensor, " embed"]) -> HeadReading:
    """The input-independent half, in the precision of the direction."""
    weights, norm = tower.readers[reader].weights(), tower.readers[reader].norm
    outputs = output_map(tower, reader, centred=True, dtype=direction.dtype)
    read = torch.einsum("e,hed->hd", direction, outputs)
    back = torch.einsum("hd,hdw->hw", read, weights.value.to(read))
    vectors = back * norm.weight.detach().to(read)
    shift = weights.value_bias.to(read)
    if norm.bias is not None:
        shift = shift + torch.einsum("hdw,w->hd", weights.value.to(read), norm.bias.detach().to(read))
    return HeadReading(vectors - vectors.mean(dim=1, keepdim=True), (read * shift).sum(dim=1))


def head_sources(tower: VisionTower, trace: Trace, reader: int, direction: Float[Tensor, " embed"]) -> HeadSources:
    """Sources of one reader's heads, from a trace with `resid_pre` and the activations of all layers before it.

    A tower whose first reader sits before its first layer shows the token embeddings, and by difference what each
    attention wrote; with an attention-pooling head all that is no MLP is one source, `stream`.
    """
    seen = trace.readouts[reader]
    assert seen.resid_pre is not None
    scale = 1 / trace.final_scale
    weights = seen.attention / seen.sigma[:, None] * scale[:, None, None]
    reading = head_reading(tower, reader, direction)

    def through(written: Float[Tensor, "image token width"]) -> Float[Tensor, "image head token"]:
        return weights * torch.einsum("biw,hw->bhi", written, reading.vectors)

    tokens = through(seen.resid_pre)
    neurons, biases = {}, {}
    for layer in range(tower.readers[reader].layers_before):
        activations = trace.activations[layer]
        mixed = torch.bmm(weights, activations)
        neurons[layer] = mixed * (reading.vectors @ tower.mlps[layer].weight().to(mixed))
        biases[layer] = weights.sum(dim=2) * (reading.vectors @ tower.mlps[layer].bias().to(mixed))
    first = tower.readers[0]
    attentions: dict[int, Tensor] = {}
    if first.layers_before == 0:
        streams = [trace.readouts[index].resid_pre for index in range(reader + 1)]
        assert streams[0] is not None
        stream = through(streams[0]).sum(dim=2)
        for layer in range(reader):
            before, after = streams[layer], streams[layer + 1]
            assert before is not None
            assert after is not None
            attended = after - before - tower.mlps[layer].write(trace.activations[layer])
            attentions[layer] = through(attended).sum(dim=2)
    else:
        written = [neurons[layer].sum(dim=2) + biases[layer] for layer in neurons]
        stream = tokens.sum(dim=2) - torch.stack(written).sum(dim=0)
    return HeadSources(neurons, biases, stream, attentions, constants=reading.constants * scale[:, None], tokens=tokens)
