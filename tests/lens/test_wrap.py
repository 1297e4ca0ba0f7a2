"""`wrap`: a module in memory gives what its saved folder gives."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoImageProcessor, AutoTokenizer, BertConfig, BertModel, CLIPProcessor

import secondlens as sl
from builders import SPECS, Spec, build, hooks_of, pixels
from secondlens.errors import ModelError
from secondlens.lens.load import load_model
from secondlens.lens.model import LensModel

DTYPES = [torch.float16, torch.bfloat16, torch.float64]


def processor_of(model: LensModel) -> Any:
    return model.preprocessing.transform.processor  # type: ignore[attr-defined]


def assert_same(wrapped: LensModel, loaded: LensModel, size: int) -> None:
    images = pixels(2, size)
    assert torch.equal(wrapped.encode_images(images), loaded.encode_images(images))
    ours, expected = (sl.second_order_effects(model, images, 0) for model in (wrapped, loaded))
    assert torch.equal(ours.coefficients, expected.coefficients)
    assert torch.equal(ours.writes, expected.writes)
    assert wrapped.preprocessing.settings == loaded.preprocessing.settings
    assert wrapped.weights_hash == loaded.weights_hash
    assert wrapped.family == loaded.family


def test_wrapped_is_loaded_bit_for_bit(model: LensModel, spec: Spec) -> None:
    module = build(spec)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    wrapped = sl.wrap(module.train(), processor_of(model))
    assert_same(wrapped, model, spec.size)
    assert wrapped.check == model.check
    assert wrapped.module is module
    assert wrapped.reference == f"memory:{type(module).__name__}"
    assert not module.training
    assert hooks_of(module) == 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    if spec.family == "vit":
        assert torch.equal(wrapped.encode_texts(["dog"]), model.encode_texts(["dog"]))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_precisions(spec: Spec, model_folders: dict[str, Path], dtype: torch.dtype) -> None:
    loaded = load_model(f"hf:{model_folders[spec.name]}", dtype=dtype)
    wrapped = sl.wrap(build(spec).to(dtype), processor_of(loaded))
    assert wrapped.dtype == dtype
    assert_same(wrapped, loaded, spec.size)
    assert wrapped.check is not None
    assert max(wrapped.check.attention_error, wrapped.check.embedding_error) < 1e-5


def test_a_compiled_module(clip: LensModel) -> None:
    module = build(SPECS[0])
    wrapped = sl.wrap(torch.compile(module, backend="eager"), processor_of(clip))  # type: ignore[arg-type]
    assert wrapped.module is module
    assert_same(wrapped, clip, SPECS[0].size)


def test_a_fine_tuned_module_differs(clip: LensModel) -> None:
    module = build(SPECS[0])
    with torch.no_grad():
        module.vision_model.encoder.layers[0].mlp.fc2.weight *= 1.01
    wrapped = sl.wrap(module, processor_of(clip))
    images = pixels(2, SPECS[0].size)
    assert not torch.equal(wrapped.encode_images(images), clip.encode_images(images))
    assert wrapped.weights_hash != clip.weights_hash


def test_texts_need_a_tokenizer(worded_folder: Path, worded: LensModel) -> None:
    tokenizer, module = AutoTokenizer.from_pretrained(worded_folder), deepcopy(worded.module)
    texts = ["a photo of bat", "photo"]
    wrapped = sl.wrap(module, processor_of(worded), tokenizer)
    assert torch.equal(wrapped.encode_texts(texts), worded.encode_texts(texts))
    assert wrapped.texts_hash == worded.texts_hash
    both = CLIPProcessor(processor_of(worded), tokenizer)
    with pytest.raises(ModelError, match=r"memory:CLIPModel cannot encode texts: .*; give sl.wrap its tokenizer"):
        sl.wrap(module, both).encode_texts(texts)


def test_what_is_refused(clip: LensModel, vit: LensModel, worded_folder: Path) -> None:
    processor = processor_of(clip)
    tokenizer = AutoTokenizer.from_pretrained(worded_folder)
    bert = BertModel(BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8))
    cases = [
        ((bert, processor), r"no adapter for a module of class BertModel; .*CLIPModel.*SiglipModel.*ViTForImage"),
        ((clip.module.vision_model, processor), "no adapter for a module of class CLIPVision"),
        ((clip.module, tokenizer), "expected a transformers image processor, got"),
        ((clip.module, None), "expected a transformers image processor, got NoneType"),
        ((clip.module, processor, "words"), "expected a tokenizer, got str"),
        ((vit.module, processor_of(vit), tokenizer), "has no text tower, its labels are its texts"),
    ]
    for arguments, message in cases:
        with pytest.raises(ModelError, match=message):
            sl.wrap(*arguments)
    with pytest.raises(ModelError, match=r"memory:CLIPModel was a module in memory.*sl.wrap\(module"):
        sl.load_model("memory:CLIPModel")


def test_the_self_check_is_of_a_copy_in_half_precision(clip: LensModel) -> None:
    module = build(SPECS[0]).half()
    block = module.vision_model.encoder.layers[1]
    block.self_attn.q_proj.register_forward_hook(lambda m, i, o: torch.nn.functional.normalize(o, dim=-1))
    with pytest.raises(ModelError, match=r"attention outputs differ by .* and the embedding by"):
        sl.wrap(module, processor_of(clip))


def test_an_upstream_processor(worded_folder: Path, worded: LensModel, tmp_path: Path) -> None:
    processor_of(worded).save_pretrained(tmp_path)
    processor = AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    assert sl.wrap(worded.module, processor).preprocessing.settings == worded.preprocessing.settings
