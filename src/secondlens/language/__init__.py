"""Language models that write and judge texts: one protocol, several back ends."""

from secondlens.language.base import LanguageModel
from secondlens.language.opening import open_language_model
from secondlens.language.scripted import ScriptedModel

__all__ = ["LanguageModel", "ScriptedModel", "open_language_model"]
