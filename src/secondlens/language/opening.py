"""From a reference to a language model."""

from secondlens.errors import LanguageError, closest
from secondlens.language.base import LanguageModel
from secondlens.language.endpoint import EndpointModel
from secondlens.language.local import LocalModel
from secondlens.language.scripted import ScriptedModel

SCHEMES = ("openai", "hf", "scripted")


def open_language_model(reference: str, *, max_tokens: int = 2048, temperature: float = 0.7) -> LanguageModel:
    """`openai:MODEL` (any OpenAI-compatible endpoint), `hf:NAME-or-FOLDER` (transformers), `scripted:FILE`.

    max_tokens, temperature: of an answer. Raises `LanguageError` for an unknown reference or a model that cannot be
    opened, `MissingExtra` without the library.
    """
    scheme, colon, rest = reference.partition(":")
    if not colon or not rest:
        raise LanguageError(f"expected a language model such as openai:MODEL or hf:FOLDER, got {reference!r}")
    if scheme not in SCHEMES:
        raise LanguageError(f"unknown kind of language model {scheme!r}{closest(scheme, SCHEMES)}")
    if max_tokens < 1 or temperature < 0:
        raise LanguageError(f"expected max_tokens >= 1 and temperature >= 0, got {max_tokens} and {temperature}")
    if scheme == "openai":
        return EndpointModel(rest, max_tokens, temperature)
    return LocalModel(rest, max_tokens, temperature) if scheme == "hf" else ScriptedModel.from_file(rest)
