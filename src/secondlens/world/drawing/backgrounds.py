"""The eight backgrounds: each differs from the others by structure and not only by hue."""

import math
from collections.abc import Callable
from functools import lru_cache
from random import Random

import numpy as np
from PIL import Image, ImageDraw

from secondlens.world.drawing.pen import Number

VARIANTS = 48
"""Different pictures of each background; cuts, mirroring and light vary them further."""

MARGIN = 1.25
"""Side of a variant's picture, as a multiple of the image cut from it."""

SAMPLES = 3


class Board:
    """A square canvas in unit coordinates, y down."""

    def __init__(self, side: int, random: Random) -> None:
        self.side, self.random = side, random
        self.image = Image.new("RGB", (side, side))
        self.pen = ImageDraw.Draw(self.image)

    def vary(self, low: Number, high: Number) -> float:
        """A uniform number."""
        return low + (high - low) * self.random.random()

    def near(self, colour: tuple[int, int, int], amount: Number = 10) -> tuple[int, int, int]:
        """The colour, a little lighter or darker."""
        shift = self.vary(-amount, amount)
        r, g, b = (max(0, min(255, round(value + shift))) for value in colour)
        return r, g, b

    def fill(self, top: tuple[int, int, int], bottom: tuple[int, int, int], y0: Number = 0.0, y1: Number = 1.0) -> None:
        """A vertical gradient."""
        first, last = round(y0 * self.side), round(y1 * self.side)
        rows = np.linspace(0, 1, max(1, last - first))[:, None, None]
        strip = np.array(top) * (1 - rows) + np.array(bottom) * rows
        strip = np.broadcast_to(strip, (len(rows), self.side, 3)).astype(np.uint8)
        self.image.paste(Image.fromarray(np.ascontiguousarray(strip)), (0, first))

    def polygon(self, colour: tuple[int, int, int], points: list[tuple[Number, Number]]) -> None:
        """A filled polygon."""
        self.pen.polygon([(x * self.side, y * self.side) for x, y in points], fill=colour)

    def rectangle(self, colour: tuple[int, int, int], x0: Number, y0: Number, x1: Number, y1: Number) -> None:
        """A filled rectangle."""
        s = self.side
        self.pen.rectangle((x0 * s, y0 * s, x1 * s, y1 * s), fill=colour)

    def ellipse(self, colour: tuple[int, int, int], x: Number, y: Number, rx: Number, ry: Number) -> None:
        """A filled ellipse."""
        s = self.side
        self.pen.ellipse(((x - rx) * s, (y - ry) * s, (x + rx) * s, (y + ry) * s), fill=colour)

    def line(self, colour: tuple[int, int, int], points: list[tuple[Number, Number]], width: Number) -> None:
        """A polyline."""
        self.pen.line(
            [(x * self.side, y * self.side) for x, y in points], fill=colour, width=max(1, round(width * self.side))
        )

    def hill(self, colour: tuple[int, int, int], y: Number, height: Number, waves: Number) -> None:
        """Everything below a wavy line."""
        phase = self.vary(0, 6.3)
        edge = [(x / 24, y + height * math.sin(phase + waves * x / 24 * 2 * math.pi)) for x in range(25)]
        self.polygon(colour, [*edge, (1.0, 1.0), (0.0, 1.0)])


def sea(b: Board) -> None:
    """A pale sky over water with rows of waves."""
    horizon = b.vary(0.3, 0.42)
    b.fill((196, 222, 240), (226, 238, 244), 0, horizon)
    b.fill((92, 160, 196), (38, 104, 160), horizon, 1)
    y = horizon + 0.05
    while y < 1:
        step, phase = 0.05 + 0.09 * (y - horizon), b.vary(0, 6.3)
        rows = [(x / 48, y + 0.17 * step * math.sin(phase + x / 48 / step * 1.6)) for x in range(49)]
        b.line(b.near((150, 200, 222), 16), rows, 0.006 + 0.012 * (y - horizon))
        y += step


def desert(b: Board) -> None:
    """Dunes with ripples under a hot sky and a sun."""
    b.fill((250, 206, 150), (252, 232, 196), 0, 0.6)
    b.ellipse((255, 246, 214), b.vary(0.15, 0.85), b.vary(0.12, 0.22), 0.075, 0.075)
    for y, colour in (
        (b.vary(0.32, 0.4), (226, 180, 118)),
        (b.vary(0.48, 0.55), (214, 164, 100)),
        (0.72, (204, 152, 88)),
    ):
        b.hill(b.near(colour), y, b.vary(0.03, 0.07), b.vary(0.7, 1.4))
        for _ in range(4):
            x, dy, w = b.vary(0, 0.8), b.vary(0.08, 0.2), b.vary(0.1, 0.22)
            b.line(b.near((184, 132, 74), 6), [(x, y + dy), (x + w / 2, y + dy - 0.02), (x + w, y + dy)], 0.008)


def meadow(b: Board) -> None:
    """Green hills with blades of grass and small flowers under a sky with a cloud."""
    b.fill((164, 208, 242), (216, 234, 244), 0, 0.6)
    x, y = b.vary(0.1, 0.9), b.vary(0.08, 0.2)
    for dx, r in ((-0.09, 0.05), (0, 0.07), (0.09, 0.05)):
        b.ellipse((246, 250, 252), x + dx, y, r, r * 0.7)
    b.hill(b.near((136, 190, 96)), b.vary(0.36, 0.42), 0.05, b.vary(0.7, 1.2))
    b.hill(b.near((112, 172, 78)), b.vary(0.5, 0.58), 0.03, b.vary(0.8, 1.5))
    for _ in range(110):
        x, y = b.vary(0, 1), b.vary(0.55, 1.03)
        tall = 0.03 + 0.05 * (y - 0.5)
        b.line(b.near((84, 144, 58), 14), [(x, y), (x + b.vary(-0.015, 0.015), y - tall)], 0.008)
    for _ in range(12):
        x, y = b.vary(0, 1), b.vary(0.6, 1.0)
        b.ellipse(b.random.choice(((250, 246, 220), (248, 226, 120), (240, 190, 214))), x, y, 0.012, 0.012)


def forest(b: Board) -> None:
    """Rows of trunks under dark foliage."""
    b.fill((122, 150, 118), (78, 104, 70))
    for trunk in range(7):
        place = trunk / 7 + b.vary(0, 0.1)
        b.rectangle(b.near((96, 88, 72), 8), place, 0, place + 0.03, 0.72)
    b.hill(b.near((66, 88, 54)), 0.7, 0.02, 1.5)
    for trunk in range(4):
        place, wide = trunk / 4 + b.vary(0, 0.16), b.vary(0.05, 0.08)
        b.polygon(
            b.near((70, 54, 42), 8),
            [
                (place, 0),
                (place + wide, 0),
                (place + wide, 0.76),
                (place + wide + 0.03, 0.84),
                (place - 0.03, 0.84),
                (place, 0.76),
            ],
        )
    for _ in range(46):
        b.ellipse(b.near((48, 84, 50), 18), b.vary(0, 1), b.vary(-0.03, 0.2), b.vary(0.04, 0.08), b.vary(0.03, 0.05))
    for _ in range(24):
        x, y = b.vary(0, 1), b.vary(0.8, 1.0)
        b.polygon(b.near((54, 96, 52), 14), [(x - 0.03, y), (x, y - 0.07), (x + 0.03, y)])


def snow(b: Board) -> None:
    """White ground and pointed mountains under a grey sky full of flakes."""
    b.fill((170, 184, 202), (206, 216, 228), 0, 0.7)
    for _ in range(3):
        x, y, w = b.vary(0, 1), b.vary(0.12, 0.3), b.vary(0.25, 0.4)
        b.polygon(b.near((134, 150, 174)), [(x - w, 0.62), (x, y), (x + w, 0.62)])
        b.polygon(
            (240, 244, 250),
            [
                (x - 0.3 * w, y + 0.3 * (0.62 - y)),
                (x, y),
                (x + 0.3 * w, y + 0.3 * (0.62 - y)),
                (x, y + 0.22 * (0.62 - y)),
            ],
        )
    b.hill((226, 233, 242), 0.56, 0.03, b.vary(0.7, 1.3))
    b.hill((238, 242, 248), 0.72, 0.03, b.vary(0.7, 1.3))
    for _ in range(70):
        r = b.vary(0.006, 0.013)
        b.ellipse((252, 253, 255), b.vary(0, 1), b.vary(0, 1), r, r)


def city(b: Board) -> None:
    """A row of blocks with windows behind a street with a dashed line."""
    b.fill((198, 206, 214), (222, 224, 226), 0, 0.75)
    x = -b.vary(0, 0.1)
    while x < 1:
        wide, top = b.vary(0.13, 0.22), b.vary(0.08, 0.4)
        wall = b.near((142, 136, 138), 22)
        b.rectangle(wall, x, top, x + wide - 0.012, 0.75)
        y = top + 0.035
        while y < 0.68:
            for column in range(3):
                lit = b.random.random() < 0.3
                at = x + wide * (0.14 + 0.27 * column)
                b.rectangle((240, 224, 160) if lit else (96, 104, 118), at, y, at + wide * 0.15, y + 0.035)
            y += 0.075
        x += wide
    b.rectangle(b.near((176, 174, 170)), 0, 0.73, 1, 0.78)
    b.rectangle(b.near((92, 92, 98)), 0, 0.78, 1, 1)
    shift = b.vary(0, 0.2)
    for dash in range(-1, 6):
        b.rectangle((226, 226, 220), shift + dash * 0.2, 0.88, shift + dash * 0.2 + 0.1, 0.9)


def night(b: Board) -> None:
    """Stars and a moon over a dark ridge."""
    b.fill((14, 18, 48), (46, 48, 96))
    for _ in range(60):
        r = b.random.choice((0.004, 0.006, 0.01))
        b.ellipse(b.near((236, 236, 214), 18), b.vary(0, 1), b.vary(0, 0.85), r, r)
    x, y = b.vary(0.15, 0.85), b.vary(0.13, 0.25)
    b.ellipse((244, 240, 206), x, y, 0.085, 0.085)
    b.ellipse((20, 24, 56), x + 0.045, y - 0.02, 0.075, 0.075)
    b.hill((12, 14, 32), b.vary(0.84, 0.9), 0.025, b.vary(1, 2))


def room(b: Board) -> None:
    """Striped wallpaper with a window or a picture over floor boards."""
    wall = b.random.choice(((232, 214, 190), (220, 206, 214), (214, 218, 200)))
    floor = b.vary(0.66, 0.74)
    b.fill(wall, wall)
    shift, paper = b.vary(0, 0.1), b.near((wall[0] - 16, wall[1] - 16, wall[2] - 16), 3)
    for stripe in range(-1, 11):
        b.rectangle(paper, shift + stripe * 0.1, 0, shift + stripe * 0.1 + 0.04, floor)
    x = b.vary(0.12, 0.6)
    if b.random.random() < 0.5:
        b.rectangle((150, 112, 78), x, 0.1, x + 0.28, 0.46)
        b.rectangle((190, 220, 240), x + 0.025, 0.125, x + 0.255, 0.435)
        b.rectangle((150, 112, 78), x + 0.13, 0.1, x + 0.15, 0.46)
        b.rectangle((150, 112, 78), x, 0.27, x + 0.28, 0.29)
    else:
        b.rectangle((166, 132, 66), x, 0.14, x + 0.3, 0.4)
        b.rectangle((190, 196, 180), x + 0.025, 0.165, x + 0.275, 0.375)
        b.polygon((128, 150, 130), [(x + 0.025, 0.375), (x + 0.12, 0.24), (x + 0.275, 0.375)])
    b.rectangle((244, 238, 228), 0, floor - 0.04, 1, floor)
    y = floor
    while y < 1:
        b.rectangle(b.near((178, 132, 92), 7), 0, y, 1, y + 0.07)
        b.line((132, 92, 60), [(0, y), (1, y)], 0.006)
        for _ in range(2):
            at = b.vary(0, 1)
            b.line((132, 92, 60), [(at, y), (at, y + 0.07)], 0.006)
        y += 0.07


PAINTERS: dict[str, Callable[[Board], None]] = {
    "sea": sea,
    "desert": desert,
    "meadow": meadow,
    "forest": forest,
    "snow": snow,
    "city": city,
    "night": night,
    "room": room,
}


@lru_cache(maxsize=8 * VARIANTS)
def variant(background: str, number: int, side: int) -> np.ndarray:
    """One picture of a background [side, side, 3], uint8, antialiased."""
    board = Board(side * SAMPLES, Random(f"{background} {number}"))
    PAINTERS[background](board)
    return np.asarray(board.image.reduce(SAMPLES))


def backdrop(background: str, seed: int, size: int) -> np.ndarray:
    """A background cut, mirrored and tinted by its seed [size, size, 3], float32 in 0..255."""
    random = Random(seed)
    picture = variant(background, random.randrange(VARIANTS), round(size * MARGIN))
    slack = len(picture) - size
    x, y = round(random.random() * slack), round((0.3 + 0.4 * random.random()) * slack)
    cut = picture[y : y + size, x : x + size]
    if random.random() < 0.5:
        cut = cut[:, ::-1]
    tint = np.array([0.93 + 0.14 * random.random() for _ in range(3)], dtype=np.float32)
    return cut * tint
