"""The open_clip adapter: the same CLIP weights through transformers and open_clip give the same effects."""

from pathlib import Path

import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import secondlens as sl
from builders import Spec, build, pixels, randomise
from secondlens.errors import ModelError
from secondlens.lens.capture import capture
from secondlens.lens.indirect import indirect_effects
from secondlens.lens.trace import CaptureRequest

# As in the tests of the other families: float32 through a few small layers.
FLOAT32 = 2e-5


def config(spec: Spec, **vision: object) -> dict:
    return {
        "embed_dim": spec.embed,
        "quick_gelu": spec.activation == "quick_gelu",
        "vision_cfg": {
            "image_size": spec.size,
            "layers": spec.layers,
            "width": spec.width,
            "head_width": spec.width // spec.heads,
            "mlp_ratio": spec.neurons / spec.width,
            "patch_size": spec.patch,
            **vision,
        },
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    }


def register(tmp_path: Path, name: str, content: dict) -> None:
    import json

    folder = tmp_path / "configs"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(content))
    open_clip.add_model_config(folder)


def converted(spec: Spec) -> dict[str, torch.Tensor]:
    """The image tower of the transformers model under open_clip's names."""
    state = build(spec).state_dict()
    at = "vision_model."
    result = {
        "visual.class_embedding": state[at + "embeddings.class_embedding"],
        "visual.positional_embedding": state[at + "embeddings.position_embedding.weight"],
        "visual.conv1.weight": state[at + "embeddings.patch_embedding.weight"],
        "visual.proj": state["visual_projection.weight"].T,
    }
    for ours, theirs in (("pre_layrnorm", "ln_pre"), ("post_layernorm", "ln_post")):
        for part in ("weight", "bias"):
            result[f"visual.{theirs}.{part}"] = state[f"{at}{ours}.{part}"]
    for layer in range(spec.layers):
        old, new = f"{at}encoder.layers.{layer}.", f"visual.transformer.resblocks.{layer}."
        for part in ("weight", "bias"):
            for ours, theirs in (
                ("layer_norm1", "ln_1"),
                ("layer_norm2", "ln_2"),
                ("mlp.fc1", "mlp.c_fc"),
                ("mlp.fc2", "mlp.c_proj"),
                ("self_attn.out_proj", "attn.out_proj"),
            ):
                result[f"{new}{theirs}.{part}"] = state[f"{old}{ours}.{part}"]
            names = (f"{old}self_attn.{name}_proj.{part}" for name in "qkv")
            result[f"{new}attn.in_proj_{part}"] = torch.cat([state[name] for name in names])
    return {name: tensor.contiguous() for name, tensor in result.items()}


@pytest.fixture(params=["gelu", "quick_gelu"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[sl.LensModel, sl.LensModel, Spec]:
    """(transformers, open_clip) with the same weights."""
    spec = Spec("clip", activation=request.param)
    build(spec).save_pretrained(tmp_path / "hf")
    name = f"tiny-{request.param}"
    register(tmp_path, name, config(spec))
    state = open_clip.create_model(name).state_dict() | converted(spec)
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, tmp_path / "open_clip.safetensors")
    theirs = sl.load_model(f"openclip:{tmp_path / 'open_clip.safetensors'}?model={name}")
    return sl.load_model(f"hf:{tmp_path / 'hf'}"), theirs, spec


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert float((ours - theirs).norm() / theirs.norm()) < FLOAT32


def test_same_weights_same_effects(pair: tuple[sl.LensModel, sl.LensModel, Spec]) -> None:
    hf, oc, spec = pair
    images = pixels(4, spec.size)
    close(oc.encode_images(images), hf.encode_images(images))
    for layer in hf.tower.lens_layers:
        for convention in ("centred", "released"):
            ours, theirs = (sl.second_order_effects(m, images, layer, convention=convention) for m in (oc, hf))
            close(ours.coefficients, theirs.coefficients)
            close(ours.dense(), theirs.dense())
    parts = [sl.first_order_effects(m, images) for m in (oc, hf)]
    close(parts[0].heads, parts[1].heads)
    close(parts[0].mlps, parts[1].mlps)


def test_entered_half_way_it_runs_the_same(pair: tuple[sl.LensModel, sl.LensModel, Spec]) -> None:
    hf, oc, spec = pair
    images, reference = pixels(4, spec.size), pixels(5, spec.size, seed=1)
    for layer in range(spec.layers):
        trace = capture(oc.tower, images, CaptureRequest(resid_post=[layer]))
        close(oc.tower.run_from(layer + 1, trace.resid_post[layer]), oc.encode_images(images))
        means = capture(hf.tower, reference, [layer]).activations[layer].mean(dim=0)
        ours, theirs = (indirect_effects(m, images, layer, means, [1, 5]) for m in (oc, hf))
        # Differences of unit vectors: float32 rounding of both.
        assert float((ours - theirs).abs().max()) < 2e-6
        assert float(theirs.norm(dim=2).min()) > 1e-5


def test_facts_preprocessing_and_texts(pair: tuple[sl.LensModel, sl.LensModel, Spec]) -> None:
    hf, oc, spec = pair
    assert (oc.layers, oc.heads, oc.neurons, oc.embed_dim) == (hf.layers, hf.heads, hf.neurons, hf.embed_dim)
    picture = Image.effect_mandelbrot((100, 90), (-2, -1, 1, 1), 50).convert("RGB")
    torch.testing.assert_close(oc.preprocess([picture]), hf.preprocess([picture]))
    texts = oc.encode_texts(["a dog", "a photo of a cat"])
    assert texts.shape == (2, spec.embed)
    torch.testing.assert_close(texts.norm(dim=1), torch.ones(2))
    with pytest.raises(ModelError, match="longer than the model's context of 77 tokens"):
        oc.encode_texts(["dog " * 100])


def test_survey(pair: tuple[sl.LensModel, sl.LensModel, Spec], pictures: Path, tmp_path: Path) -> None:
    hf, oc, _ = pair
    atlases = [sl.survey(m, pictures, tmp_path / name, layers=[1], top=5) for m, name in ((hf, "a"), (oc, "b"))]
    first, second = (atlas.layer(1) for atlas in atlases)
    torch.testing.assert_close(first.top_norms, second.top_norms, rtol=1e-4, atol=1e-7)
    assert (first.top_images == second.top_images).mean() > 0.98


def test_layer_scale_is_folded_in(tmp_path: Path) -> None:
    spec = Spec("clip")
    register(tmp_path, "tiny-scaled", config(spec, ls_init_value=0.3))
    model = randomise(open_clip.create_model("tiny-scaled"))
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, tmp_path / "scaled.safetensors")
    loaded = sl.load_model(f"openclip:{tmp_path / 'scaled.safetensors'}?model=tiny-scaled")
    assert loaded.check is not None
    assert loaded.check.attention_error < 1e-5
    assert "gamma" in "".join(model.state_dict())


def test_what_is_not_supported(tmp_path: Path) -> None:
    spec = Spec("clip")
    register(tmp_path, "tiny-average", config(spec, pool_type="avg"))
    model = open_clip.create_model("tiny-average")
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, tmp_path / "average.safetensors")
    with pytest.raises(ModelError, match="pooling 'avg' is not supported"):
        sl.load_model(f"openclip:{tmp_path / 'average.safetensors'}?model=tiny-average")
    (tmp_path / "weights.pt").write_bytes(b"pickle")
    for reference, message in (
        (f"openclip:{tmp_path / 'weights.pt'}?model=tiny-average", "pickles are never loaded"),
        (f"openclip:{tmp_path / 'average.safetensors'}", "expected 'openclip:NAME/TAG'"),
        ("openclip:ViT-B-33/openai", "did you mean 'ViT-B-32'"),
        ("openclip:ViT-B-32/laion2b", "no weights 'laion2b'"),
    ):
        with pytest.raises(ModelError, match=message):
            sl.load_model(reference)
