"""`LensModel`: a loaded, checked model, as the rest of the project and its users see it."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from secondlens.data.labelled import ClassNames
from secondlens.errors import ModelError
from secondlens.lens.reference import MEMORY
from secondlens.lens.tower import VisionTower


@runtime_checkable
class TextEncoder(Protocol):
    """Texts to the joint space."""

    def __call__(self, texts: Sequence[str], device: torch.device, truncate: bool = False) -> Tensor:
        """[text, embed], of any norm; raises `ModelError` for a text it cannot encode."""
        ...

    def overlong(self, texts: Sequence[str]) -> list[int]:
        """Rows of the texts that are longer than the model's context."""
        ...

    def identity(self) -> str:
        """What turns texts into the tower's input, as a string that changes with it (tokenizer, context)."""
        ...


@dataclass(frozen=True)
class Classifier:
    """A model's own linear head: logits = embedding @ weight.T + bias, on the unnormalised embedding."""

    labels: tuple[str, ...]
    weight: Callable[[], Tensor]
    bias: Callable[[], Tensor]


@dataclass(frozen=True)
class Preprocessing:
    """PIL images to pixels, by the model's own configuration.

    transform: a list of RGB images to float32 [image, 3, height, width]; picklable, so that it runs in workers.
    settings: everything that changes the numbers, as JSON; an atlas records it.
    """

    transform: Callable[[list[Image.Image]], Tensor]
    settings: dict[str, Any]


@dataclass(frozen=True)
class SelfCheck:
    """Relative errors between what the lens recomputes from captured parts and what the model computed.

    attention_error: of every reader's output at the pooled token.
    embedding_error: of the embedding as the sum of all direct contributions.
    """

    attention_error: float
    embedding_error: float


class LensModel:
    """A CLIP-like model: an image tower, its preprocessing and, where it has one, a way from texts to the joint space.

    Made by `load_model` and `wrap`. `module` is the whole upstream model, `tower` the references into its image half,
    `classifier` its linear head or None, `check` the result of the self-check.
    """

    def __init__(
        self,
        reference: str,
        family: str,
        module: nn.Module,
        tower: VisionTower,
        preprocessing: Preprocessing,
        text_encoder: TextEncoder | None,
        classifier: Classifier | None = None,
    ) -> None:
        self.reference = reference
        self.family = family
        self.module = module
        self.tower = tower
        self.preprocessing = preprocessing
        self.text_encoder = text_encoder
        self.classifier = classifier
        self.check: SelfCheck | None = None
        module.eval().requires_grad_(False)

    def __repr__(self) -> str:
        size = f"{self.layers} layers of {self.neurons} neurons, {self.heads} heads, {self.embed_dim} dimensions"
        return f"LensModel({self.reference}: {self.family}, {size}, {self.dtype} on {self.device})"

    @property
    def layers(self) -> int:
        """Number of layers."""
        return len(self.tower.mlps)

    @property
    def neurons(self) -> int:
        """Number of neurons a layer."""
        return self.tower.neurons

    @property
    def heads(self) -> int:
        """Number of heads an attention."""
        return self.tower.heads

    @property
    def embed_dim(self) -> int:
        """Dimensions of the joint space."""
        return self.tower.embed_dim

    @property
    def class_names(self) -> ClassNames | None:
        """A classifier's classes, with the synonyms that its texts know; None for a model without a head."""
        if self.classifier is None:
            return None
        labels = list(self.classifier.labels)
        rows = getattr(self.text_encoder, "rows", None) or {label.lower(): row for row, label in enumerate(labels)}
        return ClassNames(labels, rows)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights."""
        return self.tower.mlps[0].project.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.tower.mlps[0].project.weight.device

    def to(self, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> "LensModel":
        """Move the model, in place, to a device and a float precision."""
        self.module.to(device=device, dtype=dtype)
        return self

    def preprocess(self, images: Sequence[Image.Image]) -> Float[Tensor, "image 3 height width"]:
        """Resize, crop and normalise PIL images as the model's configuration says; float32 on the CPU."""
        return self.preprocessing.transform(list(images))

    @torch.no_grad()
    def encode_images(self, pixels: Float[Tensor, "image 3 height width"]) -> Float[Tensor, "image embed"]:
        """The model's own embedding of preprocessed images, unnormalised."""
        return self.tower.forward(pixels.to(self.device, self.dtype))

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str], truncate: bool = False) -> Float[Tensor, "text embed"]:
        """Unit-norm embeddings of texts; of labels for a classifier, whose class rows are its texts.

        truncate: cut texts that are longer than the model's context instead of raising.

        Raises `ModelError` where the model has no way from texts to the joint space, where a text is longer than
        the model's context, and for an unknown label of a classifier.
        """
        if isinstance(texts, str):
            raise ModelError(f"expected a list of texts, got one string; write [{texts!r}]")
        encoder = self.require_texts()
        if not texts:
            return torch.zeros(0, self.embed_dim, device=self.device)
        return torch.nn.functional.normalize(encoder(list(texts), self.device, truncate).float(), dim=-1)

    def require_texts(self) -> TextEncoder:
        """The text encoder; raises `ModelError` where the model has none."""
        if self.text_encoder is None:
            fix = "; give sl.wrap its tokenizer" if self.reference.startswith(f"{MEMORY}:") else ""
            raise ModelError(
                f"{self.reference} cannot encode texts: it has no text tower, tokenizer or labels here{fix}"
            )
        return self.text_encoder

    @cached_property
    def weights_hash(self) -> str:
        """SHA-256 over names, shapes and values of the image tower's weights."""
        return _hash(self.tower.module)

    @cached_property
    def texts_hash(self) -> str:
        """SHA-256 over everything that turns a text into its embedding: all the model's weights, and its tokenizer."""
        return hashlib.sha256(f"{_hash(self.module)} {self.require_texts().identity()}".encode()).hexdigest()


def _hash(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
