"""How things look: one function a noun, in files by kind, and the backgrounds."""

import numpy as np

from secondlens.world.drawing import buildings, creatures, mammals, plants, tools, vehicles
from secondlens.world.drawing.pen import Pen

DRAWINGS = {
    **mammals.DRAWINGS,
    **creatures.DRAWINGS,
    **vehicles.DRAWINGS,
    **plants.DRAWINGS,
    **tools.DRAWINGS,
    **buildings.DRAWINGS,
}
"""Noun -> the function that draws it with a pen."""


def shapes(noun: str, detail: int) -> tuple[list[int], list[int], np.ndarray]:
    """A thing as filled polygons, from back to front.

    Returns paints [shape], the end of each shape's points [shape], and all points [point, 2], centred on the bounding
    box, whose longer side is 1.
    """
    pen = Pen(detail)
    DRAWINGS[noun](pen)
    points = np.concatenate([shape for _, shape in pen.shapes])
    low, high = points.min(0), points.max(0)
    points = (points - (low + high) / 2) / float((high - low).max())
    return [paint for paint, _ in pen.shapes], np.cumsum([len(shape) for _, shape in pen.shapes]).tolist(), points
