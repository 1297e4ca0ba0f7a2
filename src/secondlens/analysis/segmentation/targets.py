"""What a heat map of an image is of: the class that the model predicts, or the image's given name."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from secondlens.data.masks import MaskedImages
from secondlens.descriptions.pool import Pool
from secondlens.errors import ImageError, ModelError, closest
from secondlens.lens.classifier import Head, default_templates, make_head
from secondlens.lens.model import LensModel
from secondlens.lens.texts import encode

Target = Literal["predicted", "name"]


@dataclass(frozen=True)
class Targets:
    """kind: the rule. classes: what may be predicted, or the names. unknown: why a name has no vector."""

    kind: Target
    classes: list[str]
    vectors: Float[Tensor, "class embed"]
    unknown: dict[str, str]
    head: Head | None = None

    def of(
        self, embeddings: Float[Tensor, "image embed"], names: Sequence[str | None]
    ) -> tuple[list[str], Float[Tensor, "image embed"]]:
        """Text and unit vector of each image's target."""
        if self.head is not None:
            norms = embeddings.norm(dim=1)
            rows = self.head.predict(embeddings / norms[:, None], norms).tolist()
        else:
            rows = [self.classes.index(str(name)) for name in names]
        return [self.classes[row] for row in rows], self.vectors[rows]


def make_targets(
    model: LensModel,
    images: MaskedImages,
    kind: str | None = None,
    classes: Pool | None = None,
    templates: Sequence[str] | None = None,
) -> Targets:
    """Targets for a set of images.

    kind: by default "name" where the model encodes any text and every image has a name, else "predicted".
    classes: what may be predicted; by default a classifier's own labels, else the names that occur.
    templates: what a name is put into for a model with a text tower; default: those that fit the model.

    Raises `ImageError` where there is nothing to predict or no name is known, `ModelError` without a text tower.
    """
    names = sorted({name for name in images.names if name is not None})
    if kind is None:
        kind = "name" if model.classifier is None and None not in images.names else "predicted"
    if kind not in ("predicted", "name"):
        raise ImageError(f"unknown target {kind!r}{closest(kind, ('predicted', 'name'))}")
    if kind == "name":
        return _by_name(model, names, default_templates(model) if templates is None else templates)
    if model.classifier is not None and classes is not None:
        raise ImageError(f"{model.reference} predicts its own labels; leave the classes out")
    if classes is not None:
        weight = classes.embeddings.to(model.device)
        known, head = list(classes.texts), Head(weight, torch.zeros(len(weight), device=model.device), own=False)
    else:
        known = list(model.classifier.labels) if model.classifier is not None else names
        if len(known) < 2:
            raise ImageError(
                f"expected two classes or more to predict from, got {len(known)}: give a pool of class names "
                "(--classes), or take --target name"
            )
        head = make_head(model, known, templates)
    return Targets("predicted", known, torch.nn.functional.normalize(head.weight, dim=1), {}, head)


def _by_name(model: LensModel, names: list[str], templates: Sequence[str]) -> Targets:
    if not names:
        raise ImageError("expected a name of what each mask shows, none has one; take --target predicted")
    encoder = model.require_texts()
    known: list[str] = []
    unknown: dict[str, str] = {}
    rows = []
    for name in names:
        try:
            if model.classifier is not None:
                rows.append(torch.nn.functional.normalize(encoder([name], model.device).float(), dim=1))
            else:
                rows.append(encode(model, [name], templates).to(model.device))
            known.append(name)
        except ModelError as error:
            unknown[name] = str(error)
    if not known:
        raise ImageError(
            f"{model.reference} knows none of the {len(names)} names ({unknown[names[0]]}); take --target predicted"
        )
    return Targets("name", known, torch.cat(rows), unknown)
