"""Descriptions: words for neurons, and how far they can be trusted."""

from secondlens.descriptions.describe import describe
from secondlens.descriptions.search import search_neurons
from secondlens.descriptions.store import Descriptions

__all__ = ["Descriptions", "describe", "search_neurons"]
