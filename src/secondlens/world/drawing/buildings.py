"""House, castle and lighthouse."""

from secondlens.world.drawing.pen import BEAM, BODY, DARK, FLAME, GLASS, METAL, PALE, SHADE, WOOD, Pen


def house(pen: Pen) -> None:
    """Walls under a wide pointed roof, with a door, a window and a chimney."""
    roof, wide = pen.vary(-0.95, -0.8), pen.vary(0.72, 0.82)
    chimney = pen.random.choice((-1, 1)) * pen.vary(0.35, 0.5)
    pen.rectangle(SHADE, chimney - 0.11, roof + 0.02, chimney + 0.11, -0.2)
    pen.rectangle(BODY, -wide, -0.12, wide, 0.9)
    pen.polygon(DARK, ((-1.0, -0.05), (0, roof), (1.0, -0.05)))
    pen.polygon(SHADE, ((-0.86, -0.09), (0, roof + 0.12), (0.86, -0.09)))
    door = pen.random.choice((-0.35, 0.35))
    pen.rectangle(WOOD, door - 0.17, 0.3, door + 0.17, 0.9)
    pen.rectangle(PALE, -door - 0.23, 0.16, -door + 0.23, 0.58)
    pen.rectangle(GLASS, -door - 0.17, 0.22, -door + 0.17, 0.52)
    pen.rectangle(PALE, -door - 0.03, 0.18, -door + 0.03, 0.56)


def castle(pen: Pen) -> None:
    """Two towers with battlements around a lower wall with a gate, and a flag."""
    tower, wall = pen.vary(-0.7, -0.5), pen.vary(-0.15, 0.05)
    pen.stroke(METAL, ((0.68, tower - 0.1), (0.68, tower - 0.55)), 0.05)
    pen.polygon(FLAME, ((0.68, tower - 0.56), (0.32, tower - 0.43), (0.68, tower - 0.3)))
    pen.rectangle(BODY, -0.6, wall, 0.6, 0.95)
    for x in (-0.3, 0.0, 0.3):
        pen.rectangle(BODY, x - 0.08, wall - 0.16, x + 0.08, wall)
    for side in (-1, 1):
        x = side * 0.68
        pen.rectangle(BODY, x - 0.27, tower, x + 0.27, 0.95)
        for merlon in (-0.24, 0.0, 0.24):
            pen.rectangle(BODY, x + merlon - 0.09, tower - 0.18, x + merlon + 0.09, tower + 0.02)
        pen.rectangle(SHADE, x - 0.3, tower, x + 0.3, tower + 0.1)
        pen.rectangle(DARK, x - 0.06, tower + 0.3, x + 0.06, tower + 0.58)
    pen.rectangle(DARK, -0.2, 0.5, 0.2, 0.95)
    pen.ellipse(DARK, 0, 0.5, 0.2)


def lighthouse(pen: Pen) -> None:
    """A tall tapering tower with a lamp room on a rock, its beams to both sides."""
    base, beam = pen.vary(0.3, 0.38), pen.vary(0.7, 0.95)
    for side in (-1, 1):
        pen.polygon(BEAM, ((side * 0.1, -0.74), (side * beam, -0.96), (side * beam, -0.48), (side * 0.1, -0.62)))
    pen.blob(METAL, ((-0.7, 1.0), (-0.5, 0.8), (0.0, 0.74), (0.55, 0.8), (0.72, 1.0)))
    pen.polygon(BODY, ((-0.2, -0.48), (0.2, -0.48), (base, 0.86), (-base, 0.86)))
    pen.rectangle(DARK, -0.32, -0.54, 0.32, -0.44)
    pen.rectangle(FLAME, -0.16, -0.82, 0.16, -0.54)
    pen.rectangle(DARK, -0.02, -0.82, 0.02, -0.54)
    pen.polygon(SHADE, ((-0.27, -0.8), (0, -1.06), (0.27, -0.8)))
    for y in (-0.2, 0.2):
        pen.rectangle(DARK, -0.05, y, 0.05, y + 0.15)
    pen.rectangle(DARK, -0.09, 0.62, 0.09, 0.86)


DRAWINGS = {"house": house, "castle": castle, "lighthouse": lighthouse}
