"""Heat maps of neurons against the float64 oracle, and the laws of every map."""

from typing import Any

import pytest
import torch
from slow_maps import SlowPass, shares
from torch.utils.flop_counter import FlopCounterMode

import secondlens.analysis.heatmaps.writes
from builders import Spec, build, pixels
from oracle import SlowTower, second_order
from secondlens.analysis.heatmaps import METHODS, Options, SharedPass, make_methods, same_for_all
from secondlens.analysis.heatmaps.mixing import back_to_input
from secondlens.analysis.heatmaps.neurons import Activation, Contribution, NeuronChoice, carrying
from secondlens.analysis.heatmaps.writes import Writes
from secondlens.errors import SecondLensError
from secondlens.lens import LensModel
from secondlens.lens.paths import paths_of
from secondlens.lens.second_order import patch_contributions, token_contributions, write_projections

# float32 through a few small layers, as in the tests of effects; measured at most 3e-6.
FLOAT32 = 2e-5


def close(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float = FLOAT32) -> None:
    error = float((ours.double() - theirs.double()).norm() / theirs.double().norm())
    assert error <= tolerance, f"relative difference {error:.1e}, expected at most {tolerance:.0e}"


def targets_of(model: LensModel, images: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    found = torch.randn(images, 3, model.embed_dim, generator=generator)
    return torch.nn.functional.normalize(found, dim=-1).to(model.dtype)


def directions_of(model: LensModel) -> dict[int, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    found = torch.randn(len(model.tower.lens_layers), model.neurons, model.embed_dim, generator=generator)
    unit = torch.nn.functional.normalize(found, dim=-1)
    return dict(zip(model.tower.lens_layers, unit, strict=True))


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("rule", ["paper", "signed"])
def test_activation_is_the_papers_rule(model: LensModel, spec: Spec, rule: str, signed: bool) -> None:
    directions, targets, images = directions_of(model), targets_of(model), pixels(2, spec.size)
    method = Activation(NeuronChoice(directions, rule, count=7), signed)
    found = method.maps(SharedPass(model, images, method.layers), targets)
    run = SlowTower(build(spec), spec.family).run(images)
    prefix = model.tower.prefix_tokens
    for image in range(2):
        for row in range(3):
            scored = [
                (float(vector.double() @ targets[image, row].double()), layer, neuron)
                for layer, of_layer in directions.items()
                for neuron, vector in enumerate(of_layer)
            ]
            scored.sort(key=lambda entry: abs(entry[0]) if rule == "paper" else entry[0], reverse=True)
            expected = sum(
                (score if signed else 1.0) * run["activations"][layer][image, prefix:, neuron]
                for score, layer, neuron in scored[:7]
            )
            close(found[image, row].flatten(), expected / 7)


def test_contributions_sum_to_the_second_order_part(model: LensModel, spec: Spec) -> None:
    layers, targets, images = tuple(model.tower.lens_layers)[-2:], targets_of(model), pixels(2, spec.size)
    slow = SlowTower(build(spec), spec.family)
    dense = torch.stack([second_order(slow, images, layer) for layer in layers])
    writes = Writes(model, layers)
    shared = SharedPass(model, images, layers)
    tokens = torch.stack(list(writes.tokens(shared, targets).values())).sum(dim=0)
    close(tokens.sum(dim=-1), torch.einsum("lbne,bte->bt", dense, targets.double()))
    of_neurons = torch.stack(list(writes.neurons(shared, targets).values()))
    close(of_neurons, torch.einsum("lbne,bte->lbtn", dense, targets.double()))
    method = Contribution(writes)
    close(method.maps(shared, targets), shared.to_grid(tokens))
    # Only the neurons chosen, and only they.
    choice = NeuronChoice({layer: directions_of(model)[layer] for layer in layers}, "paper", count=9)
    masks = choice.masks(shared, targets)
    assert int(sum(mask.sum() for mask in masks.values())) == 2 * 3 * 9
    some = torch.stack(list(writes.tokens(shared, targets, masks).values())).sum(dim=(0, -1))
    mask = torch.stack(list(masks.values())).double()
    close(some, torch.einsum("lbne,bte,lbtn->bt", dense, targets.double(), mask))


def test_traced_contributions_keep_the_sum(model: LensModel, spec: Spec) -> None:
    layers, targets, images = tuple(model.tower.lens_layers), targets_of(model), pixels(2, spec.size)
    writes, shared = Writes(model, layers), SharedPass(model, images, layers)
    found = writes.tokens(shared, targets)
    back = back_to_input({layer + 1: part for layer, part in found.items()}, shared.mixing("norms"))
    close(back.sum(dim=-1), torch.stack(list(found.values())).sum(dim=(0, -1)))
    # And what the method gives is the explicit product of matrices.
    run = SlowPass(SlowTower(build(spec), spec.family), images)
    expected = torch.zeros_like(back, dtype=torch.float64)
    for layer, part in found.items():
        now = part.double()
        for below in range(layer, -1, -1):
            now = now @ shares(run, below)
        expected += now
    close(Contribution(writes, traced=True).maps(shared, targets), shared.to_grid(expected))
    halves = back_to_input({layer + 1: part for layer, part in found.items()}, shared.mixing("attention"))
    close(halves.sum(dim=-1), back.sum(dim=-1))


def test_paths_add_up(model: LensModel, spec: Spec) -> None:
    layer = model.tower.lens_layers[-1]
    paths, targets, images = paths_of(model.tower, layer), targets_of(model), pixels(2, spec.size)
    shared = SharedPass(model, images, [layer])
    each = [Writes(model, [layer], paths=[path]).tokens(shared, targets)[layer] for path in paths]
    close(torch.stack(each).sum(dim=0), Writes(model, [layer]).tokens(shared, targets)[layer])
    with pytest.raises(SecondLensError, match=r"expected paths .* got \(99, 0\)"):
        Writes(model, [layer], paths=[(99, 0)])


@pytest.mark.parametrize("copies", [1, 3000], ids=["few texts", "many texts"])
def test_the_order_of_the_sums_does_not_matter(
    model: LensModel, spec: Spec, copies: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers, images = tuple(model.tower.lens_layers)[-2:], pixels(2, spec.size)
    texts = targets_of(model, 1)[0]
    slow = SlowTower(build(spec), spec.family)
    expected = torch.stack([second_order(slow, images, layer) for layer in layers])
    monkeypatch.setattr(secondlens.analysis.heatmaps.writes, "BLOCK", 1)
    writes, shared = Writes(model, layers), SharedPass(model, images, layers)
    found = writes.tokens(shared, texts.repeat(copies, 1)[None])
    for row, layer in enumerate(layers):
        first, *others = found[layer].split(len(texts), dim=1)
        close(first.sum(dim=-1), torch.einsum("bne,te->bt", expected[row], texts.double()))
        close(first, patch_contributions(model, images, layer, texts))
        for same in others[:1] + others[-1:]:
            close(same, first)


@pytest.mark.parametrize("rule", ["paper", "share"])
def test_chosen_neurons_in_blocks_of_one(
    model: LensModel, spec: Spec, rule: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers, images = tuple(model.tower.lens_layers)[-2:], pixels(2, spec.size)
    texts = targets_of(model, 1)
    writes, shared = Writes(model, layers), SharedPass(model, images, layers)
    choice = NeuronChoice({layer: directions_of(model)[layer] for layer in layers}, rule, count=9, writes=writes)
    masks = choice.masks(shared, texts)
    assert {len(mask) for mask in masks.values()} == ({1} if rule == "paper" else {2})
    together = writes.tokens(shared, texts, masks)
    monkeypatch.setattr(secondlens.analysis.heatmaps.writes, "BLOCK", 1)
    each = writes.tokens(shared, texts, masks)
    # The same texts given for every image, and without what `neurons` left behind.
    apart = Writes(model, layers).tokens(shared, texts.expand(2, -1, -1).clone(), masks)
    for layer, mask in masks.items():
        along = write_projections(model.tower, layer, texts[0])
        rows = []
        for row in range(3):
            for image in range(2):
                neurons = mask[min(image, len(mask) - 1), row].nonzero()[:, 0]
                rows.append(token_contributions(shared.trace, model.tower, layer, along[row : row + 1], neurons)[image])
        expected = torch.cat(rows).unflatten(0, (3, 2)).transpose(0, 1)
        for found in (together, each, apart):
            close(found[layer], expected)


def test_many_texts_go_last(model: LensModel, spec: Spec) -> None:
    """Reading all layers' tokens before the texts pays for many texts, where all paths count and none is scaled."""
    layers, images = tuple(model.tower.lens_layers), pixels(1, spec.size)
    shared, texts = SharedPass(model, images, layers), targets_of(model, 1)[:, :1]
    assert shared.trace.mlp_writes  # the pass itself is not counted

    def a_text(count: int, **options: Any) -> float:
        """Operations per text."""
        writes = Writes(model, layers, **options)
        with FlopCounterMode(display=False) as counter:
            writes.tokens(shared, texts.expand(1, count, -1))
        return counter.get_total_flops() / count

    assert a_text(2) == a_text(1)
    assert a_text(10_000) < a_text(1) / 2
    last = layers[-1]
    for options in ({"paths": [paths_of(model.tower, last)[0]]}, {"convention": "released"}):
        assert a_text(10_000, **options) == a_text(1, **options)


def test_released_contributions(clip: LensModel) -> None:
    images, texts = pixels(2, 64), targets_of(clip, 1)[0]
    found = Writes(clip, [1], convention="released").tokens(SharedPass(clip, images, [1]), texts[None])[1]
    close(found, patch_contributions(clip, images, 1, texts, convention="released"))


def test_in_half_precision_what_neurons_write_is_summed_again(own_clip: LensModel) -> None:
    half = own_clip.to(dtype=torch.bfloat16)
    images, texts = pixels(2, 64), targets_of(half, 1)[0].float()
    found = Writes(half, [1]).tokens(SharedPass(half, images, [1]), texts[None])[1]
    close(found, patch_contributions(half, images, 1, texts))


def test_a_block_keeps_two_thirds(model: LensModel, spec: Spec) -> None:
    shared = SharedPass(model, pixels(2, spec.size))
    run = SlowPass(SlowTower(build(spec), spec.family), pixels(2, spec.size))
    for layer, (block, half) in enumerate(zip(shared.mixing("block"), shared.mixing("attention"), strict=True)):
        matrix = run.layers[layer]["A"].detach().mean(dim=1)
        eye = torch.eye(matrix.shape[-1], dtype=torch.float64)
        close(block, (2 * eye + matrix) / 3)
        close(half, (eye + matrix) / 2)


def test_share_takes_the_fewest_neurons() -> None:
    contributions = torch.tensor([[0.5, -3.0, 0.125, 0.25], [-1.0, -1.0, -1.0, -1.0], [1.0, 1.0, 1.0, 1.0]])
    assert carrying(contributions, 0.5).tolist() == [
        [True, False, False, False],
        [False] * 4,
        [True, True, False, False],
    ]
    assert carrying(contributions, 0.6)[0].tolist() == [True, False, False, True]
    assert carrying(contributions, 1.0)[0].tolist() == [True, False, True, True]


def equivariant(model: LensModel) -> LensModel:
    """Without position embeddings, and with a patch embedding that a mirrored patch does not change."""
    with torch.no_grad():
        for name, parameter in model.tower.module.named_parameters():
            if "position_embedding" in name:
                parameter.zero_()
            if "patch_embedding" in name and parameter.ndim == 4:
                parameter.copy_((parameter + parameter.flip(-1)) / 2)
    return model


@pytest.mark.parametrize("name", [name for name, entry in METHODS.items() if not entry.atlas])
def test_shifts_and_flips_move_the_map(own_model: LensModel, spec: Spec, name: str) -> None:
    if spec.family == "siglip" and name in ("legrad", "chefer", "chefer-generic", "lrp", "partial-lrp"):
        pytest.skip("needs a class token")
    # In float64: relevance divides by sums that nearly cancel.
    model = equivariant(own_model).to(dtype=torch.float64)
    method = make_methods(model, [name])[0]
    images, targets = pixels(2, spec.size).double(), targets_of(model)

    def maps(seen: torch.Tensor) -> torch.Tensor:
        return method.maps(SharedPass(model, seen, method.layers), targets)

    plain = maps(images)
    shift = (spec.patch, -spec.patch)
    close(maps(images.roll(shift, (2, 3))), plain.roll((1, -1), (2, 3)), 1e-7)
    close(maps(images.flip(3)), plain.flip(3), 1e-7)
    assert (plain.flip(3) - plain).norm() > 1e-3 * plain.norm()


def test_activations_move_too(own_model: LensModel, spec: Spec) -> None:
    model = equivariant(own_model)
    method = Activation(NeuronChoice(directions_of(model), count=5), signed=True)
    images, targets = pixels(2, spec.size), targets_of(model)
    plain = method.maps(SharedPass(model, images, method.layers), targets)
    moved = method.maps(SharedPass(model, images.roll(spec.patch, 2).flip(3), method.layers), targets)
    close(moved, plain.roll(1, 2).flip(3))


def test_other_sizes_have_other_grids(model: LensModel, spec: Spec) -> None:
    images = torch.randn(1, 3, 2 * spec.patch, 5 * spec.patch, generator=torch.Generator().manual_seed(0))
    for method in make_methods(model, ["contribution", "traced-contribution", "traced-direct", "rollout", "grad-cam"]):
        maps = method.maps(SharedPass(model, images, method.layers), targets_of(model, 1))
        assert maps.shape == (1, 3, 2, 5)


def test_refusals(clip: LensModel) -> None:
    with pytest.raises(SecondLensError, match=r"'chefr' \(did you mean 'chefer'\?\)"):
        make_methods(clip, ["chefr"])
    with pytest.raises(SecondLensError, match="needs an atlas"):
        make_methods(clip, ["activation"])
    with pytest.raises(SecondLensError, match="needs an atlas"):
        make_methods(clip, ["contribution"], options=Options(rule="paper"))
    with pytest.raises(SecondLensError, match="unknown rule"):
        make_methods(clip, ["contribution"], options=Options(rule="papr"))
    with pytest.raises(SecondLensError, match="unknown mixing"):
        make_methods(clip, ["traced-direct"], options=Options(mixing="norm"))
    with pytest.raises(SecondLensError, match="no attention comes after"):
        make_methods(clip, ["contribution"], options=Options(layers=(3,)))
    with pytest.raises(SecondLensError, match="multiples of the patch of 16"):
        SharedPass(clip, torch.zeros(1, 3, 64, 60))
    shared = SharedPass(clip, pixels(2, 64))
    with pytest.raises(SecondLensError, match="for 2 images in 24 dimensions"):
        make_methods(clip, ["rollout"])[0].maps(shared, torch.zeros(1, 1, 24))
    with pytest.raises(SecondLensError, match=r"keeps the neurons of layers \[\], the method needs \[0, 1, 2\]"):
        make_methods(clip, ["contribution"])[0].maps(shared, torch.zeros(2, 1, 24))
    with pytest.raises(SecondLensError, match="share above 0"):
        make_methods(clip, ["traced-fraction"], options=Options(share=0.0))


def test_without_an_atlas_the_rest_is_made(clip: LensModel) -> None:
    assert [method.name for method in make_methods(clip)] == [n for n, entry in METHODS.items() if not entry.atlas]


def test_one_pass_serves_all(own_clip: LensModel) -> None:
    runs = []
    forward = own_clip.tower.forward
    object.__setattr__(own_clip.tower, "forward", lambda seen: runs.append(len(seen)) or forward(seen))
    methods = make_methods(
        own_clip, ["raw-attention", "contribution", "traced-contribution", "traced-direct", "rollout"]
    )
    shared = SharedPass.of(own_clip, pixels(2, 64), methods)
    for method in methods:
        method.maps(shared, same_for_all(torch.eye(24)[:2], 2))
    assert len(runs) == 1
