"""What an adapter of a model family is: the classes that it knows, and what it makes of a module in memory."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from secondlens.lens.model import Classifier, TextEncoder
from secondlens.lens.tower import VisionTower


@dataclass(frozen=True)
class Upstream:
    """What a reference resolves to, and what a person who has a module in memory gives.

    processor: a transformers image processor. tokenizer: None where the model encodes no texts.
    """

    module: Any
    processor: Any
    tokenizer: Any | None = None


@dataclass(frozen=True)
class Adapted:
    """What the lens needs of a module: references into its image tower, its texts and its linear head."""

    tower: VisionTower
    text_encoder: TextEncoder | None = None
    classifier: Classifier | None = None


@runtime_checkable
class Family(Protocol):
    """An adapter; each is a module of this package.

    NAME: of the family. PACKAGE, CLASSES: the library and its classes (and their subclasses) that `adapt` takes.
    """

    NAME: str
    PACKAGE: str
    CLASSES: tuple[str, ...]

    def adapt(self, module: Any, tokenizer: Any | None, reference: str) -> Adapted:
        """Adapt a module in memory; raises `ModelError` for a tower or a tokenizer that it has no use for."""
        ...
