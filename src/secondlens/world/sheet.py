"""A sheet of scenes with their captions, to look at: python -m secondlens.world.sheet sheet.png [seed] [kind]."""

import sys
import textwrap
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from secondlens.world.captions import caption
from secondlens.world.render import render
from secondlens.world.sampler import scene_at
from secondlens.world.scene import Scene

_GAP = 8
_LINE = 11
_LINES = 4


def sheet(scenes: Sequence[Scene], columns: int = 8, side: int = 128, size: int = 64) -> Image.Image:
    """Scenes drawn at `size` pixels, shown at `side`, each over a caption."""
    font = ImageFont.load_default(size=10)
    wide, tall = side + _GAP, side + _GAP + _LINE * _LINES
    rows = -(-len(scenes) // columns)
    board = Image.new("RGB", (columns * wide + _GAP, rows * tall + _GAP), "white")
    pen = ImageDraw.Draw(board)
    for index, scene in enumerate(scenes):
        x, y = _GAP + index % columns * wide, _GAP + index // columns * tall
        picture = Image.fromarray(render(scene, size).image).resize((side, side), Image.Resampling.BICUBIC)
        board.paste(picture, (x, y))
        lines = textwrap.wrap(caption(scene, np.random.default_rng([scene.seed, index])), side * 5 // 26)[:_LINES]
        for number, line in enumerate(lines):
            pen.text((x, y + side + 1 + number * _LINE), line, fill="black", font=font)
    return board


def main() -> None:
    """Write a sheet of 64 scenes."""
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    kind = sys.argv[3] if len(sys.argv) > 3 else "biased"
    sheet([scene_at(seed, index, kind=kind) for index in range(64)]).save(sys.argv[1])


if __name__ == "__main__":
    main()
