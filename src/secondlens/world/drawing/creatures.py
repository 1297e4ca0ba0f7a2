"""Bird, fish, butterfly, snake and turtle."""

from secondlens.world.drawing.pen import BODY, DARK, FLAME, LIGHT, PALE, SHADE, Pen


def bird(pen: Pen) -> None:
    """Perched, from the side: round breast, pointed beak, folded wing, tail, thin legs."""
    tail, head = pen.vary(-0.1, 0.25), pen.vary(-0.06, 0.06)
    for x in (-0.05, 0.14):
        pen.stroke(FLAME, ((x, 0.5), (x + 0.04, 0.9)), 0.06)
        pen.stroke(FLAME, ((x - 0.06, 0.92), (x + 0.2, 0.92)), 0.06)
    pen.polygon(SHADE, ((-0.4, 0.05), (-1.05, tail + 0.08), (-1.0, tail + 0.32), (-0.35, 0.4)))
    pen.polygon(FLAME, ((0.7, -0.55 + head), (1.1, -0.38 + head), (0.7, -0.26 + head)))
    pen.blob(BODY, ((-0.6, 0.15), (-0.2, -0.2), (0.2, -0.4), (0.55, -0.1), (0.5, 0.4), (0.1, 0.65), (-0.35, 0.5)))
    pen.ellipse(BODY, 0.45, -0.42 + head, 0.33, 0.31)
    pen.ellipse(LIGHT, 0.34, 0.2, 0.2, 0.28, 15)
    pen.blob(SHADE, ((-0.75, 0.3), (-0.3, -0.12), (0.15, -0.12), (0.16, 0.2), (-0.2, 0.4)))
    pen.eye(0.53, -0.48 + head, 0.065)


def fish(pen: Pen) -> None:
    """From the side: an oval with a forked tail and fins."""
    height, tail = pen.vary(0.42, 0.6), pen.vary(0.38, 0.55)
    pen.polygon(SHADE, ((-0.5, 0.0), (-1.0, -tail), (-0.84, 0.0), (-1.0, tail)))
    pen.polygon(SHADE, ((-0.25, -height * 0.8), (0.1, -height - 0.25), (0.4, -height * 0.75)))
    pen.polygon(SHADE, ((-0.1, height * 0.8), (-0.2, height + 0.2), (0.25, height * 0.85)))
    pen.blob(
        BODY,
        (
            (-0.62, 0.0),
            (-0.2, -height * 0.85),
            (0.35, -height),
            (0.8, -height * 0.5),
            (1.0, 0.02),
            (0.8, height * 0.5),
            (0.35, height),
            (-0.2, height * 0.85),
        ),
    )
    pen.stroke(SHADE, ((0.46, -height * 0.7), (0.36, 0.0), (0.46, height * 0.7)), 0.06)
    pen.polygon(LIGHT, ((0.2, 0.02), (-0.12, -0.1), (-0.12, 0.24)))
    pen.eye(0.7, -0.12, 0.08)
    pen.stroke(DARK, ((0.95, 0.14), (0.8, 0.18)), 0.05)


def butterfly(pen: Pen) -> None:
    """From above: four wings around a thin dark body."""
    upper, lower, open_ = pen.vary(0.85, 1.0), pen.vary(0.55, 0.75), pen.vary(0.8, 1.0)
    for side in (-open_, open_):
        pen.blob(
            BODY,
            (
                (0, -0.05),
                (side * 0.35, -0.75 * upper),
                (side * 0.9, -0.9 * upper),
                (side * 1.0, -0.4),
                (side * 0.6, 0.05),
            ),
        )
        pen.blob(
            SHADE, ((0, 0.05), (side * 0.6, 0.0), (side * 0.8, 0.4), (side * 0.55, 0.3 + lower), (side * 0.2, 0.6))
        )
        pen.ellipse(PALE, side * 0.68, -0.52 * upper, 0.15)
        pen.ellipse(PALE, side * 0.5, 0.45, 0.12)
        pen.stroke(DARK, ((0, -0.4), (side * 0.16, -0.75), (side * 0.3, -0.92)), 0.045)
        pen.ellipse(DARK, side * 0.3, -0.94, 0.05)
    pen.ellipse(DARK, 0, 0.08, 0.09, 0.52)
    pen.ellipse(DARK, 0, -0.45, 0.12)


def snake(pen: Pen) -> None:
    """A thick body winding to and fro, thin at the tail, with a lifted head and a forked tongue."""
    wide, low = pen.vary(0.6, 0.8), pen.vary(0.75, 0.9)
    line = [(0.95, low), (0.3, low + 0.05), (-0.5, low), (-wide - 0.1, low * 0.66), (-0.4, low * 0.36)]
    line += [(0.35, low * 0.3), (wide + 0.1, -0.08), (0.4, -0.38), (-0.15, -0.44), (-0.4, -0.75)]
    x, y = -0.12, pen.vary(-1.0, -0.88)
    for fork in (-0.08, 0.08):
        pen.stroke(DARK, ((x + 0.2, y), (x + 0.46, y), (x + 0.6, y + fork)), 0.06)
    pen.stroke(BODY, [*line, (x, y)][::-1], 0.34, 0.12)
    pen.ellipse(BODY, x + 0.02, y, 0.3, 0.22)
    pen.eye(x + 0.1, y - 0.06, 0.065)


def turtle(pen: Pen) -> None:
    """From the side: a domed shell with a rim over a paler head, feet and tail."""
    neck, dome = pen.vary(0.0, 0.22), pen.vary(0.65, 0.8)
    pen.polygon(LIGHT, ((-0.7, 0.25), (-1.02, 0.52), (-0.6, 0.46)))
    for x in (-0.5, 0.4):
        pen.stroke(LIGHT, ((x, 0.35), (x + 0.02, 0.58)), 0.26)
        pen.ellipse(LIGHT, x + 0.07, 0.64, 0.2, 0.1)
    pen.stroke(LIGHT, ((0.5, 0.35), (0.75, 0.3), (0.98, neck)), 0.22)
    pen.ellipse(LIGHT, 1.06, neck - 0.02, 0.22, 0.18)
    pen.blob(
        BODY,
        (
            (-0.85, 0.4),
            (-0.72, -0.05),
            (-0.35, 0.35 - dome),
            (0.0, 0.27 - dome),
            (0.35, 0.35 - dome),
            (0.66, -0.05),
            (0.78, 0.4),
        ),
    )
    for x in (-0.32, 0.3):
        pen.stroke(SHADE, ((x * 0.7, 0.38 - dome), (x * 1.3, 0.0), (x * 1.2, 0.4)), 0.05)
    pen.stroke(SHADE, ((-0.86, 0.4), (0.78, 0.4)), 0.15)
    pen.eye(1.12, neck - 0.07, 0.045)


DRAWINGS = {"bird": bird, "fish": fish, "butterfly": butterfly, "snake": snake, "turtle": turtle}
