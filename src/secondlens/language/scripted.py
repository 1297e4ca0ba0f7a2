"""A language model that says what it was told to: for tests, and to try a pipeline without a model."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from secondlens.errors import LanguageError, TextError
from secondlens.pools.texts import read_utf8

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
