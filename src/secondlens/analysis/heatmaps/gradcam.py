"""Grad-CAM and LeGrad: what the gradients of attention say; and what all methods with a pass a target share."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from secondlens.analysis.heatmaps.base import PlainMethod, SharedPass
from secondlens.analysis.heatmaps.gradients import AttentionPass
from secondlens.errors import SecondLensError
from secondlens.lens.capture import wide


class EachTarget(PlainMethod, ABC):
    """A method that goes back through the network once for each target, from the pass that keeps its graph.

    class_token: whether its formula starts at a class token, so that other towers are refused.
    """

    name: str
    class_token: bool = True

    def maps(
        self, shared: SharedPass, targets: Float[Tensor, "image target embed"]
    ) -> Float[Tensor, "image target row column"]:
        """`row` of each target, on the grid."""
        shared.check_targets(targets)
        if self.class_token and shared.model.tower.pool_mlp is not None:
            raise SecondLensError(
                f"{self.name} is defined for towers with a class token; {shared.model.reference} pools by attention. "
                "Use raw-attention, rollout, grad-cam, text-span or one of the neurons' methods"
            )
        rows = [self.row(shared.attention, targets, target) for target in range(targets.shape[1])]
        return shared.to_grid(torch.stack(rows, dim=1))

    @abstractmethod
    def row(
        self, found: AttentionPass, targets: Float[Tensor, "image target embed"], target: int
    ) -> Float[Tensor, "image token"]:
        """Values of all tokens for one of the targets."""


@dataclass(frozen=True)
class GradCam(EachTarget):
    """Grad-CAM (Selvaraju et al. 2017) on the last attention's pooled row, as Chefer et al. (CVPR 2021) compare with.

    alpha[h] = mean_i dS/dA[last,h,pooled,i]          over patches i
    H[i]     = relu(1/heads sum_h alpha[h] A[last,h,pooled,i])
    """

    name: str = "grad-cam"
    class_token = False

    def row(
        self, found: AttentionPass, targets: Float[Tensor, "image target embed"], target: int
    ) -> Float[Tensor, "image token"]:
        """One backward pass."""
        patches = found.last_row_gradients(targets, target)[:, :, found.model.tower.prefix_tokens :]
        return (patches.mean(dim=-1, keepdim=True) * found.last_row).mean(dim=1).clamp(min=0)


@dataclass(frozen=True)
class LeGrad(EachTarget):
    """LeGrad (Bousselham et al. 2024): positive gradients of every layer's own score, over layers, heads and queries.

    s[l] = <normalised Proj layer_norm_post(mean over tokens of Z[l]), t>          Z[l]: the residual stream after l
    H[i] = sum_l 1/(heads tokens) sum_h sum_q relu(ds[l]/dA[l,h,q,i])

    As in its published code, Z is averaged over all tokens, class token included. used: how many of the last layers;
    None for all, as the paper does for base-sized models.
    """

    used: int | None = None
    name: str = "legrad"

    def row(
        self, found: AttentionPass, targets: Float[Tensor, "image target embed"], target: int
    ) -> Float[Tensor, "image token"]:
        """One backward pass through one layer, for each layer."""
        tower, wanted = found.model.tower, targets[:, target]
        norm = tower.final_norm
        assert norm is not None
        total = found.matrices[0].new_zeros(found.layers[0].normed.shape[:2])
        for layer in range(len(found.layers))[-(self.used or 0) :]:
            tensors = found.layers[layer]
            with torch.enable_grad():
                after = tensors.middle + tower.mlps[layer].write(tensors.activations)
                pooled = nn.functional.layer_norm(
                    after.mean(dim=1), norm.normalized_shape, norm.weight, norm.bias, norm.eps
                )
                embedding = nn.functional.normalize(wide(tower.project(pooled)), dim=-1)
                score = (embedding * wanted.to(embedding)).sum()
            # Only the way back to m of this layer is walked: one MLP.
            gradient = wide(torch.autograd.grad(score, tensors.middle, retain_graph=True)[0])
            total += found.through_attention(layer, gradient).clamp(min=0).mean(dim=(1, 2))
        return total
