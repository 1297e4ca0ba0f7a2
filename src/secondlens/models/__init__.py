"""Models: adapters that hold references into upstream image towers. Knows nothing of neurons' effects."""

from secondlens.models.load import load_model
from secondlens.models.model import Classifier, LensModel, Preprocessing, SelfCheck
from secondlens.models.tower import MLP, AttentionWeights, Block, Reader, VisionTower

__all__ = [
    "MLP",
    "AttentionWeights",
    "Block",
    "Classifier",
    "LensModel",
    "Preprocessing",
    "Reader",
    "SelfCheck",
    "VisionTower",
    "load_model",
]
