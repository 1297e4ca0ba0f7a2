"""Paths, coefficients and write directions: the factored form of a neuron's second-order effect.

For neuron n of layer l and path k = (reader l', head h):

    s[n,k](I) = 1/(sigma_post(I) |z(I)|) * sum_i a[l',h,i](I) p[n,i](I) / sigma[l',i](I)          the coefficient
    u[n,k]    = Proj diag(g_post) C  W_O[h] W_V[h]  diag(g[l']) C w[n]                             the write direction
    phi[n](I) = sum_k s[n,k](I) u[n,k]                                                               the effect

a: attention of the pooled token's query; p: post-activation values; sigma: standard deviations in the layer norms,
g their weights; w: the neuron's column of the MLP output matrix; C subtracts the mean over features; |z| is the norm
of the embedding. An attention-pooling head has no final layer norm: sigma_post = 1, diag(g_post) C = identity.

Convention "centred" is the above. "released" drops both C, as the paper's released code does; its effects differ from
that code's by one vector an image that is the same for every neuron.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from secondlens.errors import SecondLensError, closest
from secondlens.lens.capture import wide
from secondlens.lens.tower import VisionTower
from secondlens.lens.trace import Trace
from secondlens.numerics.kernels import fused, product

Convention = Literal["centred", "released"]


class Path(NamedTuple):
    """One way from a neuron to the embedding: a head of a later reader (for a class token, the later layer)."""

    reader: int
    head: int


def check_convention(convention: str) -> None:
    """Raise for anything but "centred" and "released"."""
    if convention not in get_args(Convention):
        raise SecondLensError(f"unknown convention {convention!r}{closest(convention, get_args(Convention))}")


def check_layer(tower: VisionTower, layer: int) -> None:
    """Raise where `layer` does not exist or no later attention reads it."""
    usable = tower.lens_layers
    if layer not in usable:
        last = len(tower.mlps) - 1
        why = "no attention comes after it" if layer == last else f"the model has layers 0 to {last}"
        raise SecondLensError(
            f"layer {layer} has no second-order effects: {why}; expected a layer from {usable[0]} to {usable[-1]}"
            if len(usable)
            else f"layer {layer} has no second-order effects: the model has no layer with a later attention"
        )


def paths_of(tower: VisionTower, layer: int) -> list[Path]:
    """All paths of a neuron of `layer`, reader by reader, head by head."""
    return [Path(reader, head) for reader in tower.readers_of(layer) for head in range(tower.heads)]


def path_weights(trace: Trace, tower: VisionTower, layer: int) -> Float[Tensor, "image path token"]:
    """a[l',h,i] / (sigma[l',i] sigma_post |z|): what turns activations into coefficients."""
    first = tower.readers_of(layer)[0]
    if trace.path_weights is None:
        # Once a pass, of all readers: those of a layer are the last of them.
        seen = [trace.readouts[index] for index in sorted(trace.readouts)]
        images, heads, tokens = seen[0].attention.shape
        scale = trace.final_scale[:, None, None]
        made = scale.new_empty(images, len(seen) * heads, tokens)
        for place, reader in enumerate(seen):
            # Straight into its place: joining them afterwards costs more.
            divisor = scale * reader.sigma[:, None, :]
            torch.div(reader.attention, divisor, out=made[:, place * heads : (place + 1) * heads])
        trace.path_weights = made
    before = sum(index < first for index in trace.readouts)
    return trace.path_weights[:, before * tower.heads :]


def coefficients(
    weights: Float[Tensor, "image path token"], activations: Float[Tensor, "image token neuron"]
) -> Float[Tensor, "image neuron path"]:
    """s[n,k] = sum_i weights[k,i] p[i,n], one small product an image; nothing of [token, neuron, width] exists."""
    return torch.bmm(activations.transpose(1, 2), weights.transpose(1, 2))


def coefficients_by_neuron(
    weights: Float[Tensor, "image path token"], activations: Float[Tensor, "image token neuron"]
) -> Float[Tensor, "neuron image path"]:
    """The same in float32, a neuron's own in one piece; activations in any precision."""
    if not fused(activations, weights):
        # Of a model in float64 rounded here.
        return coefficients(weights, wide(activations)).float().transpose(0, 1)
    images, paths, _ = weights.shape
    found = weights.new_empty(activations.shape[2], images, paths)
    product(weights, activations, out=found.permute(1, 2, 0))
    return found


@dataclass(frozen=True)
class WriteMaps:
    """u[n,k] = reads[k] @ values[k][:, n], kept as its two factors; rows of u are made for the neurons asked for.

    values: W_V[h] diag(g[l']) C w, [path, dim, neuron]. outputs: Proj diag(g_post) C W_O[h], [path, embed, dim].
    """

    values: Float[Tensor, "path dim neuron"]
    outputs: Float[Tensor, "path embed dim"]

    def directions(self, neurons: slice | Tensor = slice(None)) -> Float[Tensor, "neuron path embed"]:
        """u for some neurons (default: all)."""
        values = self.values[:, :, neurons]
        writes = values.new_empty(values.shape[2], len(values), self.outputs.shape[1])
        # Path by path into its place: a permuted copy would cost more than the product.
        return torch.bmm(values.mT, self.outputs.mT, out=writes.transpose(0, 1)).transpose(0, 1)


@torch.no_grad()
def write_maps(tower: VisionTower, layer: int, convention: Convention = "centred") -> WriteMaps:
    """The input-independent half of the second-order effects of a layer, in float32 or wider.

    Raises `SecondLensError` for an unknown convention or a layer that no attention reads.
    """
    check_convention(convention)
    check_layer(tower, layer)
    centred = convention == "centred"
    written = tower.mlps[layer].weight()
    wide = torch.promote_types(written.dtype, torch.float32)
    written = written.to(wide)
    if centred:
        written = written - written.mean(dim=0)
    values, outputs = [], []
    for index in tower.readers_of(layer):
        reader = tower.readers[index]
        weights = reader.weights()
        values.append(weights.value.to(wide) * reader.norm.weight.detach().to(wide) @ written)
        outputs.append(output_map(tower, index, centred, wide))
    return WriteMaps(torch.cat(values), torch.cat(outputs))


def output_map(
    tower: VisionTower, reader: int, centred: bool, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "head embed dim"]:
    """Proj diag(g_post) C W_O[h] of a reader's heads, C left out if not `centred`."""
    output = tower.readers[reader].weights().output.to(dtype)
    if centred and tower.final_norm is not None:
        output = output - output.mean(dim=1, keepdim=True)
    scaled = output * tower.final_gain().to(dtype)[:, None]
    return tower.project(scaled.transpose(1, 2)).transpose(1, 2)
