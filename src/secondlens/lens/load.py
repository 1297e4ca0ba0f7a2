"""`wrap`: from a module in memory to a checked `LensModel`; `load_model`: from a reference to a module, wrapped."""

from copy import deepcopy
from typing import Any

import torch
from torch import nn

from secondlens.errors import ModelError, closest
from secondlens.lens.check import check_model
from secondlens.lens.families import clip, open_clip, siglip, vit
from secondlens.lens.families.base import Family, Upstream
from secondlens.lens.model import LensModel, SelfCheck
from secondlens.lens.preprocessing import from_processor, quiet
from secondlens.lens.reference import MEMORY, ModelReference, parse_reference

# The one place where a family is registered.
FAMILIES: tuple[Family, ...] = (clip, siglip, vit, open_clip)
# transformers' model_type to the adapter that loads it.
HF_ADAPTERS = {kind: adapter for adapter in (clip, siglip, vit) for kind in adapter.MODEL_TYPES}


def load_model(reference: str, *, device: str = "cpu", dtype: str | torch.dtype = torch.float32) -> LensModel:
    """Load a model by reference and check that the lens describes it.

    reference: `hf:ORG/NAME`, `hf:/folder`, `openclip:NAME/TAG`, `openclip:/file.safetensors?model=NAME` or `world:`.
    device, dtype: where and in which float precision it shall run. The check runs in float32 on the CPU first.

    Raises `ModelError` for an unknown reference or family, for weights that are no safetensors or do not fit, and
    for a model whose attention or embedding the lens cannot recompute from captured parts (with the measured error).
    """
    parsed = parse_reference(reference)
    upstream = open_clip.load(parsed) if parsed.scheme == "openclip" else _load_hf(parsed)
    model = _wrap(upstream, reference)
    try:
        return model.to(device, float_dtype(dtype))
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"cannot move {reference} to device {device!r}: {error}") from error


def wrap(module: nn.Module, processor: Any, tokenizer: Any | None = None) -> LensModel:
    """Wrap a model that is in memory, on any device and in any float precision, and check that the lens describes it.

    The `LensModel` refers to the module and copies no weight: a later change of the weights changes both. Two things
    change on the module: it is put into evaluation mode and its parameters no longer require gradients; call
    `module.train()` and `module.requires_grad_()` to train it further. No hook stays behind. A compiled module
    (`torch.compile`) is unwrapped: capture reads inside the module, which compiled code does not show.

    Args:
        module: A `CLIPModel`, `CLIPVisionModelWithProjection`, `SiglipModel` or `ViTForImageClassification` of
            transformers, a `CLIP` or `CustomTextCLIP` of open_clip, or an instance of a subclass.
        processor: The transformers image processor of the model, or a processor that has one (`CLIPProcessor`), of
            which only the image processor is used.
        tokenizer: The model's tokenizer; without one the model encodes no texts. A classifier has none.

    Raises:
        ModelError: For a module of an unknown class, a processor or tokenizer of the wrong kind, and a model whose
            attention or embedding the lens cannot recompute from captured parts (with the measured error).
    """
    if tokenizer is not None and not callable(tokenizer):
        raise ModelError(
            f"expected a tokenizer, got {type(tokenizer).__name__}; leave it out for a model without texts"
        )
    module = getattr(module, "_orig_mod", module)
    images = getattr(processor, "image_processor", processor)
    return _wrap(Upstream(module, images, tokenizer), f"{MEMORY}:{type(module).__name__}")


def _wrap(upstream: Upstream, reference: str) -> LensModel:
    family = _family_of(upstream.module)
    preprocessing = from_processor(upstream.processor)
    adapted = family.adapt(upstream.module, upstream.tokenizer, reference)
    model = LensModel(
        reference,
        family.NAME,
        upstream.module,
        adapted.tower,
        preprocessing,
        adapted.text_encoder,
        adapted.classifier,
    )
    model.check = _check(model, family)
    return model


def _family_of(module: Any) -> Family:
    """Find the family by the classes of the module, a subclass before its base."""
    for cls in type(module).__mro__:
        for family in FAMILIES:
            if cls.__name__ in family.CLASSES and cls.__module__.partition(".")[0] == family.PACKAGE:
                return family
    known = "; ".join(f"{family.PACKAGE}: {', '.join(family.CLASSES)}" for family in FAMILIES)
    raise ModelError(f"no adapter for a module of class {type(module).__name__}; expected one of {known}")


def _check(model: LensModel, family: Family) -> SelfCheck:
    """Check the model in float32 on the CPU, where its tolerance holds: on a copy if the model is something else."""
    if model.device.type == "cpu" and model.dtype in (torch.float32, torch.float64):
        return check_model(model)
    module = deepcopy(model.module).to("cpu", torch.float32)
    tower = family.adapt(module, None, model.reference).tower
    return check_model(LensModel(model.reference, model.family, module, tower, model.preprocessing, None))


def _load_hf(reference: ModelReference) -> Upstream:
    from transformers import AutoConfig

    location = str(reference.path or reference.location)
    try:
        with quiet():
            config: Any = AutoConfig.from_pretrained(location)
    except Exception as error:
        raise ModelError(f"cannot read the configuration of {reference.text}: {error}") from error
    adapter = HF_ADAPTERS.get(config.model_type)
    if adapter is None:
        raise ModelError(
            f"{reference.text} is a model of type {config.model_type!r}, for which there is no "
            f"adapter{closest(config.model_type, HF_ADAPTERS)}"
        )
    return adapter.load(location, config)


def float_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """A float dtype by name or itself."""
    names = {
        "float64": torch.float64,
        "float32": torch.float32,
        "bfloat16": torch.bfloat16,
        "float16": torch.float16,
    }
    if isinstance(dtype, torch.dtype):
        if dtype not in names.values():
            raise ModelError(f"expected a float precision ({', '.join(names)}), got {dtype}")
        return dtype
    if dtype not in names:
        raise ModelError(f"unknown precision {dtype!r}{closest(dtype, names)}")
    return names[dtype]
