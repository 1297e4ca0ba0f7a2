"""Hammer, scissors, key, umbrella, ball and chair."""

import math

from secondlens.world.drawing.pen import BODY, DARK, METAL, PALE, SHADE, WOOD, Pen


def hammer(pen: Pen) -> None:
    """A heavy head with a bent claw across a wooden handle."""
    head, claw = pen.vary(0.2, 0.26), pen.vary(0.25, 0.42)
    pen.stroke(WOOD, ((0, -0.5), (0, 0.95)), 0.19, 0.25)
    pen.stroke(BODY, ((0.2, -0.64), (0.62, -0.68), (0.88, -0.55), (1.0, -0.6 + claw)), head * 1.5, 0.1)
    pen.rectangle(BODY, -0.3, -0.64 - head, 0.3, -0.64 + head)
    pen.rectangle(BODY, -0.5, -0.64 - head * 0.7, -0.25, -0.64 + head * 0.7)
    pen.rectangle(SHADE, -0.82, -0.64 - head * 1.25, -0.46, -0.64 + head * 1.25)
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
    """From the front and above: a back with slats, a seat and four long legs."""
    back, leg, lean = pen.vary(-1.0, -0.9), pen.vary(0.85, 1.0), pen.vary(0.04, 0.16)
    for x in (-0.3, 0.32):
        pen.rectangle(SHADE, x + lean - 0.07, 0.1, x + lean + 0.07, leg - 0.25)
    left, right = -0.42 + lean, 0.42 + lean
    for x in (left, right):
        pen.stroke(BODY, ((x, back), (x - lean * 0.3, -0.05)), 0.16)
    pen.rectangle(BODY, left, back - 0.03, right, back + 0.25)
    pen.rectangle(BODY, left, back + 0.42, right, back + 0.6)
    pen.polygon(BODY, ((left - 0.08, -0.14), (right + 0.08, -0.14), (0.6, 0.14), (-0.6, 0.14)))
    pen.rectangle(SHADE, -0.62, 0.12, 0.62, 0.25)
    for x in (-0.53, 0.53):
        pen.rectangle(BODY, x - 0.09, 0.24, x + 0.09, leg)


DRAWINGS = {"hammer": hammer, "scissors": scissors, "key": key, "umbrella": umbrella, "ball": ball, "chair": chair}
