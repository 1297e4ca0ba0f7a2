"""Second-order effects against a float64 oracle, and the laws they obey."""

import pytest
import torch

import secondlens as sl
from builders import Spec, build, pixels
from oracle import SlowTower, second_order
from secondlens.lens import LensModel
from secondlens.lens.paths import check_convention
from secondlens.lens.second_order import gram_root

# float32 through a few small layers; measured at most 2e-6.
FLOAT32 = 2e-5


def close(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float) -> None:
    """Assert a small relative difference in the Frobenius norm."""
    error = float((ours.double() - theirs.double()).norm() / theirs.double().norm())
    assert error <= tolerance, f"relative difference {error:.1e}, expected at most {tolerance:.0e}"


@pytest.mark.parametrize("convention", ["centred", "released"])
def test_equals_the_oracle_in_every_layer(model: LensModel, spec: Spec, convention: str) -> None:
    slow = SlowTower(build(spec), spec.family)
    images = pixels(3, spec.size)
    for layer in model.tower.lens_layers:
        fx = sl.second_order_effects(model, images, layer, convention=convention)
        close(fx.dense(), second_order(slow, images, layer, convention), FLOAT32)


def test_float64_equals_the_oracle_to_float64(double_model: LensModel, spec: Spec) -> None:
    images = pixels(2, spec.size).double()
    slow = SlowTower(build(spec), spec.family)
    close(double_model.encode_images(images), slow.run(images)["embedding"], 1e-12)
    layer = double_model.tower.lens_layers[-1]
    close(sl.second_order_effects(double_model, images, layer).dense(), second_order(slow, images, layer), 1e-12)


def test_half_precision_is_close(clip: LensModel, own_clip: LensModel) -> None:
    images = pixels(4, 64)
    exact = sl.second_order_effects(clip, images, 1).dense()
    # bfloat16 keeps 8 bits, so activations are off by up to 4e-3 a layer.
    half = own_clip.to(dtype=torch.bfloat16)
    close(sl.second_order_effects(half, images, 1).dense(), exact, 5e-2)


def test_batch_size_does_not_matter(model: LensModel, spec: Spec) -> None:
    images = pixels(5, spec.size)
    whole = sl.second_order_effects(model, images, 0).coefficients
    parts = [sl.second_order_effects(model, images[i : i + 2], 0).coefficients for i in (0, 2, 4)]
    close(torch.cat(parts), whole, FLOAT32)


def test_factored_forms_agree_with_the_dense_one(model: LensModel, spec: Spec) -> None:
    fx = sl.second_order_effects(model, pixels(6, spec.size), 0)
    dense = fx.dense().double()
    assert fx.coefficients.shape == (6, spec.neurons, len(fx.paths))
    assert fx.writes.shape == (spec.neurons, len(fx.paths), model.embed_dim)
    close(fx.mean(), dense.mean(dim=0), FLOAT32)
    close(fx.norms(), dense.norm(dim=-1), FLOAT32)
    around = fx.coefficients.mean(dim=0)
    close(fx.norms(around), (dense - dense.mean(dim=0)).norm(dim=-1), FLOAT32)
    directions = torch.randn(4, model.embed_dim)
    close(fx.project(directions), dense @ directions.double().T, FLOAT32)
    close(fx.total(), dense.sum(dim=1), FLOAT32)
    close(fx.dense(images=[1, 3], neurons=[0, 5]), dense[[1, 3]][:, [0, 5]], FLOAT32)


def test_paths_sum_to_the_head_outputs(model: LensModel, spec: Spec) -> None:
    """Completeness: over all sources, effects through a path sum to that path's direct contribution.

    The sources of what a reader sees are the neurons of every layer before it, and the rest of the residual stream,
    taken here as one more "neuron" a token; the value bias and the layer norm's bias make up the remainder.
    """
    slow, images = SlowTower(build(spec), spec.family), pixels(2, spec.size)
    run = slow.run(images)
    direct = sl.first_order_effects(model, images).heads.double()
    scale = run["embedding"].norm(dim=1)[:, None]
    final = run["residuals"][-1][:, 0]
    for number, (norm, attention, probe, index) in enumerate(slow.readers(-1)):
        x = run["residuals"][index]
        rows = attention.rows(norm(x)[:, :1] if probe is None else probe.expand(len(x), -1, -1), norm(x))[:, :, 0]
        from_neurons = torch.zeros(2, spec.heads, model.embed_dim, dtype=torch.float64)
        rest = x.clone()
        for layer in range(index):
            fx = sl.second_order_effects(model, images, layer)
            per_path = torch.einsum("bnk,nke->bke", fx.coefficients.double(), fx.writes.double())
            mine = [place for place, path in enumerate(fx.paths) if path.reader == number]
            from_neurons += per_path[:, mine]
            rest = rest - run["activations"][layer] @ slow.blocks[layer].fc2[0].T
        rest = (rest - rest.mean(-1, keepdim=True)) / norm.sigma(x)[..., None] * norm.weight + norm.bias
        for head in range(spec.heads):
            w_v, w_o = attention.head(head)
            bias = attention.v[1].unflatten(0, (spec.heads, -1))[head]
            out = (torch.einsum("bi,biw->bw", rows[:, head], rest) @ w_v.T + bias) @ w_o.T
            if spec.family != "siglip":
                last = slow.pool_norm()
                out = (out - out.mean(-1, keepdim=True)) * last.weight / last.sigma(final)[:, None]
                out = out @ slow.projection().T
            close(from_neurons[:, head] + out / scale, direct[:, number, head], FLOAT32)


def test_direct_contributions_sum_to_the_embedding(model: LensModel, spec: Spec) -> None:
    images = pixels(3, spec.size)
    parts = sl.first_order_effects(model, images)
    close(parts.total(), torch.nn.functional.normalize(model.encode_images(images), dim=1), FLOAT32)


def test_direct_effects_of_neurons_sum_to_their_mlp(model: LensModel, spec: Spec) -> None:
    images = pixels(3, spec.size)
    parts = sl.first_order_effects(model, images)
    layers = [-1] if spec.family == "siglip" else range(spec.layers)
    for place, layer in enumerate(layers):
        neurons = sl.first_order_neurons(model, images, layer)
        mlp = model.tower.pool_mlp if layer == -1 else model.tower.mlps[layer]
        # Between two images the bias cancels, up to its own scale 1 / (sigma |z|).
        total = neurons.dense().sum(dim=1)
        bias = mlp.bias()
        if model.tower.final_norm is not None:
            bias = (bias - bias.mean()) * model.tower.final_gain()
        trace_scale = neurons.coefficients[:, :1] / _pooled(model, images, layer)[:, :1]
        close(total + model.tower.project(bias) * trace_scale, parts.mlps[:, place], FLOAT32)


def _pooled(model: LensModel, images: torch.Tensor, layer: int) -> torch.Tensor:
    from secondlens.lens.capture import capture
    from secondlens.lens.trace import CaptureRequest

    return capture(model.tower, images, CaptureRequest(first_order=True)).pooled_activations[layer]


def test_patches_sum_to_the_layer(model: LensModel, spec: Spec) -> None:
    images, texts = pixels(2, spec.size), torch.randn(3, model.embed_dim)
    patches = sl.patch_contributions(model, images, 0, texts)
    tokens = (spec.size // spec.patch) ** 2 + model.tower.prefix_tokens
    assert patches.shape == (2, 3, tokens)
    fx = sl.second_order_effects(model, images, 0)
    close(patches.sum(dim=2), fx.total() @ texts.T, FLOAT32)
    some = torch.tensor([1, 4])
    part = sl.patch_contributions(model, images, 0, texts, neurons=some)
    close(part.sum(dim=2), fx.project(texts)[:, some].sum(dim=1), FLOAT32)


def test_gram_root_of_dependent_directions() -> None:
    writes = torch.randn(3, 6, 4)
    writes[1] = 0
    writes[2, 3] = writes[2, 0]
    root = gram_root(writes)
    coefficients = torch.randn(3, 5, 6, dtype=torch.float64)
    close(
        torch.bmm(coefficients, root).norm(dim=2)[[0, 2]],
        torch.bmm(coefficients, writes.double()).norm(dim=2)[[0, 2]],
        1e-7,
    )
    assert float(root[1].abs().max()) == 0


def test_unknown_settings_are_named(clip: LensModel) -> None:
    images = pixels(1, 64)
    with pytest.raises(sl.SecondLensError, match="layer 3 has no second-order effects: no attention comes after it"):
        sl.second_order_effects(clip, images, 3)
    with pytest.raises(sl.SecondLensError, match="the model has layers 0 to 3"):
        sl.second_order_effects(clip, images, 17)
    with pytest.raises(sl.SecondLensError, match="did you mean 'centred'"):
        check_convention("centered")
    with pytest.raises(sl.SecondLensError, match="24 dimensions"):
        sl.second_order_effects(clip, images, 0).project(torch.randn(2, 7))
