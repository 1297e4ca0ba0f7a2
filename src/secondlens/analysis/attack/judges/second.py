"""A second, different model as a judge.

A picture shows a class where the second model finds the class's name nearer than each of a list of other things:

    shows(c)  <=>  <z, t(c)> > max over other classes o of <z, t(o)> - margin

with the margin 0 for the shown class, so that it has to come first, the predicted class left out; the predicted class
counts as shown where it comes before the shown one. It is a weak judge that shares the first one's kind of mistakes:
use it to agree or disagree with, not alone.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from secondlens.analysis.attack.judges.base import Judgement
from secondlens.analysis.audit.classes import class_head
from secondlens.data.decode import decode
from secondlens.data.texts import normalised
from secondlens.errors import AuditError
from secondlens.lens.classifier import TEMPLATES, Head
from secondlens.lens.model import LensModel


class SecondModelJudge:
    """A model of another training, over a list of classes that holds the attack's."""

    def __init__(self, model: LensModel, classes: Sequence[str], templates: Sequence[str] = TEMPLATES) -> None:
        """classes: what pictures may show. Raises `AuditError` for fewer than three or names that the model refuses."""
        if len(classes) < 3:
            raise AuditError(
                f"a second model judges among three classes or more, got {len(classes)}; give more with --classes"
            )
        self._model = model
        self._names = [normalised(name) for name in classes]
        self._head: Head = class_head(model, classes, templates)[1]
        self.name = f"model:{model.reference}"
        self.settings: dict[str, object] = {"classes": list(classes), "weights": model.weights_hash[:16]}

    def judge(self, line: Mapping[str, Any], picture: Path) -> Judgement:
        """See `Judge`; raises `AuditError` for a class that is not in the list."""
        shown, predicted = (self._row(line[name]) for name in ("source_class", "target_class"))
        embedding = self._model.encode_images(self._model.preprocess([decode(picture)])).float()
        norm = embedding.norm(dim=1, keepdim=True)
        logits = ((embedding if self._head.own else embedding / norm) @ self._head.weight.T + self._head.bias)[0]
        others = torch.ones(len(logits), dtype=torch.bool)
        others[[shown, predicted]] = False
        return Judgement(bool(logits[shown] > logits[others].max()), bool(logits[predicted] > logits[shown]), "")

    def _row(self, name: str) -> int:
        key = normalised(name)
        if key not in self._names:
            raise AuditError(f"the second model judges among classes without {name!r}; add it to --classes")
        return self._names.index(key)
