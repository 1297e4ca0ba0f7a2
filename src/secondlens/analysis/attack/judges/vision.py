"""A vision-language model as a judge: behind an OpenAI-compatible endpoint, or of `transformers` on this machine."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from secondlens.analysis.attack.judges.base import Judgement
from secondlens.data.language.base import SeeingModel
from secondlens.errors import EmptyAnswer

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
