"""Concepts: what an image shows, and what a set of images shows more than others, through active neurons."""

from secondlens.analysis.concepts.find import ActiveNeuron, Concept, ConceptFinder, ImageConcepts, NeuronTerm
from secondlens.analysis.concepts.thresholds import Thresholds, norm_thresholds

__all__ = [
    "ActiveNeuron",
    "Concept",
    "ConceptFinder",
    "ImageConcepts",
    "NeuronTerm",
    "Thresholds",
    "norm_thresholds",
]
