"""A pen that collects filled shapes in a thing's own coordinates.

x runs to the right and y down; a drawing may use any range, since it is centred and scaled to its bounding box. Shapes
painted later cover earlier ones. A shape names its *paint*, not a colour: `BODY` takes the thing's colour and texture,
`SHADE` and `LIGHT` darker and lighter kinds of its colour, the others are the same on every thing.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from random import Random
from typing import TypeAlias

import numpy as np

BODY, SHADE, LIGHT, DARK, PALE, GLASS, METAL, WOOD, LEAF, FLAME, BEAM = range(1, 12)
OUTLINE = 15
TEXTURED = 16
"""Added to BODY where the texture's second colour shows."""

ACCENTS: dict[int, tuple[int, int, int]] = {
    DARK: (38, 36, 42),
    PALE: (246, 244, 238),
    GLASS: (178, 214, 232),
    METAL: (150, 156, 166),
    WOOD: (142, 98, 60),
    LEAF: (74, 140, 70),
    FLAME: (252, 176, 44),
    BEAM: (255, 240, 168),
}

Number: TypeAlias = float | int
Points: TypeAlias = Sequence[tuple[Number, Number]] | np.ndarray

_CIRCLE = np.stack(
    [np.cos(np.linspace(0, 2 * np.pi, 22, endpoint=False)), np.sin(np.linspace(0, 2 * np.pi, 22, endpoint=False))], 1
)
_STEPS = 5
_T = np.arange(_STEPS) / _STEPS
_CATMULL = 0.5 * np.stack(
    [-_T + 2 * _T**2 - _T**3, 2 - 5 * _T**2 + 3 * _T**3, _T + 4 * _T**2 - 3 * _T**3, -(_T**2) + _T**3], 1
)
"""Weights of four neighbouring points [step, 4] of a Catmull-Rom curve: it passes through its points."""


class Pen:
    """Shapes of one drawing, and the random choices of its pose and proportions."""

    def __init__(self, detail: int) -> None:
        self.random = Random(detail)
        self.shapes: list[tuple[int, np.ndarray]] = []

    def vary(self, low: Number, high: Number) -> float:
        """A uniform number."""
        return low + (high - low) * self.random.random()

    def chance(self, probability: Number) -> bool:
        """True with this probability."""
        return self.random.random() < probability

    def polygon(self, paint: int, points: Points) -> None:
        """A filled polygon."""
        self.shapes.append((paint, np.asarray(points, dtype=np.float64)))

    def rectangle(self, paint: int, x0: Number, y0: Number, x1: Number, y1: Number) -> None:
        """A filled upright rectangle."""
        self.polygon(paint, ((x0, y0), (x1, y0), (x1, y1), (x0, y1)))

    def ellipse(
        self, paint: int, x: Number, y: Number, rx: Number, ry: Number | None = None, angle: Number = 0.0
    ) -> None:
        """A filled ellipse, turned by `angle` degrees; a circle without `ry`."""
        points = _CIRCLE * (rx, rx if ry is None else ry)
        if angle:
            c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            points = points @ np.array([[c, s], [-s, c]])
        self.shapes.append((paint, points + np.array([x, y])))

    def ring(self, paint: int, inside: int, x: Number, y: Number, radius: Number, width: Number) -> None:
        """A circle whose inner disc has another paint; `inside` 0 leaves a hole."""
        self.ellipse(paint, x, y, radius)
        self.ellipse(inside, x, y, radius - width)

    def blob(self, paint: int, points: Points) -> None:
        """A filled closed curve through the points."""
        knots = np.asarray(points, dtype=np.float64)
        self.shapes.append((paint, _curve(np.concatenate([knots[-1:], knots, knots[:2]]))))

    def stroke(self, paint: int, points: Points, width: Number, end: Number | None = None, smooth: bool = True) -> None:
        """A thick curve (or, without `smooth`, straight pieces) through the points; `end`: its width at the last."""
        knots = np.asarray(points, dtype=np.float64)
        last = width if end is None else end
        if not smooth:
            for start, stop in pairwise(knots):
                self._band(paint, np.stack([start, stop]), width, width)
            for knot in knots[1:-1]:
                self.ellipse(paint, knot[0], knot[1], width / 2)
        elif len(knots) > 2:
            line = _curve(np.concatenate([2 * knots[:1] - knots[1:2], knots, 2 * knots[-1:] - knots[-2:-1]]))
            self._band(paint, np.concatenate([line, knots[-1:]]), width, last)
        else:
            self._band(paint, knots, width, last)
        if width > 0.05:
            self.ellipse(paint, knots[0][0], knots[0][1], width / 2)
        if last > 0.05:
            self.ellipse(paint, knots[-1][0], knots[-1][1], last / 2)

    def eye(self, x: Number, y: Number, radius: Number = 0.07) -> None:
        """A pale eye with a dark pupil."""
        self.ellipse(PALE, x, y, radius * 1.5)
        self.ellipse(DARK, x, y, radius)

    def _band(self, paint: int, line: np.ndarray, width: Number, end: Number) -> None:
        along = np.empty_like(line)
        along[1:-1] = line[2:] - line[:-2]
        along[0], along[-1] = line[1] - line[0], line[-1] - line[-2]
        half = (width / 2 + (end - width) / 2 * _ramp(len(line))) / np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-9)
        outline = np.empty((2 * len(line), 2))
        outline[: len(line)] = outline[len(line) :] = line
        across = along[:, ::-1] * half[:, None] * (-1, 1)
        outline[: len(line)] += across
        outline[len(line) :] -= across
        outline[len(line) :] = outline[: len(line) - 1 : -1].copy()
        self.shapes.append((paint, outline))


@lru_cache(maxsize=64)
def _ramp(length: int) -> np.ndarray:
    return np.linspace(0, 1, length)


def _curve(knots: np.ndarray) -> np.ndarray:
    """Points of the curve through knots[1:-1] [(knot - 3) * step, 2]."""
    windows = np.stack([knots[:-3], knots[1:-2], knots[2:-1], knots[3:]], 1)
    return (_CATMULL @ windows).reshape(-1, 2)
