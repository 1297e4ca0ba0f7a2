"""First-order effects: what heads, MLPs and single neurons write to the embedding directly.

For a vector x written to the residual stream at the pooled token, the direct contribution is

    Proj diag(g_post) C x / (sigma_post |z|)

(Gandelsman et al. 2024, section 3.2). Everything written there, plus the constant Proj b_post / |z|, sums to the
unit-norm embedding. With an attention-pooling head, the writers are the head's own heads and its MLP.

Where in the image the heads' direct contributions come from: the attention's sum before it is summed over tokens.

With x[i] the output of the layer norm before a reader, a[h,i] the pooled token's attention, t a direction:

    c[t,i](I) = sum_{readers, heads} a[h,i] <Proj diag(g_post) C W_O[h] (W_V[h] x[i] + b_V[h]), t> / (sigma_post |z|)

(Gandelsman et al. 2024, section 5, there with the last layers only.) A head's attention sums to one, so its value bias
is spread over tokens as its attention is. With `c` summed over tokens, everything else that is written to the pooled
token (its own embedding, MLPs, output biases, the final layer norm's bias) is `rest`:

    sum_i c[t,i](I) + rest[t](I) = <z/|z|, t>
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from secondlens.errors import SecondLensError
from secondlens.lens.capture import attention_output, capture
from secondlens.lens.model import LensModel
from secondlens.lens.tower import MLP, AttentionWeights, VisionTower
from secondlens.lens.trace import POOL_MLP, CaptureRequest, Trace


@dataclass(frozen=True)
class DirectEffects:
    """Direct contributions to the unit-norm embedding; `total()` equals it to float precision.

    start: the class token's own embedding (zero with an attention-pooling head).
    heads: of each reader's heads, with their value bias. mlps: of each layer's MLP, with its bias.
    rest: output biases of the attentions and the bias of the final layer norm.
    """

    start: Float[Tensor, "image embed"]
    heads: Float[Tensor, "image reader head embed"]
    mlps: Float[Tensor, "image layer embed"]
    rest: Float[Tensor, "image embed"]

    def total(self) -> Float[Tensor, "image embed"]:
        """The sum of all parts."""
        return self.start + self.heads.sum(dim=(1, 2)) + self.mlps.sum(dim=1) + self.rest


@dataclass(frozen=True)
class NeuronDirectEffects:
    """Direct effects of a layer's neurons in factored form: coefficients[image, neuron] * writes[neuron]."""

    coefficients: Float[Tensor, "image neuron"]
    writes: Float[Tensor, "neuron embed"]

    def dense(self) -> Float[Tensor, "image neuron embed"]:
        """The effects themselves."""
        return self.coefficients[:, :, None] * self.writes


@torch.no_grad()
def first_order_effects(model: LensModel, pixels: Float[Tensor, "image 3 height width"]) -> DirectEffects:
    """Direct contributions of every head and MLP of the model on a batch of preprocessed images."""
    return direct_effects(model.tower, capture(model.tower, pixels, CaptureRequest(first_order=True)))


@torch.no_grad()
def first_order_neurons(
    model: LensModel, pixels: Float[Tensor, "image 3 height width"], layer: int
) -> NeuronDirectEffects:
    """Direct effects of the neurons of one layer's MLP; layer -1 is an attention-pooling head's MLP."""
    return direct_neurons(model.tower, capture(model.tower, pixels, CaptureRequest(first_order=True)), layer)


def direct_effects(tower: VisionTower, trace: Trace) -> DirectEffects:
    """The parts of a first-order trace."""
    readouts = [trace.readouts[index] for index in range(len(tower.readers))]
    weights = [reader.weights() for reader in tower.readers]
    heads = [
        attention_output(w, seen.mixed) for w, seen in zip(weights, readouts, strict=True) if seen.mixed is not None
    ]
    layers = [POOL_MLP] if tower.pool_mlp is not None else list(range(len(tower.mlps)))
    mlps = [_mlp(tower, layer).write(trace.pooled_activations[layer]) for layer in layers]
    biases = torch.stack([w.output_bias.to(heads[0]) for w in weights]).sum(dim=0)
    rest = _contribution(tower, trace, biases.expand(len(trace.embeddings), -1))
    if tower.final_norm is not None and tower.final_norm.bias is not None:
        constant = tower.project(tower.final_norm.bias.detach().to(heads[0]))
        rest = rest + constant / trace.embeddings.norm(dim=-1, keepdim=True)
    start = readouts[0].pooled_resid_pre if tower.final_norm is not None else torch.zeros_like(heads[0][:, 0])
    assert start is not None
    return DirectEffects(
        start=_contribution(tower, trace, start),
        heads=_contribution(tower, trace, torch.stack(heads, dim=1)),
        mlps=_contribution(tower, trace, torch.stack(mlps, dim=1)),
        rest=rest,
    )


def direct_neurons(tower: VisionTower, trace: Trace, layer: int) -> NeuronDirectEffects:
    """The neurons of one MLP that writes at the pooled token."""
    pooled = trace.pooled_activations[layer]
    scale = 1 / trace.final_scale
    written = _mlp(tower, layer).weight().to(pooled).T
    return NeuronDirectEffects(pooled * scale[:, None], _to_joint(tower, written))


def _mlp(tower: VisionTower, layer: int) -> MLP:
    mlp = tower.pool_mlp if layer == POOL_MLP else tower.mlps[layer]
    assert mlp is not None
    return mlp


def _to_joint(tower: VisionTower, written: Tensor) -> Tensor:
    """Proj diag(g_post) C x; the identity around the projection where there is no final layer norm."""
    if tower.final_norm is not None:
        written = (written - written.mean(dim=-1, keepdim=True)) * tower.final_gain().to(written)
    return tower.project(written)


def _contribution(tower: VisionTower, trace: Trace, written: Float[Tensor, "image ... width"]) -> Tensor:
    scale = 1 / trace.final_scale
    return _to_joint(tower, written) * scale.view(-1, *[1] * (written.ndim - 1))


@torch.no_grad()
def first_order_token_contributions(
    model: LensModel,
    pixels: Float[Tensor, "image 3 height width"],
    directions: Float[Tensor, "direction embed"],
    readers: Sequence[int] | None = None,
) -> Float[Tensor, "image direction token"]:
    """Contribution of each token, through the heads of some readers directly, to <z/|z|, direction>.

    directions: unit-norm texts or any other vectors of the joint space. readers: indices into `tower.readers` (layers,
    in a tower with a class token); all by default. Tokens as in the model, class token first where there is one.

    Raises `SecondLensError` for directions of another space or a reader that is not there.
    """
    tower = model.tower
    if directions.ndim != 2 or directions.shape[1] != tower.embed_dim:
        raise SecondLensError(
            f"expected directions [direction, {tower.embed_dim}] in the joint space, got {list(directions.shape)}"
        )
    chosen = set(range(len(tower.readers)) if readers is None else readers)
    if not chosen <= set(range(len(tower.readers))):
        raise SecondLensError(f"expected readers from 0 to {len(tower.readers) - 1}, got {sorted(chosen)}")
    if not chosen:
        raise SecondLensError("expected at least one reader")
    wide = torch.promote_types(model.dtype, torch.float32)
    reads = read_directions(tower, directions.to(model.device, wide))
    found: list[Tensor] = []

    def add(index: int, tokens: Tensor, attention: Tensor) -> None:
        if index in chosen:
            found.append(reader_contributions(tower.readers[index].weights(), reads, tokens, attention))

    trace = capture(tower, pixels, CaptureRequest(first_order=True, on_readout=add))
    scale = 1 / trace.final_scale
    return torch.stack(found).sum(dim=0) * scale[:, None, None]


def reader_contributions(
    weights: AttentionWeights,
    reads: Float[Tensor, "direction width"],
    tokens: Float[Tensor, "image token width"],
    attention: Float[Tensor, "image head token"],
) -> Float[Tensor, "image direction token"]:
    """One reader's part of `c`, times sigma_post |z|; `reads` as `read_directions` makes them."""
    # Folded into the values' weight, a direction is read off the tokens without making any value.
    along = torch.einsum("tw,hwd->htd", reads, weights.output.to(reads))
    folded = torch.einsum("htd,hdw->htw", along, weights.value.to(reads))
    bias = torch.einsum("htd,hd->ht", along, weights.value_bias.to(reads))
    heads, count, width = folded.shape
    read = (tokens @ folded.reshape(-1, width).T).unflatten(-1, (heads, count)) + bias
    return torch.einsum("bhi,biht->bti", attention, read)


def read_directions(tower: VisionTower, directions: Float[Tensor, "direction embed"]) -> Tensor:
    """[direction, width]: C diag(g_post) Proj^T t, so that <Proj diag(g_post) C x, t> is its product with x."""
    read = directions if tower.projection is None else directions @ tower.projection().to(directions)
    if tower.final_norm is None:
        return read
    read = read * tower.final_gain().to(read)
    return read - read.mean(dim=-1, keepdim=True)
