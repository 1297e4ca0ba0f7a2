"""Text-to-image models: one protocol, several back ends."""

from secondlens.applications.attack.pictures.base import ImageMaker, Made, Order, save_marked
from secondlens.applications.attack.pictures.opening import open_image_maker

__all__ = ["ImageMaker", "Made", "Order", "open_image_maker", "save_marked"]
