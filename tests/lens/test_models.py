"""Loading, references, self-check, texts, preprocessing."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

import secondlens as sl
from builders import SPECS, Spec, build, hooks_of, pixels
from secondlens.errors import CaptureError, ModelError
from secondlens.lens.capture import capture
from secondlens.lens.families.clip import tower as clip_tower
from secondlens.lens.model import LensModel, Preprocessing
from secondlens.lens.trace import CaptureRequest


def test_every_family_loads_and_passes_its_check(model: LensModel, spec: Spec) -> None:
    assert (model.layers, model.heads, model.neurons) == (spec.layers, spec.heads, spec.neurons)
    assert model.embed_dim == (spec.embed if spec.family == "clip" else spec.width)
    assert model.check is not None
    assert max(model.check.attention_error, model.check.embedding_error) < 1e-5
    assert model.tower.pooling == ("attention" if spec.family == "siglip" else "class token")
    assert model.tower.activation == spec.activation
    assert not model.module.training
    assert not any(parameter.requires_grad for parameter in model.module.parameters())


def test_encode_images_is_upstreams(model: LensModel, spec: Spec) -> None:
    upstream, images = build(spec), pixels(2, spec.size)
    with torch.no_grad():
        if spec.family == "vit":
            expected = upstream(images).logits
            assert model.classifier is not None
            ours = model.encode_images(images) @ model.classifier.weight().T + model.classifier.bias()
        else:
            expected = upstream.get_image_features(images).pooler_output
            ours = model.encode_images(images)
    torch.testing.assert_close(ours, expected)


def test_vision_model_with_projection_loads(tmp_path: Path) -> None:
    config = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
    )
    CLIPVisionModelWithProjection(config).save_pretrained(tmp_path)
    model = sl.load_model(f"hf:{tmp_path}")
    assert model.layers == 2
    with pytest.raises(ModelError, match="cannot encode texts"):
        model.encode_texts(["a dog"])


def test_capture_leaves_nothing_behind(model: LensModel, spec: Spec) -> None:
    before = hooks_of(model.module)
    trace = capture(model.tower, pixels(2, spec.size), CaptureRequest(layers=[0], first_order=True))
    assert hooks_of(model.module) == before
    assert not trace.activations[0].requires_grad
    with pytest.raises((RuntimeError, ValueError)):
        capture(model.tower, torch.zeros(2, 3, 7, 7), [0])
    assert hooks_of(model.module) == before


def test_capture_attention_is_upstreams(clip: LensModel) -> None:
    upstream = build(SPECS[0])
    upstream.vision_model.set_attn_implementation("eager")
    images = pixels(2, 64)
    with torch.no_grad():
        rows = upstream.vision_model(images, output_attentions=True).attentions
    trace = capture(clip.tower, images, [0])
    for reader, seen in trace.readouts.items():
        torch.testing.assert_close(seen.attention, rows[reader][:, :, 0], rtol=1e-5, atol=1e-6)


def test_a_site_that_does_not_fire_once_is_an_error(clip: LensModel) -> None:
    tower = clip.tower
    silent = replace(tower, forward=lambda images: torch.ones(len(images), 24))
    with pytest.raises(CaptureError, match="layer norm of readout attention 1 fired 0 times"):
        capture(silent, pixels(1, 64), [0])
    twice = replace(tower, forward=lambda images: tower.forward(images) + tower.forward(images))
    with pytest.raises(CaptureError, match="final layer norm fired 2 times"):
        capture(twice, pixels(1, 64), [0])


@pytest.mark.parametrize("what", ["layer scale", "query norm", "registers as pooling"])
def test_the_self_check_refuses_what_the_adapter_does_not_know(what: str) -> None:
    from secondlens.lens.check import check_model

    module = build(SPECS[0])
    block = module.vision_model.encoder.layers[1]
    if what == "layer scale":
        forward = block.self_attn.forward
        block.self_attn.forward = lambda *a, **k: (forward(*a, **k)[0] * 0.9, None)
    elif what == "query norm":
        block.self_attn.q_proj.register_forward_hook(lambda m, i, o: torch.nn.functional.normalize(o, dim=-1))
    else:
        module.vision_model.post_layernorm.register_forward_pre_hook(lambda m, i: (i[0] + 0.1 * i[0].roll(1, -1),))
    model = LensModel("tampered", "hf-clip", module, clip_tower(module), Preprocessing(torch.stack, {}), None)
    with pytest.raises(ModelError, match=r"attention outputs differ by .* and the embedding by"):
        check_model(model)


def test_labels_are_texts(model_folders: dict[str, Path]) -> None:
    model = sl.load_model(f"hf:{model_folders[SPECS[5].name]}")
    assert model.classifier is not None
    rows = torch.nn.functional.normalize(model.classifier.weight(), dim=1)
    torch.testing.assert_close(model.encode_texts(["House Cat", "crane", "fire truck"]), rows[[0, 2, 3]])
    assert model.encode_texts([]).shape == (0, 32)
    with pytest.raises(ModelError, match=r"no label 'crame' \(did you mean 'crane'\?\)"):
        model.encode_texts(["crame"])
    with pytest.raises(ModelError, match="list of texts"):
        model.encode_texts("dog")


def test_clip_texts(tmp_path: Path, model_folders: dict[str, Path]) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    folder = tmp_path / "with-tokenizer"
    shutil.copytree(model_folders[SPECS[0].name], folder)
    words = ["<pad>", "<s>", "</s>", "a", "dog", "cat", "<unk>"]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>").save_pretrained(folder)
    model = sl.load_model(f"hf:{folder}")
    together = model.encode_texts(["a dog", "a cat a cat"])
    torch.testing.assert_close(together.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(together[:1], model.encode_texts(["a dog"]))
    with pytest.raises(ModelError, match=r"1 of 2 texts are longer than the model's context of 77 tokens"):
        model.encode_texts(["a dog", "a " * 100])


def test_preprocessing_is_the_configurations(tmp_path: Path, model_folders: dict[str, Path]) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_folders[SPECS[0].name], folder)
    config = {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": 70},
        "crop_size": {"height": 64, "width": 64},
        "do_center_crop": True,
        "image_mean": [0.1, 0.2, 0.3],
        "image_std": [0.5, 0.6, 0.7],
        "resample": 2,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(config))
    model = sl.load_model(f"hf:{folder}")
    picture = Image.effect_mandelbrot((100, 90), (-2, -1, 1, 1), 50).convert("RGB")
    ours = model.preprocess([picture, picture])
    assert ours.dtype == torch.float32
    assert ours.shape == (2, 3, 64, 64)
    upstream = AutoImageProcessor.from_pretrained(folder, backend="pil")(images=[picture], return_tensors="pt")
    torch.testing.assert_close(ours[:1], upstream["pixel_values"])
    assert model.preprocessing.settings["image_mean"] == [0.1, 0.2, 0.3]


def test_without_a_configuration_the_familys_defaults(clip: LensModel) -> None:
    grey = Image.new("RGB", (64, 64), (128, 128, 128))
    mean, std = (
        torch.tensor([0.48145466, 0.4578275, 0.40821073]),
        torch.tensor([0.26862954, 0.26130258, 0.27577711]),
    )
    torch.testing.assert_close(clip.preprocess([grey])[0, :, 0, 0], (128 / 255 - mean) / std, rtol=1e-4, atol=1e-4)


def test_bad_references(tmp_path: Path, model_folders: dict[str, Path]) -> None:
    cases = {
        "clip": "expected a model reference such as",
        "hff:x/y": "did you mean 'hf'",
        "hf:/no/such/folder": "no such model folder",
        f"hf:{tmp_path}": "cannot read the configuration",
    }
    for reference, message in cases.items():
        with pytest.raises(ModelError, match=message):
            sl.load_model(reference)
    pickled = tmp_path / "pickled"
    shutil.copytree(model_folders[SPECS[0].name], pickled)
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(ModelError, match="pickles"):
        sl.load_model(f"hf:{pickled}")
    damaged = tmp_path / "damaged"
    shutil.copytree(model_folders[SPECS[0].name], damaged)
    (damaged / "model.safetensors").write_bytes(b"\x10" + b"\0" * 40)
    with pytest.raises(ModelError, match="cannot load the weights"):
        sl.load_model(f"hf:{damaged}")
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ModelError, match="model of type 'bert', for which there is no adapter"):
        sl.load_model(f"hf:{other}")
    with pytest.raises(ModelError, match="unknown precision 'float8'"):
        sl.load_model(f"hf:{model_folders[SPECS[0].name]}", dtype="float8")
    with pytest.raises(ModelError, match="cannot move"):
        sl.load_model(f"hf:{model_folders[SPECS[0].name]}", device="cuda:99")


def test_weights_hash_follows_the_weights(model_folders: dict[str, Path]) -> None:
    folders = [model_folders[spec.name] for spec in SPECS[:2]]
    hashes = [sl.load_model(f"hf:{folder}").weights_hash for folder in (folders[0], folders[0], folders[1])]
    assert hashes[0] == hashes[1] != hashes[2]
    changed = sl.load_model(f"hf:{folders[0]}")
    with torch.no_grad():
        changed.tower.mlps[0].project.weight[0, 0] += 1e-6
    assert changed.weights_hash != hashes[0]


def test_the_real_vit(shared: Path) -> None:
    model = sl.load_model(f"hf:{shared / 'models' / 'vit-tiny-imagenet'}")
    assert (model.layers, model.neurons, model.heads, model.embed_dim) == (12, 768, 3, 192)
    assert model.check is not None
    assert model.check.embedding_error < 1e-5
    assert model.encode_texts(["tench", "vase"]).shape == (2, 192)
