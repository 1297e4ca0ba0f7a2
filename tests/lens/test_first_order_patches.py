"""Direct contributions by token: complete, and equal to the plain sum over heads in float64."""

import pytest
import torch

import secondlens as sl
from builders import Spec, build, pixels
from oracle import SlowTower
from secondlens.lens import LensModel
from secondlens.lens.first_order import first_order_token_contributions

# float32 through a few small layers, as in the tests of effects.
FLOAT32 = 2e-5


def close(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float = FLOAT32) -> None:
    error = float((ours.double() - theirs.double()).norm() / theirs.double().norm())
    assert error <= tolerance, f"relative difference {error:.1e}, expected at most {tolerance:.0e}"


def test_tokens_and_the_rest_sum_to_the_score(model: LensModel, spec: Spec) -> None:
    images, texts = pixels(3, spec.size), torch.randn(4, model.embed_dim)
    tokens = first_order_token_contributions(model, images, texts)
    assert tokens.shape == (3, 4, (spec.size // spec.patch) ** 2 + model.tower.prefix_tokens)
    parts = sl.first_order_effects(model, images)
    rest = (parts.start + parts.mlps.sum(dim=1) + parts.rest) @ texts.T
    unit = torch.nn.functional.normalize(model.encode_images(images), dim=1)
    close(tokens.sum(dim=2) + rest, unit @ texts.T)


def test_one_reader_sums_to_its_heads(model: LensModel, spec: Spec) -> None:
    images, texts = pixels(2, spec.size), torch.randn(3, model.embed_dim)
    heads = sl.first_order_effects(model, images).heads.sum(dim=2)
    last = heads.shape[1] - 1
    tokens = first_order_token_contributions(model, images, texts, readers=[last])
    close(tokens.sum(dim=2), heads[:, last] @ texts.T)
    every = sum(first_order_token_contributions(model, images, texts, readers=[index]) for index in range(last + 1))
    close(every, first_order_token_contributions(model, images, texts))


def test_equals_the_plain_sum(model: LensModel, spec: Spec) -> None:
    slow, images = SlowTower(build(spec), spec.family), pixels(2, spec.size)
    texts = torch.randn(3, model.embed_dim)
    run = slow.run(images)
    expected = torch.zeros(2, 3, run["residuals"][0].shape[1], dtype=torch.float64)
    for norm, attention, probe, index in slow.readers(-1):
        x = norm(run["residuals"][index])
        rows = attention.rows(x[:, :1] if probe is None else probe.expand(2, -1, -1), x)[:, :, 0]
        for head in range(spec.heads):
            w_v, w_o = attention.head(head)
            bias = attention.v[1].unflatten(0, (spec.heads, -1))[head]
            written = rows[:, head, :, None] * ((x @ w_v.T + bias) @ w_o.T)
            if spec.family != "siglip":
                last = slow.pool_norm()
                written = (written - written.mean(-1, keepdim=True)) * last.weight
                written = written / last.sigma(run["residuals"][-1][:, 0])[:, None, None] @ slow.projection().T
            expected += torch.einsum("bie,te->bti", written, texts.double())
    expected = expected / run["embedding"].norm(dim=1)[:, None, None]
    close(first_order_token_contributions(model, images, texts), expected)


def test_images_do_not_see_each_other(model: LensModel, spec: Spec) -> None:
    images, texts = pixels(4, spec.size), torch.randn(2, model.embed_dim)
    whole = first_order_token_contributions(model, images, texts)
    parts = [first_order_token_contributions(model, images[[row]], texts[[1, 0]]).flip(1) for row in (0, 1, 2, 3)]
    close(torch.cat(parts), whole)


def test_mistakes_are_named(clip: LensModel) -> None:
    with pytest.raises(sl.SecondLensError, match="in the joint space"):
        first_order_token_contributions(clip, pixels(1, 64), torch.randn(2, 7))
    with pytest.raises(sl.SecondLensError, match="readers from 0 to 3"):
        first_order_token_contributions(clip, pixels(1, 64), torch.randn(2, 24), readers=[4])
    with pytest.raises(sl.SecondLensError, match="at least one reader"):
        first_order_token_contributions(clip, pixels(1, 64), torch.randn(2, 24), readers=[])
