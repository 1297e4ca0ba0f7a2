"""The second-order lens: models wrapped by references, what they compute captured, effects and their paths."""

from secondlens.lens.first_order import first_order_effects, first_order_neurons
from secondlens.lens.load import load_model, wrap
from secondlens.lens.model import LensModel
from secondlens.lens.second_order import FactoredEffects, patch_contributions, second_order_effects

__all__ = [
    "FactoredEffects",
    "LensModel",
    "first_order_effects",
    "first_order_neurons",
    "load_model",
    "patch_contributions",
    "second_order_effects",
    "wrap",
]
