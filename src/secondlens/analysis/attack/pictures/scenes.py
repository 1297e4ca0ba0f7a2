"""The embedded world's renderer as a text-to-image model."""

import json

import numpy as np
from PIL import Image

from secondlens.analysis.attack.pictures.base import Made, Order
from secondlens.world import render, scene_from_text


class SceneMaker:
    """Draws what a caption of the grammar names; what it leaves open is drawn without biases. size: in pixels."""

    drawn = True

    def __init__(self, size: int = 64) -> None:
        self.name = "world:"
        self.settings: dict[str, object] = {"size": size}
        self._size = size

    def make(self, order: Order) -> Made:
        """The picture of an order; its scene is among the facts. Raises `WorldError` where nothing can be drawn."""
        scene = scene_from_text(order.prompt, np.random.default_rng(order.seed))
        return Made(Image.fromarray(render(scene, self._size).image), {"scene": json.loads(scene.to_json())})
