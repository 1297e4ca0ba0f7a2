"""Cat, dog, rabbit, elephant and giraffe."""

from secondlens.world.drawing.pen import BODY, DARK, LIGHT, PALE, SHADE, Pen


def cat(pen: Pen) -> None:
    """Sitting, seen from the front: pointed ears, whiskers, a tail curled up at the side."""
    fat, lift = pen.vary(0.9, 1.15), pen.vary(0, 0.25)
    pen.stroke(BODY, ((0.35, 0.85), (0.85, 0.8), (0.95, 0.35 - lift), (0.75, 0.05 - lift)), 0.2, 0.14)
    pen.blob(
        BODY,
        (
            (-0.3 * fat, -0.1),
            (-0.5 * fat, 0.55),
            (-0.5 * fat, 0.98),
            (0.5 * fat, 0.98),
            (0.5 * fat, 0.55),
            (0.3 * fat, -0.1),
        ),
    )
    pen.ellipse(LIGHT, 0, 0.5, 0.22 * fat, 0.32)
    for side in (-1, 1):
        pen.polygon(BODY, ((side * 0.55, -1.0), (side * 0.06, -0.66), (side * 0.54, -0.34)))
        pen.polygon(SHADE, ((side * 0.46, -0.84), (side * 0.24, -0.66), (side * 0.46, -0.54)))
        pen.ellipse(SHADE, side * 0.24, 0.93, 0.17, 0.09)
    pen.ellipse(BODY, 0, -0.38, 0.56, 0.42)
    for side in (-1, 1):
        pen.ellipse(PALE, side * 0.23, -0.44, 0.12, 0.13)
        pen.ellipse(DARK, side * 0.23, -0.44, 0.06, 0.12)
        for slope in (-0.08, 0.04):
            pen.stroke(DARK, ((side * 0.2, -0.2), (side * 0.72, -0.2 + slope)), 0.03)
    pen.polygon(DARK, ((-0.07, -0.28), (0.07, -0.28), (0, -0.19)))


def dog(pen: Pen) -> None:
    """Standing, from the side: long muzzle, hanging ear, raised tail."""
    leg, tail, head = pen.vary(0.42, 0.6), pen.vary(-0.75, -0.4), pen.vary(-0.08, 0.06)
    stride = pen.vary(-0.1, 0.1)
    low = 0.2 + leg
    pen.stroke(BODY, ((-0.7, -0.05), (-0.95, -0.3), (-1.0, tail)), 0.16, 0.08)
    for x, shift in ((-0.5, -stride), (0.3, stride)):
        pen.stroke(SHADE, ((x + 0.14, 0.15), (x + 0.14 + shift, low)), 0.17)
    pen.blob(
        BODY,
        ((-0.78, 0.0), (-0.6, -0.22), (0.1, -0.2), (0.55, -0.25), (0.6, 0.15), (0.3, 0.38), (-0.3, 0.26), (-0.7, 0.32)),
    )
    for x, shift in ((-0.62, stride), (0.38, -stride)):
        pen.stroke(BODY, ((x, 0.1), (x + shift, low)), 0.2)
        pen.ellipse(SHADE, x + shift + 0.06, low + 0.03, 0.14, 0.08)
    pen.stroke(BODY, ((0.45, 0.0), (0.62, -0.45 + head)), 0.36)
    pen.ellipse(BODY, 0.66, -0.55 + head, 0.29, 0.27)
    pen.stroke(BODY, ((0.75, -0.45 + head), (1.05, -0.4 + head)), 0.3, 0.22)
    pen.ellipse(DARK, 1.14, -0.47 + head, 0.085)
    pen.blob(
        SHADE,
        ((0.44, -0.84 + head), (0.68, -0.78 + head), (0.64, -0.3 + head), (0.46, 0.02 + head), (0.28, -0.15 + head)),
    )
    pen.eye(0.82, -0.6 + head, 0.06)


def rabbit(pen: Pen) -> None:
    """Crouching, from the side: two long upright ears, a round back, a ball of a tail."""
    ears, spread = pen.vary(0.62, 0.85), pen.vary(0.05, 0.2)
    pen.ellipse(PALE, -0.85, 0.5, 0.2)
    pen.blob(BODY, ((-0.8, 0.55), (-0.68, 0.0), (-0.2, -0.22), (0.3, 0.05), (0.5, 0.45), (0.45, 0.88), (-0.6, 0.9)))
    for lean, paint in ((-spread, SHADE), (spread * 0.4, BODY)):
        pen.stroke(paint, ((0.45, -0.4), (0.42 + lean, -0.4 - ears)), 0.2, 0.17)
    pen.stroke(LIGHT, ((0.45, -0.5), (0.42 + spread * 0.4, -0.4 - ears)), 0.08)
    pen.ellipse(BODY, 0.5, -0.2, 0.36, 0.3)
    pen.ellipse(LIGHT, 0.7, -0.1, 0.16, 0.13)
    pen.eye(0.58, -0.28, 0.07)
    pen.ellipse(DARK, 0.86, -0.17, 0.05)
    pen.ellipse(SHADE, -0.35, 0.52, 0.36, 0.34)
    pen.ellipse(BODY, -0.28, 0.86, 0.36, 0.11)
    pen.ellipse(BODY, 0.42, 0.85, 0.24, 0.1)


def elephant(pen: Pen) -> None:
    """From the side: great body on four pillars, large ear, trunk, tusk."""
    swing, leg = pen.vary(-0.05, 0.3), pen.vary(0.75, 0.9)
    pen.stroke(SHADE, ((-0.85, -0.2), (-0.98, 0.3)), 0.07)
    for x in (-0.4, 0.22):
        pen.rectangle(SHADE, x - 0.13, 0.1, x + 0.13, leg)
    pen.blob(
        BODY,
        ((-0.9, 0.05), (-0.75, -0.5), (-0.2, -0.66), (0.35, -0.55), (0.5, 0.0), (0.3, 0.4), (-0.3, 0.42), (-0.85, 0.4)),
    )
    for x in (-0.7, 0.02):
        pen.rectangle(BODY, x - 0.16, 0.1, x + 0.16, leg + 0.06)
        pen.rectangle(PALE, x - 0.13, leg - 0.02, x + 0.13, leg + 0.06)
    pen.stroke(BODY, ((0.8, -0.3), (1.0, 0.1), (0.98, 0.5), (0.98 + swing, 0.78)), 0.36, 0.15)
    pen.ellipse(BODY, 0.62, -0.36, 0.4, 0.4)
    pen.stroke(PALE, ((0.72, 0.02), (0.85, 0.3), (1.22, 0.3)), 0.11, 0.04)
    pen.blob(SHADE, ((0.48, -0.62), (0.2, -0.74), (-0.02, -0.35), (0.12, 0.1), (0.4, -0.02)))
    pen.eye(0.72, -0.42, 0.055)


def giraffe(pen: Pen) -> None:
    """From the side: a very long neck, thin legs, a small head with horns."""
    neck, lean, leg = pen.vary(-0.95, -0.75), pen.vary(0.3, 0.5), pen.vary(0.9, 1.0)
    for x in (-0.28, 0.2):
        pen.stroke(SHADE, ((x, 0.3), (x, leg)), 0.1)
    pen.stroke(SHADE, ((-0.45, 0.1), (-0.6, 0.45)), 0.06)
    pen.blob(BODY, ((-0.5, 0.15), (-0.4, -0.02), (0.05, -0.12), (0.36, -0.1), (0.34, 0.3), (0.0, 0.42), (-0.45, 0.42)))
    for x in (-0.4, 0.28):
        pen.stroke(BODY, ((x, 0.25), (x, leg)), 0.13)
        pen.rectangle(DARK, x - 0.08, leg - 0.02, x + 0.08, leg + 0.08)
    tip = lean + 0.1
    pen.stroke(BODY, ((0.18, 0.1), (lean - 0.05, -0.4), (tip, neck)), 0.36, 0.17)
    for horn in (-0.06, 0.06):
        pen.stroke(DARK, ((tip + horn, neck), (tip + horn - 0.03, neck - 0.24)), 0.06)
    pen.ellipse(SHADE, tip - 0.16, neck - 0.06, 0.11, 0.06, 20)
    pen.ellipse(BODY, tip + 0.12, neck + 0.02, 0.25, 0.13, 18)
    pen.ellipse(LIGHT, tip + 0.28, neck + 0.08, 0.1, 0.09)
    pen.ellipse(DARK, tip + 0.06, neck - 0.03, 0.045)
    for _ in range(5):
        y = pen.vary(-0.6, 0.1)
        pen.ellipse(SHADE, 0.24 + (lean - 0.2) * max(0.0, -y), y, 0.05)


DRAWINGS = {"cat": cat, "dog": dog, "rabbit": rabbit, "elephant": elephant, "giraffe": giraffe}
