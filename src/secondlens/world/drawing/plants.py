"""Tree, flower, cactus, mushroom, and the food: banana, carrot, cake."""

import math

from secondlens.world.drawing.pen import BODY, DARK, FLAME, LEAF, LIGHT, PALE, SHADE, WOOD, Pen


def tree(pen: Pen) -> None:
    """A crown of round lobes, darker below, on a trunk with a fork."""
    crown, trunk = pen.vary(0.9, 1.05), pen.vary(0.14, 0.2)
    pen.polygon(
        WOOD,
        (
            (-trunk, 0.1),
            (trunk, 0.1),
            (trunk * 1.1, 0.85),
            (trunk * 2, 1.0),
            (-trunk * 2, 1.0),
            (-trunk * 1.1, 0.85),
        ),
    )
    for side in (-1, 1):
        pen.stroke(WOOD, ((0, 0.5), (side * 0.42, 0.1)), 0.12)
    for x in (-0.55, -0.2, 0.2, 0.55):
        pen.ellipse(SHADE, x * crown, -0.06 + pen.vary(-0.05, 0.05), 0.27)
    for lobe in range(6):
        angle = 2 * math.pi * lobe / 6 + 0.4
        pen.ellipse(BODY, 0.5 * crown * math.cos(angle), -0.48 + 0.3 * math.sin(angle), pen.vary(0.28, 0.38))
    pen.ellipse(BODY, 0, -0.48, 0.5, 0.38)


def flower(pen: Pen) -> None:
    """A blossom of separate petals around a yellow heart, on a stem with two leaves."""
    petals, turn = pen.random.choice((5, 6, 6)), pen.vary(0, 1)
    pen.stroke(LEAF, ((0, -0.3), (pen.vary(-0.08, 0.08), 0.4), (0, 1.0)), 0.11)
    for side, y in ((-1, pen.vary(0.55, 0.75)), (1, pen.vary(0.4, 0.6))):
        pen.blob(LEAF, ((0, y + 0.15), (side * 0.22, y - 0.12), (side * 0.55, y - 0.2), (side * 0.35, y + 0.1)))
    for petal in range(petals):
        angle = 2 * math.pi * (petal + turn) / petals
        pen.ellipse(
            BODY, 0.37 * math.cos(angle), -0.45 + 0.37 * math.sin(angle), 0.3, 1.15 / petals, math.degrees(angle)
        )
    pen.ellipse(FLAME, 0, -0.45, 0.2)


def cactus(pen: Pen) -> None:
    """A thick column with two raised arms and pale spines."""
    left, right = pen.vary(-0.5, -0.2), pen.vary(-0.7, -0.35)
    pen.stroke(BODY, ((0, 0.35), (-0.6, 0.3), (-0.62, left)), 0.28, smooth=False)
    pen.stroke(BODY, ((0, 0.05), (0.6, 0.02), (0.62, right)), 0.28, smooth=False)
    pen.stroke(BODY, ((0, 0.95), (0, -0.75)), 0.48)
    for x in (-0.1, 0.1):
        pen.stroke(SHADE, ((x, 0.9), (x, -0.75)), 0.04)
    for y in (-0.7, -0.4, -0.1, 0.2, 0.5, 0.8):
        for x in (-0.24, 0.24):
            pen.stroke(PALE, ((x, y), (x * 1.45, y - 0.06)), 0.04)
    if pen.chance(0.5):
        pen.ellipse(FLAME, 0, -1.02, 0.13, 0.1)


def mushroom(pen: Pen) -> None:
    """A domed cap with pale spots on a pale stalk."""
    cap, stalk = pen.vary(0.85, 1.0), pen.vary(0.22, 0.3)
    pen.blob(
        PALE,
        (
            (-stalk, -0.1),
            (stalk, -0.1),
            (stalk * 1.05, 0.5),
            (stalk * 1.5, 0.95),
            (-stalk * 1.5, 0.95),
            (-stalk * 1.05, 0.5),
        ),
    )
    pen.blob(
        BODY,
        (
            (-cap, 0.08),
            (-cap * 0.85, -0.42),
            (-0.4, -0.85),
            (0, -0.95),
            (0.4, -0.85),
            (cap * 0.85, -0.42),
            (cap, 0.08),
            (0.45, 0.16),
            (-0.45, 0.16),
        ),
    )
    for x, y, r in ((-0.5, -0.3, 0.13), (-0.05, -0.62, 0.14), (0.3, -0.2, 0.15), (0.66, -0.28, 0.09)):
        pen.ellipse(PALE, x * cap, y + pen.vary(-0.04, 0.04), r, r * 0.85)
    pen.stroke(SHADE, ((-cap * 0.9, 0.1), (0, 0.18), (cap * 0.9, 0.1)), 0.09)


def banana(pen: Pen) -> None:
    """One thick crescent with dark ends."""
    bend, thick = pen.vary(0.5, 0.75), pen.vary(0.42, 0.5)
    pen.stroke(WOOD, ((-0.84, -bend * 0.75), (-0.98, -bend * 1.15)), 0.15)
    upper = ((-0.9, -bend * 0.8), (-0.5, bend * 0.05), (0.05, bend * 0.3), (0.6, bend * 0.05), (0.95, -bend * 0.5))
    lower = (
        (1.0, -bend * 0.38),
        (0.7, thick + bend * 0.05),
        (0.05, thick + bend * 0.5),
        (-0.6, thick * 0.8 + bend * 0.1),
        (-1.0, -bend * 0.6),
    )
    pen.blob(BODY, upper + lower)
    pen.stroke(
        SHADE,
        ((-0.9, -bend * 0.62), (-0.5, bend * 0.38), (0.05, bend * 0.68), (0.65, bend * 0.35), (0.95, -bend * 0.42)),
        0.055,
    )
    pen.ellipse(DARK, 0.98, -bend * 0.46, 0.09)


def carrot(pen: Pen) -> None:
    """A long cone, point down, under a bunch of leaves."""
    wide = pen.vary(0.34, 0.44)
    for lean in (-0.4, -0.15, 0.15, 0.4):
        pen.stroke(LEAF, ((0, -0.4), (lean * 0.6, -0.75), (lean + pen.vary(-0.05, 0.05), -1.0)), 0.1, 0.17)
    pen.blob(
        BODY,
        (
            (-wide, -0.3),
            (-wide * 0.6, -0.48),
            (wide * 0.6, -0.48),
            (wide, -0.3),
            (wide * 0.62, 0.3),
            (0.05, 1.0),
            (-0.05, 1.0),
            (-wide * 0.62, 0.3),
        ),
    )
    for y, side in ((-0.2, -1), (0.05, 1), (0.3, -1)):
        pen.stroke(SHADE, ((side * wide * 0.75, y), (side * wide * 0.2, y + 0.03)), 0.06)


def cake(pen: Pen) -> None:
    """Two tiers with dripping icing and burning candles."""
    candles, tall = pen.random.choice((1, 3, 3)), pen.vary(0.3, 0.4)
    for candle in range(candles):
        x = (candle - (candles - 1) / 2) * 0.28
        pen.rectangle(PALE, x - 0.045, -0.68, x + 0.045, -0.3)
        pen.ellipse(FLAME, x, -0.8, 0.07, 0.13)
    pen.rectangle(BODY, -0.52, -0.36, 0.52, 0.2)
    pen.rectangle(BODY, -0.9, 0.85 - 2 * tall, 0.9, 0.85)
    for width, y in ((0.52, -0.36), (0.9, 0.85 - 2 * tall)):
        pen.rectangle(LIGHT, -width - 0.03, y - 0.06, width + 0.03, y + 0.1)
        drips = round(width * 6)
        for drip in range(drips):
            x = -width + (drip + 0.5) * 2 * width / drips
            pen.ellipse(LIGHT, x, y + 0.1, width / drips * 0.9, pen.vary(0.05, 0.16))
    pen.rectangle(PALE, -1.0, 0.83, 1.0, 0.93)


DRAWINGS = {
    "tree": tree,
    "flower": flower,
    "cactus": cactus,
    "mushroom": mushroom,
    "banana": banana,
    "carrot": carrot,
    "cake": cake,
}
