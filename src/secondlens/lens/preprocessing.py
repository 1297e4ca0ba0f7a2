"""Preprocessing from a model's own configuration, through upstream's Pillow image processors (no torchvision)."""

import contextlib
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from secondlens.errors import ModelError
from secondlens.lens.model import Preprocessing

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)


class ProcessorTransform:
    """A transformers image processor as a function of PIL images; picklable, so that it runs in worker processes."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def __call__(self, images: list[Image.Image]) -> Tensor:
        """RGB images to float32 [image, 3, height, width]."""
        if not images:
            raise ValueError("expected at least one image, got an empty list")
        pixels = self.processor(images=images, return_tensors="pt")["pixel_values"]
        return pixels.to(torch.float32)


def from_processor(processor: Any) -> Preprocessing:
    """Return the transform of a transformers image processor, with the settings that change numbers.

    Raises `ModelError` for anything else.
    """
    from transformers import BaseImageProcessor

    if not isinstance(processor, BaseImageProcessor):
        raise ModelError(
            f"expected a transformers image processor, got {type(processor).__name__}; "
            "load one with: AutoImageProcessor.from_pretrained(NAME)"
        )
    settings = {key: value for key, value in processor.to_dict().items() if not key.startswith("_")}
    return Preprocessing(ProcessorTransform(processor), json.loads(json.dumps(settings, default=str, sort_keys=True)))


def load_processor(location: str | Path, default: Any) -> Any:
    """The image processor stored beside a model; `default`, an image processor, where a local folder has none.

    Raises `ModelError` where there is a configuration that cannot be read.
    """
    from transformers import AutoImageProcessor

    names = ("preprocessor_config.json", "processor_config.json")
    if Path(location).is_dir() and not any((Path(location) / name).exists() for name in names):
        return default
    try:
        with quiet():
            return AutoImageProcessor.from_pretrained(str(location), backend="pil")
    except Exception as error:
        raise ModelError(f"cannot read the preprocessing configuration of {location}: {error}") from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Upstream's progress bars and advice stay off the terminal: errors are raised, not printed."""
    from transformers.utils import logging as upstream

    verbosity, bars = upstream.get_verbosity(), upstream.is_progress_bar_enabled()
    loggers = [logging.getLogger(name) for name in (None, "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    upstream.set_verbosity_error()
    upstream.disable_progress_bar()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        upstream.set_verbosity(verbosity)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars:
            upstream.enable_progress_bar()
