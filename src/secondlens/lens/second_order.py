"""`FactoredEffects`: the second-order effects of a layer's neurons on a batch of images, never materialised unasked.

Where in the image the effect along a direction t comes from is the product before it is summed over tokens:

    c[t,i](I) = sum_n sum_k  b[k,i](I) p[n,i](I) <u[n,k], t>,        b = a / (sigma sigma_post |z|)

Exact and signed: the sum over tokens is the neurons' second-order share of <z/|z|, t>.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from secondlens.errors import SecondLensError
from secondlens.lens.capture import capture
from secondlens.lens.model import LensModel
from secondlens.lens.paths import (
    Convention,
    Path,
    WriteMaps,
    check_convention,
    check_layer,
    coefficients,
    path_weights,
    paths_of,
    write_maps,
)
from secondlens.lens.tower import VisionTower
from secondlens.lens.trace import Trace
from secondlens.numerics.parallel import eigh


@dataclass(frozen=True)
class FactoredEffects:
    """phi[image, neuron] = sum_path coefficients[image, neuron, path] * writes[neuron, path], over |z(image)|.

    In units of the unit-norm embedding. Path k is a neuron-head pair: `paths[k]` says which head of which reader.
    """

    layer: int
    convention: Convention
    paths: tuple[Path, ...]
    coefficients: Float[Tensor, "image neuron path"]
    writes: Float[Tensor, "neuron path embed"]

    def dense(
        self, images: slice | Sequence[int] = slice(None), neurons: slice | Sequence[int] = slice(None)
    ) -> Float[Tensor, "image neuron embed"]:
        """phi itself, for the images and neurons asked for (default: all)."""
        rows = self.coefficients[images][:, neurons].transpose(0, 1)
        return torch.bmm(rows, self.writes[neurons]).transpose(0, 1)

    def mean(self) -> Float[Tensor, "neuron embed"]:
        """Mean of phi over the batch."""
        mean = self.coefficients.double().mean(dim=0)[:, None]
        return torch.bmm(mean, self.writes.double())[:, 0].to(self.writes)

    def norms(self, around: Float[Tensor, "neuron path"] | None = None) -> Float[Tensor, "image neuron"]:
        """|phi - phi_0|, through the Gram matrix u u^T; `around` holds the coefficients of phi_0 (default: zero)."""
        rows = self.coefficients.transpose(0, 1).double()
        if around is not None:
            rows = rows - around.double()[:, None]
        return torch.bmm(rows, gram_root(self.writes)).norm(dim=2).T.to(self.coefficients)

    def project(self, directions: Float[Tensor, "direction embed"]) -> Float[Tensor, "image neuron direction"]:
        """<phi, d> for texts or any other directions d."""
        if directions.shape[-1] != self.writes.shape[-1]:
            raise SecondLensError(
                f"expected directions of {self.writes.shape[-1]} dimensions (the joint space), "
                f"got {directions.shape[-1]}"
            )
        along = self.writes @ directions.to(self.writes).T
        return torch.bmm(self.coefficients.transpose(0, 1), along).transpose(0, 1)

    def total(self) -> Float[Tensor, "image embed"]:
        """Sum of phi over neurons: the layer's whole second-order effect."""
        return torch.einsum("bnk,nke->be", self.coefficients, self.writes)


@torch.no_grad()
def second_order_effects(
    model: LensModel,
    pixels: Float[Tensor, "image 3 height width"],
    layer: int,
    convention: Convention = "centred",
) -> FactoredEffects:
    """Second-order effects (Gandelsman et al. 2025, equation 6, with layer norms as in A.6) of one layer's neurons.

    pixels: as `model.preprocess` gives them. convention: "centred", the exact linear term, or "released".

    Raises `SecondLensError` for a layer that no later attention reads or an unknown convention, `CaptureError` where
    the model does not run as its adapter says.
    """
    check_convention(convention)
    check_layer(model.tower, layer)
    trace = capture(model.tower, pixels, [layer])
    return FactoredEffects(
        layer=layer,
        convention=convention,
        paths=tuple(paths_of(model.tower, layer)),
        coefficients=coefficients(path_weights(trace, model.tower, layer), trace.activations[layer]),
        writes=write_maps(model.tower, layer, convention).directions(),
    )


def gram_root(writes: Float[Tensor, "neuron path embed"]) -> Float[Tensor, "neuron path path"]:
    """R in float64 with R R^T = u u^T, so that |sum_k s[k] u[k]| = |s R|: paths replace the joint space.

    Cholesky where the write directions of a neuron are independent; elsewhere (more paths than dimensions, a dead
    head) the square root from an eigendecomposition.
    """
    wide = writes.double()
    gram = torch.bmm(wide, wide.mT)
    root, info = torch.linalg.cholesky_ex(gram)
    failed = info.nonzero()[:, 0]
    if len(failed):
        values, vectors = eigh(gram[failed])
        root[failed] = vectors * values.clamp(min=0).sqrt()[:, None]
    return root


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
