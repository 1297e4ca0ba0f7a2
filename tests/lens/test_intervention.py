"""The right test of an attribution: change one thing in the running model and see what was predicted.

In upstream's own CLIP forward pass, scale one neuron's activation at every token, with attention rows and the standard
deviations in the layer norms frozen at their clean values, and with every later layer reading only the change that the
neuron itself made. The embedding must move by the neuron's first-order plus second-order effect, times the change.
"""

from collections.abc import Callable

import pytest
import torch
from torch import nn

import secondlens as sl
from builders import Spec, build, pixels
from secondlens.lens import LensModel
from secondlens.lens.families.clip import tower
from secondlens.lens.model import Preprocessing


@pytest.mark.parametrize(("layer", "neuron", "factor"), [(0, 3, 0.0), (1, 17, 2.5), (2, 40, -1.0)])
def test_scaling_a_neuron_moves_the_embedding_as_predicted(layer: int, neuron: int, factor: float) -> None:
    module = build(Spec("clip")).double()
    module.vision_model.set_attn_implementation("eager")
    model = LensModel("memory", "hf-clip", module, tower(module), Preprocessing(torch.stack, {}), None)
    images = pixels(3, 64).double()
    clean = model.encode_images(images)
    fx = sl.second_order_effects(model, images, layer)
    direct = sl.first_order_neurons(model, images, layer)
    predicted = (factor - 1) * (fx.dense()[:, neuron] + direct.dense()[:, neuron]) * clean.norm(dim=1, keepdim=True)
    moved = intervene(module, images, layer, neuron, factor) - clean
    assert float(moved.norm()) > 1e-3, "nothing was changed"
    # Upstream's eager attention takes its softmax in float32: measured 9e-8.
    assert float((moved - predicted).norm() / moved.norm()) < 1e-6


def intervene(module: nn.Module, images: torch.Tensor, layer: int, neuron: int, factor: float) -> torch.Tensor:
    """The embedding of the running model with one neuron scaled and everything else frozen."""
    vision, clean = module.vision_model, {}
    handles = []

    def record(name: str) -> Callable:
        def hook(_: nn.Module, inputs: tuple, output: object) -> None:
            clean[name] = (inputs[0] if inputs else None, output)

        return hook

    blocks = vision.encoder.layers
    for index, block in enumerate(blocks):
        handles.append(block.layer_norm1.register_forward_hook(record(f"norm {index}")))
        handles.append(block.self_attn.register_forward_hook(record(f"attention {index}")))
        handles.append(block.mlp.register_forward_hook(record(f"mlp {index}")))
    handles.append(blocks[layer].mlp.fc2.register_forward_hook(record("activation")))
    handles.append(vision.post_layernorm.register_forward_hook(record("final")))
    with torch.no_grad():
        module.visual_projection(vision(images).pooler_output)
    for handle in handles:
        handle.remove()

    activation = clean["activation"][0][:, :, neuron, None]
    change = (factor - 1) * activation * blocks[layer].mlp.fc2.weight[:, neuron]

    def scale(_: nn.Module, inputs: tuple) -> tuple:
        changed = inputs[0].clone()
        changed[:, :, neuron] *= factor
        return (changed,)

    def frozen_norm(norm: nn.LayerNorm, before: torch.Tensor, after: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
        sigma = (before.var(-1, correction=0, keepdim=True) + norm.eps).sqrt()
        return after + (delta - delta.mean(-1, keepdim=True)) / sigma * norm.weight

    def freeze_norm(index: int) -> Callable:
        def hook(norm: nn.Module, inputs: tuple, output: torch.Tensor) -> torch.Tensor:
            before, after = clean[f"norm {index}"]
            return frozen_norm(norm, before, after, change)

        return hook

    def freeze_attention(index: int) -> Callable:
        output, rows = clean[f"attention {index}"][1]

        def hook(attention: nn.Module, args: tuple, kwargs: dict, _: object) -> tuple:
            tokens = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
            values = attention.v_proj(tokens).unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
            pooled = attention.out_proj((rows[:, :, :1] @ values).transpose(1, 2).flatten(2))
            # Only the class token's row is second order; what other tokens receive goes through a further attention.
            return torch.cat([pooled, output[:, 1:]], dim=1), rows

        return hook

    def freeze_mlp(index: int) -> Callable:
        return lambda *_: clean[f"mlp {index}"][1]

    def freeze_final(norm: nn.Module, inputs: tuple, output: torch.Tensor) -> torch.Tensor:
        before, after = clean["final"]
        return frozen_norm(norm, before, after, inputs[0] - before)

    handles = [blocks[layer].mlp.fc2.register_forward_pre_hook(scale)]
    for index in range(layer + 1, len(blocks)):
        handles.append(blocks[index].layer_norm1.register_forward_hook(freeze_norm(index)))
        handles.append(blocks[index].self_attn.register_forward_hook(freeze_attention(index), with_kwargs=True))
        handles.append(blocks[index].mlp.register_forward_hook(freeze_mlp(index)))
    handles.append(vision.post_layernorm.register_forward_hook(freeze_final))
    with torch.no_grad():
        result = module.visual_projection(vision(images).pooler_output)
    for handle in handles:
        handle.remove()
    return result
