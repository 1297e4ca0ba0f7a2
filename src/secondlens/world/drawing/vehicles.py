"""Car, boat, airplane, train, bicycle and rocket."""

import math

from secondlens.world.drawing.pen import BODY, DARK, FLAME, GLASS, LIGHT, METAL, PALE, SHADE, WOOD, Pen


def _wheel(pen: Pen, x: float, y: float, radius: float) -> None:
    pen.ring(DARK, METAL, x, y, radius, radius * 0.5)


def car(pen: Pen) -> None:
    """From the side: cabin with two windows on a long body, two wheels."""
    roof, back = pen.vary(-0.62, -0.45), pen.vary(-0.75, -0.5)
    pen.polygon(BODY, ((back, -0.05), (back + 0.22, roof), (0.25, roof), (0.6, -0.05)))
    pen.polygon(GLASS, ((back + 0.13, -0.05), (back + 0.28, roof + 0.1), (-0.12, roof + 0.1), (-0.12, -0.05)))
    pen.polygon(GLASS, ((-0.02, -0.05), (-0.02, roof + 0.1), (0.2, roof + 0.1), (0.44, -0.05)))
    pen.blob(
        BODY,
        (
            (-0.98, -0.02),
            (-0.5, -0.1),
            (0.5, -0.1),
            (0.92, 0.02),
            (1.02, 0.38),
            (0.4, 0.42),
            (-0.4, 0.42),
            (-1.0, 0.38),
        ),
    )
    pen.stroke(SHADE, ((-0.96, 0.36), (0.98, 0.36)), 0.09)
    pen.ellipse(FLAME, 0.93, 0.13, 0.08)
    for x in (-0.55, 0.55):
        _wheel(pen, x, 0.4, 0.25)


def boat(pen: Pen) -> None:
    """A hull under a mast with two sails."""
    height, belly = pen.vary(-1.0, -0.85), pen.vary(0.55, 0.75)
    pen.stroke(WOOD, ((-0.02, 0.5), (-0.02, height)), 0.08)
    pen.polygon(PALE, ((0.06, height + 0.05), (belly + 0.1, 0.3), (0.06, 0.3)))
    pen.polygon(LIGHT, ((-0.1, height + 0.2), (-belly, 0.3), (-0.1, 0.3)))
    pen.polygon(BODY, ((-0.95, 0.4), (1.0, 0.4), (0.62, 0.98), (-0.6, 0.98)))
    pen.polygon(SHADE, ((-0.98, 0.38), (1.04, 0.38), (0.98, 0.5), (-0.92, 0.5)))


def airplane(pen: Pen) -> None:
    """Seen from above and behind the wing: fuselage, swept wings, tail."""
    sweep, span = pen.vary(0.25, 0.45), pen.vary(0.8, 0.95)
    pen.polygon(SHADE, ((0.25, -0.08), (0.0, -0.08), (-sweep - 0.05, -span), (-sweep + 0.18, -span)))
    pen.polygon(BODY, ((-0.7, -0.05), (-1.0, -0.42), (-0.82, -0.42), (-0.4, -0.05)))
    pen.polygon(SHADE, ((-0.7, 0.05), (-1.0, 0.36), (-0.84, 0.36), (-0.45, 0.05)))
    pen.blob(
        BODY,
        (
            (-1.0, -0.04),
            (-0.5, -0.17),
            (0.6, -0.18),
            (0.92, -0.1),
            (1.05, 0.03),
            (0.85, 0.14),
            (0.0, 0.19),
            (-0.6, 0.13),
        ),
    )
    pen.polygon(BODY, ((0.35, 0.04), (-0.05, 0.04), (-sweep - 0.1, span), (-sweep + 0.2, span)))
    for x in (-0.4, -0.2, 0.0, 0.2, 0.4):
        pen.ellipse(GLASS, x + 0.05, -0.06, 0.055)
    pen.polygon(GLASS, ((0.68, -0.1), (0.88, -0.07), (0.92, 0.02), (0.68, 0.02)))


def train(pen: Pen) -> None:
    """A steam engine from the side: boiler, chimney with smoke, cab, three wheels."""
    chimney, puffs = pen.vary(-0.75, -0.6), pen.random.choice((1, 2, 2))
    for puff in range(puffs):
        pen.ellipse(PALE, 0.55 - 0.25 * puff, chimney - 0.14 - 0.06 * puff, 0.16 + 0.05 * puff, 0.13)
    pen.polygon(DARK, ((0.44, -0.15), (0.38, chimney), (0.74, chimney), (0.68, -0.15)))
    pen.ellipse(FLAME, 0.14, -0.28, 0.12, 0.14)
    pen.rectangle(BODY, -0.3, -0.25, 0.86, 0.32)
    pen.ellipse(BODY, 0.86, 0.035, 0.14, 0.285)
    pen.rectangle(BODY, -0.95, -0.6, -0.28, 0.36)
    pen.rectangle(GLASS, -0.8, -0.46, -0.42, -0.12)
    pen.rectangle(DARK, -1.02, -0.72, -0.2, -0.56)
    pen.rectangle(SHADE, -0.98, 0.28, 0.98, 0.44)
    pen.polygon(DARK, ((0.92, 0.3), (1.16, 0.66), (0.86, 0.66)))
    for x, radius in ((-0.6, 0.29), (0.06, 0.22), (0.58, 0.22)):
        _wheel(pen, x, 0.74 - radius, radius)


def bicycle(pen: Pen) -> None:
    """Two large wheels and a frame, saddle and handlebar."""
    r, seat = pen.vary(0.42, 0.48), pen.vary(-0.55, -0.42)
    for x in (-0.58, 0.58):
        pen.ring(BODY, 0, x, 0.35, r, 0.14)
        for turn in range(3):
            angle = math.radians(60 * turn + 20)
            dx, dy = (r - 0.1) * math.cos(angle), (r - 0.1) * math.sin(angle)
            pen.stroke(METAL, ((x - dx, 0.35 - dy), (x + dx, 0.35 + dy)), 0.035)
    crank, neck, post = (-0.05, 0.35), (0.42, -0.25), (-0.26, -0.2)
    for start, stop in (((-0.58, 0.35), crank), (crank, neck), (crank, post), (post, neck), ((-0.58, 0.35), post)):
        pen.stroke(BODY, (start, stop), 0.16)
    pen.stroke(BODY, ((0.58, 0.35), (0.36, -0.5)), 0.15)
    pen.stroke(BODY, (crank, (-0.3, seat + 0.06)), 0.13)
    pen.stroke(DARK, ((-0.48, seat), (-0.12, seat)), 0.15)
    pen.stroke(DARK, ((0.36, -0.5), (0.6, -0.6)), 0.11)
    pen.ellipse(DARK, *crank, 0.12)


def rocket(pen: Pen) -> None:
    """Upright: pointed nose, round window, fins, flames."""
    wide, flame = pen.vary(0.3, 0.38), pen.vary(0.85, 1.05)
    pen.polygon(
        FLAME,
        (
            (-0.22, 0.5),
            (-0.2, flame - 0.2),
            (-0.08, flame - 0.3),
            (0, flame),
            (0.08, flame - 0.3),
            (0.2, flame - 0.2),
            (0.22, 0.5),
        ),
    )
    for side in (-1, 1):
        pen.polygon(
            SHADE, ((side * wide * 0.8, 0.0), (side * 0.72, 0.5), (side * 0.72, 0.8), (side * wide * 0.6, 0.52))
        )
    pen.blob(
        BODY,
        (
            (0, -1.0),
            (wide * 0.75, -0.55),
            (wide, 0.0),
            (wide * 0.8, 0.55),
            (-wide * 0.8, 0.55),
            (-wide, 0.0),
            (-wide * 0.75, -0.55),
        ),
    )
    pen.polygon(SHADE, ((0, -1.03), (wide * 0.72, -0.58), (-wide * 0.72, -0.58)))
    pen.ring(PALE, GLASS, 0, -0.22, 0.2, 0.06)
    pen.rectangle(DARK, -0.2, 0.52, 0.2, 0.62)


DRAWINGS = {"car": car, "boat": boat, "airplane": airplane, "train": train, "bicycle": bicycle, "rocket": rocket}
