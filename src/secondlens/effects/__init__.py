"""Effects: coefficients, write directions, statistics, rank one. Pure tensors, no paths on disk."""

from secondlens.effects.factored import FactoredEffects, second_order_effects
from secondlens.effects.first_order import (
    DirectEffects,
    NeuronDirectEffects,
    first_order_effects,
    first_order_neurons,
)
from secondlens.effects.patches import patch_contributions
from secondlens.effects.paths import Convention, Path, paths_of

__all__ = [
    "Convention",
    "DirectEffects",
    "FactoredEffects",
    "NeuronDirectEffects",
    "Path",
    "first_order_effects",
    "first_order_neurons",
    "patch_contributions",
    "paths_of",
    "second_order_effects",
]
