"""Judges of pictures: one protocol, several back ends.

exact              reads the embedded world's scenes
openai:MODEL       a vision-language model behind an OpenAI-compatible endpoint
hf:NAME            a vision-language model of `transformers` from the Hub or a folder
model:REFERENCE    a second, different model, e.g. model:openclip:ViT-B-32/laion2b_s34b_b79k
none               nobody: every picture counts as valid

A person judges on a page of their own: `secondlens attack judge`.

A picture shows a class where the second model finds the class's name nearer than each of a list of other things:

    shows(c)  <=>  <z, t(c)> > max over other classes o of <z, t(o)> - margin

with the margin 0 for the shown class, so that it has to come first, the predicted class left out; the predicted class
counts as shown where it comes before the shown one. It is a weak judge that shares the first one's kind of mistakes:
use it to agree or disagree with, not alone.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from secondlens.analysis.audit.classes import class_head
from secondlens.data.decode import decode
from secondlens.data.language.base import SeeingModel
from secondlens.data.texts import normalised
from secondlens.errors import AuditError, EmptyAnswer, closest
from secondlens.lens.classifier import TEMPLATES, Head
from secondlens.lens.model import LensModel
from secondlens.world import Scene, render
from secondlens.world.vocabulary import MEANINGS, NOUNS


@dataclass(frozen=True)
class Judgement:
    """Whether a picture shows the shown class and the predicted one; None where the judge does not know. note: why."""

    shows_source: bool | None
    shows_target: bool | None
    note: str = ""

    @property
    def valid(self) -> bool | None:
        """Whether it is a test: shows the one and not the other; None where that is not known."""
        if self.shows_source is False or self.shows_target is True:
            return False
        return None if self.shows_source is None or self.shows_target is None else True

    def facts(self) -> dict[str, Any]:
        """As plain data."""
        return {**vars(self), "valid": self.valid}


@runtime_checkable
class Judge(Protocol):
    """Someone or something that looks at pictures. settings: what changes its judgements."""

    name: str
    settings: dict[str, object]

    def judge(self, line: Mapping[str, Any], picture: Path) -> Judgement:
        """A picture of an attack. line: its line in images.jsonl. Raises a `SecondLensError` where it cannot."""
        ...


VISIBLE = 20
"""Pixels of a thing at least, in a picture of 64 a side, for it to be seen."""


class ExactJudge:
    """A scene shows a noun where enough pixels of one are visible."""

    name = "exact"
    settings: dict[str, object] = {"visible": VISIBLE}  # noqa: RUF012

    def judge(self, line: Mapping[str, Any], picture: Path) -> Judgement:
        """See `Judge`; raises `AuditError` for a picture that the renderer did not draw or a class it cannot draw."""
        drawn = line["metadata"].get("scene")
        if drawn is None:
            raise AuditError(f"the exact judge reads scenes; {line['name']} was not drawn by the embedded world")
        scene = Scene.from_json(drawn)
        masks = render(scene).masks
        seen = {noun for noun, mask in zip(scene.nouns, masks, strict=True) if mask.sum() >= VISIBLE}
        return Judgement(_noun(line["source_class"]) in seen, _noun(line["target_class"]) in seen)


def _noun(name: str) -> str:
    kind, value = MEANINGS.get(name.lower(), ("", ""))
    if kind != "noun":
        raise AuditError(f"the embedded world has no {name!r}; it has: {', '.join(NOUNS)}")
    return value


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


QUESTION = (
    "Look at the picture. Does it show a {class} (as a thing, not as a drawing on something else)? "
    "Answer with one word: yes or no."
)
TRIES = 3
"""Times a question is asked whose answer is neither yes nor no."""
MAX_TOKENS = 512


class VisionJudge:
    """Two questions a picture, yes or no each; what is neither is asked again, then counted as unknown."""

    def __init__(self, model: SeeingModel) -> None:
        """Nothing is asked yet."""
        self._model = model
        self.name = model.name
        self.settings: dict[str, object] = {"question": QUESTION}

    def judge(self, line: Mapping[str, Any], picture: Path) -> Judgement:
        """See `Judge`; raises `LanguageError` where the model cannot be asked."""
        png = picture.read_bytes()
        shown, first = self._ask(line["source_class"], png, int(line["seed"]))
        predicted, second = self._ask(line["target_class"], png, int(line["seed"]))
        return Judgement(shown, predicted, "; ".join(filter(None, (first, second))))

    def _ask(self, name: str, png: bytes, seed: int) -> tuple[bool | None, str]:
        answer = ""
        for attempt in range(TRIES):
            try:
                answer = self._model.look(QUESTION.replace("{class}", name), png, seed + attempt)
            except EmptyAnswer:
                continue
            said = yes_or_no(answer)
            if said is not None:
                return said, ""
        return None, f"{name}: no answer ({answer[:80]!r})"


def yes_or_no(answer: str) -> bool | None:
    """What an answer says: its first yes or no, after any thinking aloud; None for neither, or for both."""
    plain = re.sub(r"<think>.*?(</think>|\Z)", "", answer, flags=re.DOTALL).lower()
    found = set(re.findall(r"\b(yes|no)\b", plain))
    if len(found) == 1:
        return found == {"yes"}
    first = re.match(r"\W*(yes|no)\b", plain)
    return None if first is None else first[1] == "yes"


def open_vision_judge(kind: str, location: str, device: str | None = None) -> VisionJudge:
    """The judge by "openai" (a model's name) or "hf" (a model's name or folder); raises as the model does."""
    # The likeliest words: a judge is no poet.
    if kind == "openai":
        from secondlens.data.language.endpoint import EndpointModel

        return VisionJudge(EndpointModel(location, max_tokens=MAX_TOKENS, temperature=0.0))
    from secondlens.data.language.local import LocalVisionModel

    return VisionJudge(LocalVisionModel(location, max_tokens=MAX_TOKENS, temperature=0.0, device=device))


KINDS = ("exact", "openai", "hf", "model", "none")


class NoJudge:
    """Takes every picture for valid."""

    name = "none"
    settings: dict[str, object] = {}  # noqa: RUF012

    def judge(self, line: Mapping[str, Any], picture: Path) -> Judgement:
        """See `Judge`."""
        return Judgement(True, False, "nobody looked")


def open_judge(
    reference: str, victim: LensModel, classes: Sequence[str], templates: Sequence[str] = TEMPLATES
) -> Judge:
    """The judge of a reference. victim: the attacked model, which cannot judge itself. classes: for a second model.

    Raises `AuditError` for another reference or the victim as its own judge, and what the back ends raise.
    """
    kind, _, rest = reference.partition(":")
    if kind == "exact" and not rest:
        return ExactJudge()
    if kind == "none" and not rest:
        return NoJudge()
    if kind in ("openai", "hf") and rest:
        return open_vision_judge(kind, rest, str(victim.device))
    if kind == "model" and rest:
        from secondlens.lens import load_model

        loaded = load_model(rest, device=str(victim.device))
        if loaded.weights_hash == victim.weights_hash:
            raise AuditError(f"{rest} is the attacked model itself; a judge has to be another")
        return SecondModelJudge(loaded, classes, templates)
    raise AuditError(
        f"expected a judge such as 'exact', 'openai:MODEL', 'hf:NAME', 'model:REFERENCE' or 'none', got {reference!r}"
        f"{closest(kind, KINDS)}"
    )
