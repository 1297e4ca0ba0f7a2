"""Colours and textures: what the paints of a drawing become on one thing."""

import math
from functools import lru_cache
from random import Random

import numpy as np

from secondlens.world.drawing.pen import ACCENTS, BODY, LIGHT, OUTLINE, SHADE, TEXTURED

COLOUR_VALUES: dict[str, tuple[int, int, int]] = {
    "red": (214, 38, 40),
    "orange": (245, 130, 24),
    "yellow": (250, 218, 48),
    "green": (44, 158, 62),
    "blue": (40, 92, 214),
    "purple": (132, 52, 178),
    "pink": (248, 140, 188),
    "brown": (122, 72, 38),
    "black": (40, 40, 46),
    "white": (244, 244, 244),
}
"""RGB of every colour, before light and the small variation of each thing."""

_SECOND: dict[str, tuple[int, int, int]] = {
    "yellow": (96, 76, 20),
    "pink": (132, 30, 84),
    "white": (112, 116, 124),
    "black": (150, 150, 158),
    "orange": (110, 44, 8),
}
"""Second colour of a textured thing where it is not near white: far from the first, and of no other colour's hue."""


@lru_cache(maxsize=64)
def _block(colour: str) -> np.ndarray:
    base = np.array(COLOUR_VALUES[colour], dtype=np.float64)
    block = np.zeros((32, 3))
    for paint, value in ACCENTS.items():
        block[paint] = value
    dark = colour == "black"
    block[BODY] = base
    block[SHADE] = base * 0.45 + 45 if dark else base * (0.78 if colour == "white" else 0.68)
    block[LIGHT] = base * 0.7 + 255 * (0.18 if dark else 0.3)
    block[OUTLINE] = (112, 112, 120) if dark else base * (0.34 if colour != "white" else 0.42)
    block[TEXTURED + BODY] = _SECOND.get(colour, tuple(base * 0.12 + 255 * 0.88))
    return block


def palette_block(colour: str, detail: int) -> np.ndarray:
    """RGB of the 32 paints of one thing [32, 3], uint8; each thing varies a little around its colour."""
    random = Random(detail ^ 0x5EED)
    gain = 1 + 0.16 * (random.random() - 0.5)
    shift = np.array([random.random() - 0.5, random.random() - 0.5, random.random() - 0.5]) * 22
    block = _block(colour) * gain + shift
    return np.clip(block, 0, 255).astype(np.uint8)


@lru_cache(maxsize=512)
def texture(name: str, period: int, turn: int, side: int) -> np.ndarray:
    """Where the second colour shows [side, side], bool.

    period: of the pattern, in pixels. turn: its direction, in steps of 22.5 degrees.
    """
    angle = math.radians(22.5 * turn)
    y, x = np.mgrid[:side, :side].astype(np.float32)
    u = (x * math.cos(angle) + y * math.sin(angle)) / period
    v = (-x * math.sin(angle) + y * math.cos(angle)) / period
    if name == "striped":
        return (u % 1.0) < 0.42
    if name == "dotted":
        u, v = u / 1.1, v / 1.1
        rows = np.floor(v / 0.87)
        du, dv = (u + 0.5 * (rows % 2)) % 1.0 - 0.5, (v / 0.87) % 1.0 - 0.5
        return du**2 + (0.87 * dv) ** 2 < 0.31**2
    if name == "checked":
        return ((np.floor(u / 0.62) + np.floor(v / 0.62)) % 2) == 0
    raise ValueError(f"no pattern is called {name!r}")
