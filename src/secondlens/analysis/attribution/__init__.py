"""Attribution: what made the score of an image and a text."""

from secondlens.analysis.attribution.explain import Attribution, Part, explain_score, explain_texts

__all__ = ["Attribution", "Part", "explain_score", "explain_texts"]
