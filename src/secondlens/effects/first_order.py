"""First-order effects: what heads, MLPs and single neurons write to the embedding directly.

For a vector x written to the residual stream at the pooled token, the direct contribution is

    Proj diag(g_post) C x / (sigma_post |z|)

(Gandelsman et al. 2024, section 3.2). Everything written there, plus the constant Proj b_post / |z|, sums to the
unit-norm embedding. With an attention-pooling head, the writers are the head's own heads and its MLP.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from secondlens.models.capture import attention_output, capture
from secondlens.models.model import LensModel
from secondlens.models.tower import MLP, VisionTower
from secondlens.models.trace import POOL_MLP, CaptureRequest, Trace


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
