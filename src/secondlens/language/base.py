"""What every language model can do: answer a prompt."""

from typing import Protocol, runtime_checkable

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
