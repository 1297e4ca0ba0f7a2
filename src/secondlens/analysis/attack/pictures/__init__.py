"""Text-to-image models: one protocol, several back ends."""

from secondlens.analysis.attack.pictures.base import ImageMaker, Made, Order, save_marked
from secondlens.analysis.attack.pictures.opening import open_image_maker

__all__ = ["ImageMaker", "Made", "Order", "open_image_maker", "save_marked"]
