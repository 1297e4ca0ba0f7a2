"""Two classes of a model: their names, the head that decides between them, and the vector from one to the other."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from secondlens.data.texts import normalised
from secondlens.errors import AuditError, closest
from secondlens.lens.classifier import TEMPLATES, Head, make_head, unknown_words
from secondlens.lens.families.vit import LabelTexts
from secondlens.lens.model import LensModel


@dataclass(frozen=True)
class ClassPair:
    """source_class: what images contain. target_class: what the model shall not take them for. head: of these two, in
    order.
    """

    source_class: str
    target_class: str
    head: Head

    @property
    def vector(self) -> Float[Tensor, " embed"]:
        """v = t(predicted) - t(shown), float32 on the CPU: <v, z/|z|> is the difference of the two logits.

        t: the mean over templates of the names' unit-norm embeddings; of a classifier, its class rows.
        """
        return (self.head.weight[1] - self.head.weight[0]).float().cpu()


def class_head(model: LensModel, names: Sequence[str], templates: Sequence[str] = TEMPLATES) -> tuple[list[str], Head]:
    """Full names of classes and the head that decides between them.

    Of a classifier, names or synonyms of its labels. Raises `AuditError` for names that are unknown to a classifier,
    empty, or the same class twice; `ModelError` where the model cannot encode texts.
    """
    if model.classifier is not None and tuple(names) == model.classifier.labels:
        # Some lists of labels have one name for two classes (the dog and the cardigan): by place, not by name.
        return list(names), make_head(model, [])
    trimmed = [" ".join(name.split()) for name in names]
    if not all(trimmed):
        raise AuditError("expected names of classes, got an empty one")
    keys = [normalised(name) for name in trimmed]
    if model.classifier is None:
        _require_different(trimmed, keys)
        for name in trimmed:
            words = unknown_words(model, name)
            if words:
                raise AuditError(
                    f"{model.reference} knows no word {words[0]!r} (of the class {name!r}): its tokenizer only knows "
                    "whole words; give classes that it was trained with"
                )
        return trimmed, make_head(model, trimmed, templates)
    texts = model.require_texts()
    assert isinstance(texts, LabelTexts)
    rows = []
    for name in trimmed:
        if name.lower() not in texts.rows:
            hint = closest(name.lower(), texts.rows).split(";")[0]
            raise AuditError(
                f"{model.reference} has no class {name!r}{hint}; it is a classifier: only its "
                f"{len(model.classifier.labels)} labels and their synonyms are classes to it"
            )
        rows.append(texts.row(name))
    _require_different(trimmed, [str(row) for row in rows])
    whole = make_head(model, [])
    head = Head(whole.weight[torch.tensor(rows)], whole.bias[torch.tensor(rows)], own=True)
    return [model.classifier.labels[row] for row in rows], head


def class_pair(model: LensModel, shown: str, predicted: str, templates: Sequence[str] = TEMPLATES) -> ClassPair:
    """The pair of two names; raises as `class_head` does."""
    names, head = class_head(model, [shown, predicted], templates)
    return ClassPair(names[0], names[1], head)


def _require_different(names: Sequence[str], keys: Sequence[str]) -> None:
    first: dict[str, str] = {}
    for name, key in zip(names, keys, strict=True):
        if key in first:
            same = repr(name) if name == first[key] else f"{first[key]!r} and {name!r}"
            raise AuditError(f"expected different classes, got {same} twice; give two that differ")
        first[key] = name
