"""Answers written beforehand: for tests, and for going through a pipeline without a language model."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from secondlens.errors import LanguageError


class ScriptedModel:
    """Answers by a part of the prompt, each used once in turn; `prompts` lists what was asked.

    answers: part of a prompt to the answers to it; the first part that occurs in the prompt counts.
    """

    def __init__(self, answers: Mapping[str, Iterable[str]], name: str = "scripted") -> None:
        self.name = name
        self.prompts: list[str] = []
        self._answers = {part: list(texts) for part, texts in answers.items()}

    @classmethod
    def from_file(cls, path: str | Path) -> "ScriptedModel":
        """From a JSON object: part of a prompt to a list of answers."""
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise LanguageError(f"cannot read the script {path}: {error}") from error
        fits = isinstance(content, dict) and all(
            isinstance(texts, list) and all(isinstance(text, str) for text in texts) for texts in content.values()
        )
        if not fits:
            raise LanguageError(f"expected {path} to be a JSON object of lists of texts, by a part of the prompt")
        return cls(content, f"scripted:{Path(path).name}")

    def enqueue(self, part: str, answer: str) -> None:
        """Add an answer to prompts with this part."""
        self._answers.setdefault(part, []).append(answer)

    def complete(self, prompt: str, seed: int) -> str:
        """The next answer to this prompt."""
        self.prompts.append(prompt)
        for part, texts in self._answers.items():
            if part in prompt:
                if not texts:
                    raise LanguageError(f"the script {self.name} has no answer left for prompts with {part!r}")
                return texts.pop(0)
        raise LanguageError(f"the script {self.name} has no answer for the prompt {prompt[:60]!r}")
