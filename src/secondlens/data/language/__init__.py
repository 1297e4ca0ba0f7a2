"""Language models that write and judge texts: one protocol, several back ends."""

from secondlens.data.language.base import LanguageModel, ScriptedModel
from secondlens.data.language.opening import open_language_model

__all__ = ["LanguageModel", "ScriptedModel", "open_language_model"]
