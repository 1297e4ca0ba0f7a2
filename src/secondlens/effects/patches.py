"""Where in the image a layer's second-order effect comes from: the product before summing over tokens.

    c[t,i](I) = sum_n sum_k  b[k,i](I) p[n,i](I) <u[n,k], t>,        b = a / (sigma sigma_post |z|)

Exact and signed: the sum over tokens is the neurons' second-order share of <z/|z|, t>.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from secondlens.effects.paths import Convention, WriteMaps, path_weights, write_maps
from secondlens.errors import SecondLensError
from secondlens.models.capture import capture
from secondlens.models.model import LensModel
from secondlens.models.tower import VisionTower
from secondlens.models.trace import Trace


@torch.no_grad()
def patch_contributions(
    model: LensModel,
    pixels: Float[Tensor, "image 3 height width"],
    layer: int,
    directions: Float[Tensor, "direction embed"],
    convention: Convention = "centred",
    neurons: Tensor | None = None,
) -> Float[Tensor, "image direction token"]:
    """Contribution of each token, through a layer's neurons, to <z/|z|, direction>.

    directions: unit-norm texts or any other vectors of the joint space. neurons: indices, all by default.

    Raises `SecondLensError` for a layer without later readers, an unknown convention, directions of another space.
    """
    along = write_projections(model.tower, layer, directions, convention)
    return token_contributions(capture(model.tower, pixels, [layer]), model.tower, layer, along, neurons)


def write_projections(
    tower: VisionTower,
    layer: int,
    directions: Float[Tensor, "direction embed"],
    convention: Convention = "centred",
) -> Float[Tensor, "direction path neuron"]:
    """<u[n,k], t> without making u: (t^T outputs[k]) values[k]. Input-independent, to be made once for many images."""
    if directions.ndim != 2 or directions.shape[1] != tower.embed_dim:
        raise SecondLensError(
            f"expected directions [direction, {tower.embed_dim}] in the joint space, got {list(directions.shape)}"
        )
    return project_writes(write_maps(tower, layer, convention), directions)


def project_writes(
    maps: WriteMaps, directions: Float[Tensor, "direction embed"]
) -> Float[Tensor, "direction path neuron"]:
    """The same from write maps that were made before."""
    read = torch.einsum("te,ked->ktd", directions.to(maps.outputs), maps.outputs)
    return torch.bmm(read, maps.values).transpose(0, 1)


def token_contributions(
    trace: Trace,
    tower: VisionTower,
    layer: int,
    along: Float[Tensor, "direction path neuron"],
    neurons: Tensor | None = None,
) -> Float[Tensor, "image direction token"]:
    """The same from a trace and `write_projections`; tokens as in the model, class token first where there is one."""
    activations = trace.activations[layer]
    if neurons is not None:
        activations, along = activations[:, :, neurons], along[:, :, neurons]
    weights = path_weights(trace, tower, layer)
    read = torch.einsum("bin,tkn->btki", activations, along)
    return torch.einsum("btki,bki->bti", read, weights)
