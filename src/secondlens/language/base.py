"""The whole contract of a language model."""

from typing import Protocol, runtime_checkable


@runtime_checkable
class LanguageModel(Protocol):
    """Something that answers a prompt. name: what a file records, never with a key or an address."""

    name: str

    def complete(self, prompt: str, seed: int) -> str:
        """The answer; the same for the same prompt and seed where the model can do that.

        Raises `LanguageError` where there is none.
        """
        ...
