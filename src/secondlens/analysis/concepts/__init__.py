"""Concepts: what an image shows, and what a set of images shows more than others, through active neurons."""

from secondlens.analysis.concepts.activity import Thresholds, norm_thresholds
from secondlens.analysis.concepts.find import (
    ActiveNeuron,
    Concept,
    ConceptFinder,
    ImageConcepts,
    NeuronTerm,
    find_concepts,
)

__all__ = [
    "ActiveNeuron",
    "Concept",
    "ConceptFinder",
    "ImageConcepts",
    "NeuronTerm",
    "Thresholds",
    "find_concepts",
    "norm_thresholds",
]
