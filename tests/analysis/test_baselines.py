"""Every baseline against a slow float64 oracle, the model in float64 too."""

import pytest
import slow_maps
import torch
from slow_maps import SlowPass

from builders import Spec, build, pixels
from oracle import SlowTower
from secondlens.analysis.heatmaps import METHODS, SharedPass, make_methods, same_for_all
from secondlens.analysis.heatmaps.relevance import split_sum, through_linear, through_product
from secondlens.errors import SecondLensError
from secondlens.lens import LensModel
from secondlens.lens.capture import capture
from secondlens.lens.trace import CaptureRequest

# Two float64 passes through a few layers; relevance divides by sums that may cancel. Measured at most 4e-10.
FLOAT64 = 1e-7


def close(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float = FLOAT64) -> None:
    error = float((ours.double() - theirs.double()).norm() / theirs.double().norm())
    assert error <= tolerance, f"relative difference {error:.1e}, expected at most {tolerance:.0e}"


@pytest.fixture
def slow(spec: Spec) -> SlowPass:
    return SlowPass(SlowTower(build(spec), spec.family), pixels(2, spec.size))


def targets_of(model: LensModel) -> torch.Tensor:
    """[image, target, embed]: a random direction an image, and its opposite, so that no map is cut to zero in both."""
    generator = torch.Generator().manual_seed(1)
    found = torch.randn(2, 1, model.embed_dim, generator=generator, dtype=torch.float64)
    return torch.nn.functional.normalize(torch.cat([found, -found], dim=1), dim=-1)


def maps(model: LensModel, spec: Spec, name: str, targets: torch.Tensor) -> torch.Tensor:
    """[image, target, patch]."""
    method = make_methods(model, [name])[0]
    shared = SharedPass(model, pixels(2, spec.size).double(), method.layers)
    return method.maps(shared, targets).flatten(2)


def test_raw_attention(double_model: LensModel, spec: Spec, slow: SlowPass) -> None:
    close(maps(double_model, spec, "raw-attention", targets_of(double_model))[:, 1], slow.last_row().mean(dim=1))


def test_rollout(double_model: LensModel, spec: Spec, slow: SlowPass) -> None:
    close(maps(double_model, spec, "rollout", targets_of(double_model))[:, 1], slow_maps.rollout(slow))


def test_grad_cam(double_model: LensModel, spec: Spec, slow: SlowPass) -> None:
    targets = targets_of(double_model)
    found = maps(double_model, spec, "grad-cam", targets)
    expected = torch.stack([slow_maps.grad_cam(slow, targets[:, row]) for row in range(2)], dim=1)
    assert expected.abs().max() > 0
    close(found, expected)


@pytest.mark.parametrize("name", ["legrad", "chefer", "chefer-generic", "lrp", "partial-lrp"])
def test_methods_of_class_tokens(double_model: LensModel, spec: Spec, slow: SlowPass, name: str) -> None:
    targets = targets_of(double_model)
    if spec.family == "siglip":
        with pytest.raises(SecondLensError, match="class token"):
            maps(double_model, spec, name, targets)
        return
    found = maps(double_model, spec, name, targets)
    expected = []
    for row in range(2):
        target = targets[:, row]
        each = [slow_maps.relevance(slow, target, image) for image in range(2)] if name not in ("legrad",) else []
        matrices = [torch.stack(layer) for layer in zip(*(one[1] for one in each), strict=True)]
        expected.append(
            {
                "legrad": lambda target=target: slow_maps.legrad(slow, target),
                "chefer": lambda target=target, found=matrices: slow_maps.attribution(slow, target, found),
                "chefer-generic": lambda target=target: slow_maps.attribution(slow, target, None),
                "lrp": lambda each=each: torch.stack([one[0][1:] for one in each]),
                "partial-lrp": lambda found=matrices: found[-1][:, :, 0, 1:].clamp(min=0).mean(dim=1),
            }[name]()
        )
    close(found, torch.stack(expected, dim=1))


def test_shares_of_tokens(own_model: LensModel, spec: Spec, slow: SlowPass) -> None:
    double = own_model.to(dtype=torch.float64)
    shared = SharedPass(double, pixels(2, spec.size).double())
    mixing = shared.mixing("norms")
    assert len(mixing) == spec.layers
    for layer, found in enumerate(mixing):
        close(found, slow_maps.shares(slow, layer))
    # Planned, and from queries, keys and values that are computed anew, the same.
    for block in double.tower.blocks:
        object.__setattr__(block, "projections", None)
    for reader in double.tower.readers:
        object.__setattr__(reader, "projections", None)
    again = SharedPass(double, pixels(2, spec.size).double(), depths={"norms": 2, "attention": 1})
    for found, expected in zip(again.mixing("norms", 2), mixing, strict=False):
        close(found, expected)


def test_rules_keep_the_sum() -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight, relevance = (
        torch.randn(*shape, generator=generator).double() for shape in ((2, 3, 5), (4, 5), (2, 3, 4))
    )
    # A sum over positive parts is never zero here, so nothing is lost; 1e-6 is what TINY takes.
    assert abs(float(through_linear(weight, x, relevance).sum() / relevance.sum()) - 1) < 1e-6
    left, right = x, torch.randn(2, 5, 4, generator=generator).double()
    parts = through_product(left, right, relevance)
    assert abs(float((parts[0].sum() + parts[1].sum()) / relevance.sum()) - 1) < 1e-6
    a, b = split_sum(x, x.flip(1), torch.randn(2, 3, 5, generator=generator).double())
    assert a.shape == b.shape == x.shape


@pytest.mark.parametrize("name", [name for name, entry in METHODS.items() if not entry.atlas])
def test_images_do_not_see_each_other(spec: Spec, double_model: LensModel, name: str) -> None:
    if spec.family == "siglip" and name in ("legrad", "chefer", "chefer-generic", "lrp", "partial-lrp"):
        pytest.skip("needs a class token")
    # Relevance divides by sums that nearly cancel: only float64 shows equality.
    method = make_methods(double_model, [name])[0]
    images, targets = pixels(2, spec.size).double(), targets_of(double_model)
    both = method.maps(SharedPass(double_model, images, method.layers), targets)
    single = method.maps(SharedPass(double_model, images[1:], method.layers), targets[1:])
    close(both[1:], single)
    same = same_for_all(targets[0], 2)
    close(
        method.maps(SharedPass(double_model, images, method.layers), same),
        method.maps(SharedPass(double_model, images, method.layers), same.clone()),
    )


def test_mask_clip_is_the_model_with_attention_to_one_token(double_model: LensModel, spec: Spec) -> None:
    """Run upstream's last attention with all weight on one token, without the residual stream before it."""
    tower, images, targets = double_model.tower, pixels(2, spec.size).double(), targets_of(double_model)
    method = make_methods(double_model, ["mask-clip"])[0]
    found = method.maps(SharedPass(double_model, images, method.layers), targets).flatten(2)
    trace = capture(tower, images, CaptureRequest(layers=[0], resid_pre=True))
    reader = tower.readers[-1]
    resid = trace.readouts[len(tower.readers) - 1].resid_pre
    assert resid is not None
    x, weights = reader.norm(resid), reader.weights()
    for token in range(tower.prefix_tokens, x.shape[1]):
        written = weights.output_bias.double().expand(2, -1).clone()
        for head in range(tower.heads):
            value = x[:, token] @ weights.value[head].double().T + weights.value_bias[head].double()
            written += value @ weights.output[head].double().T
        embedding = tower.finish(written)
        expected = torch.einsum("be,bte->bt", embedding / embedding.norm(dim=1, keepdim=True), targets)
        close(found[:, :, token - tower.prefix_tokens], expected)
