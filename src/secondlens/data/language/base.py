"""What every language model offers, and one that answers from a script: for tests, and to try a pipeline."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from secondlens.data.texts import read_utf8
from secondlens.errors import LanguageError, TextError

MAX_TOKENS = 2048
TEMPERATURE = 1.0


@runtime_checkable
class LanguageModel(Protocol):
    """A model that answers prompts.

    Where it has a dictionary `settings`, what it writes is kept with these in its record; keys never belong there.
    """

    name: str

    def complete(self, prompt: str, seed: int) -> str:
        """The answer to a prompt; the same for the same seed as far as the model allows that.

        Raises `LanguageError` where there is none.
        """
        ...


@runtime_checkable
class SeeingModel(Protocol):
    """A model that answers prompts about a picture."""

    name: str

    def look(self, prompt: str, png: bytes, seed: int) -> str:
        """The answer to a prompt about a PNG; raises `LanguageError` where there is none."""
        ...


def whole_lines(text: str) -> str:
    """An answer that was cut at its longest length, without the line that is unfinished; one line stays as it is."""
    before, _, _ = text.rstrip("\n").rpartition("\n")
    return before if before.strip() else text


Script = Mapping[str, Sequence[str]] | Sequence[str]


class ScriptedModel:
    """Answers from a script, each once.

    script: answers in their order, or from a part of a prompt to its answers (the longest part that is in the prompt
    counts; "" is in every one). `prompts` holds what was asked.
    """

    def __init__(self, script: Script, name: str = "scripted") -> None:
        self.name = name
        self.prompts: list[str] = []
        parts = script if isinstance(script, Mapping) else {"": script}
        self._left = {part: list(answers) for part, answers in parts.items()}

    @classmethod
    def from_file(cls, path: str | Path) -> "ScriptedModel":
        """A JSON file with a list of answers, or an object from a part of a prompt to a list of answers.

        Raises `LanguageError` for anything else.
        """
        path = Path(path)
        try:
            script = json.loads(read_utf8(path))
        except (TextError, json.JSONDecodeError) as error:
            raise LanguageError(f"cannot read the script {path}: {error}") from error
        lists = list(script.values()) if isinstance(script, dict) else [script]
        if not all(isinstance(answers, list) and all(isinstance(text, str) for text in answers) for answers in lists):
            raise LanguageError(
                f"expected a list of answers in {path}, or an object from a part of a prompt to such a list"
            )
        return cls(script, f"scripted:{path.name}")

    def complete(self, prompt: str, seed: int) -> str:
        """The next answer; raises `LanguageError` where the script has none for this prompt, or none any more."""
        self.prompts.append(prompt)
        parts = [part for part in self._left if part in prompt]
        if not parts:
            raise LanguageError(f"{self.name} has no answer to the prompt {prompt[:80]!r}")
        part = max(parts, key=len)
        if not self._left[part]:
            raise LanguageError(f"{self.name} has no more answers to {part!r} (asked: {prompt[:80]!r})")
        return self._left[part].pop(0)
