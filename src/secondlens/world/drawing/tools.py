"""Hammer, scissors, key, umbrella, ball and chair."""

import math

from secondlens.world.drawing.pen import BODY, DARK, METAL, PALE, SHADE, WOOD, Pen


def hammer(pen: Pen) -> None:
    """A heavy head with a claw across a wooden handle."""
    head, claw = pen.vary(0.2, 0.26), pen.vary(0.2, 0.4)
    pen.stroke(WOOD, ((0, -0.5), (0, 0.95)), 0.19, 0.25)
    pen.polygon(BODY, ((-0.3, -0.62 - head), (0.3, -0.62 - head), (0.3, -0.62 + head), (-0.3, -0.62 + head)))
    pen.polygon(
        BODY, ((0.25, -0.58 - head), (0.92, -0.62 - claw * 0.2), (1.0, -0.55 + claw), (0.7, -0.5), (0.25, -0.6 + head))
    )
    pen.rectangle(BODY, -0.5, -0.62 - head * 0.7, -0.25, -0.62 + head * 0.7)
    pen.rectangle(SHADE, -0.78, -0.62 - head * 1.2, -0.46, -0.62 + head * 1.2)
    pen.rectangle(DARK, -0.13, 0.45, 0.13, 0.52)


def scissors(pen: Pen) -> None:
    """Open, points up: two blades and two large ring handles."""
    opening, r = pen.vary(0.25, 0.42), pen.vary(0.3, 0.36)
    for side in (-1, 1):
        pen.polygon(
            METAL,
            ((side * 0.12, 0.1), (-side * 0.12, 0.02), (-side * opening, -1.0), (-side * (opening - 0.28), -0.55)),
        )
    for side in (-1, 1):
        pen.stroke(BODY, ((-side * 0.02, -0.05), (side * 0.28, 0.45)), 0.2)
        pen.ring(BODY, 0, side * 0.42, 0.66, r, 0.15)
    pen.ellipse(DARK, 0, 0.02, 0.08)


def key(pen: Pen) -> None:
    """A large ring, a shaft and two teeth."""
    r, teeth = pen.vary(0.4, 0.46), pen.vary(0.3, 0.42)
    pen.rectangle(BODY, -0.2, -0.12, 1.0, 0.12)
    for x, depth in ((0.86, teeth), (0.52, teeth * pen.vary(0.7, 1.0))):
        pen.rectangle(BODY, x - 0.14, 0.0, x + 0.14, 0.12 + depth)
    pen.ring(BODY, 0, -0.56, 0, r, 0.2)
    pen.rectangle(SHADE, -0.18, -0.18, -0.05, 0.18)


def umbrella(pen: Pen) -> None:
    """Open: a scalloped dome over a stick with a hook."""
    dome, hook = pen.vary(-0.95, -0.82), pen.vary(0.14, 0.22)
    pen.stroke(WOOD, ((0, dome - 0.12), (0, 0.7)), 0.1)
    pen.stroke(WOOD, ((0, 0.65), (hook * 0.4, 0.92), (hook * 1.6, 0.92), (hook * 2, 0.7)), 0.1)
    rim = [(math.cos(math.pi * step / 12), -math.sin(math.pi * step / 12)) for step in range(13)]
    top = [(x, 0.05 - (0.05 - dome) * -y) for x, y in rim]
    scallop = []
    for arch in range(4):
        x0 = -1.0 + 0.5 * arch
        scallop += [(x0 + 0.12, -0.1), (x0 + 0.25, -0.15), (x0 + 0.38, -0.1), (x0 + 0.5, 0.05)]
    pen.polygon(BODY, top + scallop)
    for x in (-0.5, 0.0, 0.5):
        pen.stroke(SHADE, ((0, dome), (x * 0.8, dome * 0.55), (x, 0.02)), 0.04)


def ball(pen: Pen) -> None:
    """A beach ball: a disc with two bent seams and a shine."""
    bow = pen.vary(0.35, 0.6)
    pen.ellipse(BODY, 0, 0, 1.0)
    pen.stroke(SHADE, ((-0.55, -0.82), (-0.55 + bow, 0), (-0.55, 0.82)), 0.08)
    pen.stroke(SHADE, ((0.6, -0.8), (0.65 - bow, 0), (0.6, 0.8)), 0.08)
    pen.ellipse(PALE, -0.42, -0.5, 0.2, 0.13, -45)


def chair(pen: Pen) -> None:
    """From the side and front: a tall back, a seat and four legs."""
    back, leg = pen.vary(-1.0, -0.85), pen.vary(0.85, 1.0)
    for x in (-0.34, 0.64):
        pen.rectangle(SHADE, x - 0.07, 0.1, x + 0.07, leg - 0.14)
    for x in (-0.56, 0.44):
        pen.rectangle(BODY, x - 0.09, 0.1, x + 0.09, leg)
    pen.polygon(BODY, ((-0.66, back), (-0.18, back + 0.06), (-0.18, 0.0), (-0.66, 0.05)))
    pen.polygon(SHADE, ((-0.52, back + 0.2), (-0.32, back + 0.22), (-0.32, -0.2), (-0.52, -0.18)))
    pen.polygon(BODY, ((-0.66, 0.02), (-0.4, -0.14), (0.75, -0.14), (0.55, 0.02)))
    pen.rectangle(SHADE, -0.66, 0.02, 0.56, 0.2)


DRAWINGS = {"hammer": hammer, "scissors": scissors, "key": key, "umbrella": umbrella, "ball": ball, "chair": chair}
