"""`load_model`: from a reference to a checked `LensModel`."""

from typing import Any

import torch

from secondlens.errors import ModelError, closest
from secondlens.lens.check import check_model
from secondlens.lens.families import clip, open_clip, siglip, vit
from secondlens.lens.model import LensModel
from secondlens.lens.preprocessing import quiet
from secondlens.lens.reference import ModelReference, parse_reference

# The one place where a family is registered: transformers' model_type to the adapter that loads it.
HF_ADAPTERS = {kind: adapter for adapter in (clip, siglip, vit) for kind in adapter.MODEL_TYPES}


def load_model(reference: str, *, device: str = "cpu", dtype: str | torch.dtype = torch.float32) -> LensModel:
    """Load a model by reference and check that the lens describes it.

    reference: `hf:ORG/NAME`, `hf:/folder`, `openclip:NAME/TAG`, `openclip:/file.safetensors?model=NAME` or `world:`.
    device, dtype: where and in which float precision it shall run. The check runs in float32 on the CPU first.

    Raises `ModelError` for an unknown reference or family, for weights that are no safetensors or do not fit, and
    for a model whose attention or embedding the lens cannot recompute from captured parts (with the measured error).
    """
    parsed = parse_reference(reference)
    model = open_clip.load(parsed) if parsed.scheme == "openclip" else _load_hf(parsed)
    model.check = check_model(model)
    try:
        return model.to(device, float_dtype(dtype))
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"cannot move {reference} to device {device!r}: {error}") from error


def _load_hf(reference: ModelReference) -> LensModel:
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
    return adapter.load(reference.text, location, config)


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
