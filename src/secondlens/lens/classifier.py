"""From embeddings to classes: a model's own head, or zero-shot from class names and templates."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondlens.data.texts import read_texts
from secondlens.errors import MissingExtra, TextError
from secondlens.lens.model import LensModel
from secondlens.lens.texts import encode

TEMPLATES = ("a photo of a {}.",)
"""What a class name is put into where nothing else is asked for."""
WORLD_TEMPLATES = ("a {}", "there is a {}", "a picture of a {}")
"""For models that know only the words of the embedded world's grammar."""
OPENAI = "openai-imagenet"
"""Name of OpenAI's 80 templates for ImageNet."""


def read_templates(reference: str) -> tuple[str, ...]:
    """Templates with one `{}` each: "openai-imagenet" (open_clip carries them), or a text file with one a line.

    Raises `TextError` for a file that cannot be used, `MissingExtra` where open_clip is not installed.
    """
    if reference == OPENAI:
        try:
            from open_clip import OPENAI_IMAGENET_TEMPLATES
        except ImportError as error:
            raise MissingExtra(
                "open_clip", "openclip", f"the templates {OPENAI!r} (a file of them needs none)"
            ) from error
        return tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)
    if not Path(reference).is_file():
        raise TextError(f"expected templates: {OPENAI!r} or a text file with one a line, got {reference!r}")
    templates = tuple(line.strip() for line in read_texts(reference))
    wrong = [template for template in templates if template.count("{}") != 1]
    if wrong:
        raise TextError(f"expected one {{}} in every template, where the class name goes; {reference} has {wrong[0]!r}")
    return templates


def default_templates(model: LensModel) -> tuple[str, ...]:
    """`TEMPLATES`, but `WORLD_TEMPLATES` for a model whose tokenizer does not know the words of the former."""
    return WORLD_TEMPLATES if unknown_words(model, TEMPLATES[0].replace("{}.", "")) else TEMPLATES


def unknown_words(model: LensModel, text: str) -> list[str]:
    """Words of a text that a model's tokenizer does not know: one that only knows whole words; else none."""
    words = getattr(model.text_encoder, "unknown_words", None)
    return words(text) if words is not None else []


@dataclass(frozen=True)
class Head:
    """logits = scale * embedding @ weight.T + bias, for unit-norm embeddings; scale is |z| where the head is the
    model's own, which sees z, and 1 for zero-shot.
    """

    weight: Float[Tensor, "class embed"]
    bias: Float[Tensor, " class"]
    own: bool

    def predict(
        self, embeddings: Float[Tensor, "image embed"], norms: Float[Tensor, " image"]
    ) -> Int[Tensor, " image"]:
        """Class of each image, from its embedding over |z| (possibly changed) and the |z| it had."""
        scaled = embeddings * norms[:, None] if self.own else embeddings
        return (scaled @ self.weight.T + self.bias).argmax(dim=1)


def make_head(model: LensModel, classes: Sequence[str], templates: Sequence[str] | None = None) -> Head:
    """The model's own head where it has one, else the mean over templates (default: those that fit the model) of the
    class names' embeddings.
    """
    if model.classifier is not None:
        weight, bias = model.classifier.weight(), model.classifier.bias()
        return Head(weight.float(), bias.float(), own=True)
    weight = encode(model, list(classes), default_templates(model) if templates is None else templates).to(model.device)
    return Head(weight, torch.zeros(len(classes), device=model.device), own=False)
