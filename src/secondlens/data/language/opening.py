"""From a reference to a language model.

openai:MODEL    any OpenAI-compatible endpoint (OPENAI_BASE_URL, OPENAI_API_KEY)
hf:NAME         a model of `transformers` from the Hub or a folder
scripted:FILE   answers from a JSON file
world:[alone]   the embedded world's grammar, which only writes captions of scenes; alone: with one thing each
"""

from secondlens.data.language.base import MAX_TOKENS, TEMPERATURE, LanguageModel
from secondlens.errors import LanguageError, closest

SCHEMES = ("openai", "hf", "scripted", "world")


def open_language_model(
    reference: str, max_tokens: int = MAX_TOKENS, temperature: float = TEMPERATURE
) -> LanguageModel:
    """The language model of a reference: `openai:MODEL`, `hf:NAME-or-FOLDER` or `scripted:FILE`.

    max_tokens: the longest answer. temperature: 0 takes the likeliest words. Neither concerns a script.

    Raises `LanguageError` for another reference or a model that cannot be opened, `MissingExtra` for a missing library.
    """
    scheme, colon, rest = reference.partition(":")
    if scheme == "world" and rest in ("", "alone"):
        from secondlens.data.language.grammar import GrammarModel

        return GrammarModel(alone=rest == "alone")
    if not colon or not rest:
        raise LanguageError(
            "expected a language model such as 'openai:MODEL', 'hf:NAME-or-FOLDER' or 'scripted:FILE', "
            f"got {reference!r}"
        )
    if max_tokens < 1 or not 0 <= temperature < float("inf"):
        raise LanguageError(
            f"expected max_tokens of 1 or more and a temperature of 0 or more, got {max_tokens} and {temperature}"
        )
    if scheme == "openai":
        from secondlens.data.language.endpoint import EndpointModel

        return EndpointModel(rest, max_tokens, temperature)
    if scheme == "hf":
        from secondlens.data.language.local import LocalModel

        return LocalModel(rest, max_tokens, temperature)
    if scheme == "scripted":
        from secondlens.data.language.base import ScriptedModel

        return ScriptedModel.from_file(rest)
    raise LanguageError(f"unknown kind of language model {scheme!r}{closest(scheme, SCHEMES)}")
