"""Indirect effects: equal to replacing the activation in upstream's full forward pass."""

import pytest
import torch
from torch import nn

import secondlens as sl
from builders import Spec, hooks_of, pixels
from secondlens.lens import LensModel
from secondlens.lens.capture import capture
from secondlens.lens.indirect import (
    MeanActivations,
    indirect_effect_of_set,
    indirect_effects,
)

# Float64 through a few small layers.
FLOAT64 = 1e-10


def means_of(model: LensModel, images: torch.Tensor, layer: int) -> torch.Tensor:
    found = MeanActivations()
    found.update(capture(model.tower, images, [layer]).activations[layer])
    return found.result()


def brute_force(
    model: LensModel, images: torch.Tensor, layer: int, means: torch.Tensor, neurons: list[int]
) -> torch.Tensor:
    """[image, embed]: clean less replaced unit-norm embedding, by a hook in the whole upstream forward pass."""

    def replace(_: nn.Module, inputs: tuple) -> tuple:
        changed = inputs[0].clone()
        changed[:, :, neurons] = means[:, neurons].to(changed)
        return (changed,)

    clean = model.encode_images(images)
    handle = model.tower.mlps[layer].project.register_forward_pre_hook(replace)
    replaced = model.encode_images(images)
    handle.remove()
    return torch.nn.functional.normalize(clean, dim=1) - torch.nn.functional.normalize(replaced, dim=1)


def test_equals_brute_force_in_every_layer(double_model: LensModel, spec: Spec) -> None:
    images, reference = pixels(3, spec.size).double(), pixels(5, spec.size, seed=1).double()
    neurons = [0, 7, 41, 3]
    for layer in range(spec.layers):
        means = means_of(double_model, reference, layer)
        ours = indirect_effects(double_model, images, layer, means, neurons, rows=6)
        theirs = torch.stack([brute_force(double_model, images, layer, means, [n]) for n in neurons], dim=1)
        assert float(theirs.norm(dim=-1).min()) > 1e-6, "a neuron that does nothing shows nothing"
        # transformers' eager attention would take its softmax in float32, fused attention does not.
        assert float((ours - theirs).norm() / theirs.norm()) < FLOAT64, layer


def test_float32_is_as_good_as_brute_force_in_float32(model: LensModel, double_model: LensModel, spec: Spec) -> None:
    images, reference = pixels(3, spec.size), pixels(5, spec.size, seed=1)
    layer, neurons = spec.layers // 2, [2, 9]
    means = means_of(model, reference, layer)
    ours = indirect_effects(model, images, layer, means, neurons)
    exact = torch.stack([brute_force(double_model, images.double(), layer, means, [n]) for n in neurons], dim=1)
    # A difference of unit vectors: float32 rounding of both, through a few layers.
    assert float((ours - exact).abs().max()) < 2e-6


def test_a_set_equals_brute_force(double_model: LensModel, spec: Spec) -> None:
    images, reference = pixels(3, spec.size).double(), pixels(5, spec.size, seed=1).double()
    for layer in range(spec.layers):
        means = means_of(double_model, reference, layer)
        for neurons in ([5, 1, 30], list(range(spec.neurons))):
            theirs = brute_force(double_model, images, layer, means, neurons)
            ours = indirect_effect_of_set(double_model, images, layer, means, neurons)
            assert float((ours - theirs).norm() / theirs.norm()) < FLOAT64
        torch.testing.assert_close(indirect_effect_of_set(double_model, images, layer, means), ours)
        one = indirect_effects(double_model, images, layer, means, [5])[:, 0]
        torch.testing.assert_close(
            indirect_effect_of_set(double_model, images, layer, means, [5]), one, rtol=1e-8, atol=1e-12
        )


def test_a_neuron_replaced_by_itself_changes_nothing(model: LensModel, spec: Spec) -> None:
    image = pixels(1, spec.size)
    for layer in range(spec.layers):
        own = means_of(model, image, layer)
        # Float32 rounding of the mean and of the unit-norm embedding.
        assert float(indirect_effects(model, image, layer, own).abs().max()) < 1e-6
        assert float(indirect_effect_of_set(model, image, layer, own).abs().max()) < 1e-6


def test_neither_order_nor_batch_size_matters(double_model: LensModel, spec: Spec) -> None:
    images = pixels(5, spec.size).double()
    means = means_of(double_model, pixels(4, spec.size, seed=2).double(), 0)
    neurons = [3, 11, 4, 40]
    whole = indirect_effects(double_model, images, 0, means, neurons, rows=1000)
    for rows in (1, 2, 7):
        torch.testing.assert_close(indirect_effects(double_model, images, 0, means, neurons, rows=rows), whole)
    turned = indirect_effects(double_model, images.flip(0), 0, means, neurons[::-1])
    torch.testing.assert_close(turned.flip(0, 1), whole)


def test_means_merge() -> None:
    values = torch.randn(9, 4, 6)
    whole, first, second, none = (MeanActivations() for _ in range(4))
    whole.update(values)
    first.update(values[:2])
    second.update(values[2:])
    first.merge(second)
    first.merge(none)
    none.merge(first)
    torch.testing.assert_close(first.result(), values.double().mean(dim=0))
    torch.testing.assert_close(none.result(), whole.result())
    with pytest.raises(sl.SecondLensError, match="at least one image"):
        MeanActivations().result()


def test_no_hook_is_left_and_half_precision_runs(clip: LensModel, own_clip: LensModel) -> None:
    images = pixels(2, 64)
    means = means_of(clip, pixels(4, 64, seed=1), 1)
    exact = indirect_effects(clip, images, 1, means, [0, 1, 2])
    assert hooks_of(clip.module) == 0
    half = indirect_effects(own_clip.to(dtype=torch.bfloat16), images, 1, means, [0, 1, 2])
    # Differences of embeddings that are rounded to 8 bits.
    assert float((half - exact).abs().max()) < 2e-2


def test_mistakes_are_named(clip: LensModel) -> None:
    images = pixels(1, 64)
    means = means_of(clip, images, 1)
    for arguments, message in (
        ((4, means), "layers 0 to 3, got 4"),
        ((1, means[:3]), r"\[token, neuron\] = \[17, 48\]"),
        ((1, means, [48]), "neurons 0 to 47"),
        ((1, means, []), "at least one neuron"),
    ):
        for function in (indirect_effects, indirect_effect_of_set):
            with pytest.raises(sl.SecondLensError, match=message):
                function(clip, images, *arguments)
    with pytest.raises(sl.SecondLensError, match="at least one row"):
        indirect_effects(clip, images, 1, means, rows=0)
