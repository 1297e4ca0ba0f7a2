"""From a scene to pixels: supersampled, antialiased, with exact masks of what is visible.

1. Each thing is drawn as flat polygons into a tile of *paint numbers*, three samples a pixel and side; where its
   texture shows, the body's number changes; a dark outline sets it off from any background.
2. Tiles are laid over each other, lower (nearer) things last, as numbers `32 (thing + 1) + paint`: one canvas knows
   both the colour and the owner of every sample.
3. Colours are looked up, averaged over a pixel's samples and blended with the background by coverage. A thing's mask
   are the pixels of which it shows at least half.
4. Light falls off linearly across the picture; noise is added last.
"""

import math
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from multiprocessing import get_context
from random import Random

import numpy as np
from PIL import Image, ImageDraw

from secondlens.errors import WorldError
from secondlens.world.drawing import shapes
from secondlens.world.drawing.backgrounds import backdrop
from secondlens.world.drawing.paint import palette_block, texture
from secondlens.world.drawing.pen import BODY, OUTLINE, TEXTURED
from secondlens.world.scene import Scene, SceneObject

SAMPLES = 3
"""Samples a pixel's side."""

_GRADIENT = 0.12
"""The light changes by this fraction from the centre to the edge."""


@dataclass(frozen=True)
class Rendered:
    """A picture and where its things are.

    image: [height, width, 3], uint8. masks: [object, height, width], bool, visible pixels in the order of the scene.
    """

    image: np.ndarray
    masks: np.ndarray


def render(scene: Scene, size: int = 64) -> Rendered:
    """Draw a scene, `size` pixels a side. The same scene and size give the same pixels."""
    if not 16 <= size <= 1024:
        raise WorldError(f"pictures are 16 to 1024 pixels a side; got {size}")
    side = size * SAMPLES
    canvas = np.zeros((side, side), dtype=np.uint8)
    palette = np.zeros((256, 3), dtype=np.uint8)
    order = sorted(range(len(scene.objects)), key=lambda index: scene.objects[index].y + scene.objects[index].scale / 2)
    for index in order:
        thing, base = scene.objects[index], 32 * (index + 1)
        palette[base : base + 32] = palette_block(thing.colour, thing.detail)
        _lay(canvas, thing, base)
    numbers = Image.fromarray(canvas)
    numbers.putpalette(palette.tobytes())
    painted = np.asarray(numbers.convert("RGB").reduce(SAMPLES), dtype=np.float32)
    owner = canvas >> 5
    coverage = np.stack([_coverage(owner == index + 1) for index in range(len(scene.objects))])
    clear = 1 - np.minimum(coverage.sum(0, dtype=np.float32) / 255, 1)
    picture = backdrop(scene.background, scene.seed, size) * clear[..., None] + painted
    across, down = _ramps(size)
    light = _GRADIENT * (math.cos(scene.light_angle) * across + math.sin(scene.light_angle) * down) + 1
    picture *= (scene.light * light)[..., None]
    if scene.noise > 0:
        picture += _noise(scene.seed, size) * np.float32(scene.noise * 255)
    return Rendered(np.clip(picture + 0.5, 0, 255).astype(np.uint8), coverage >= 128)


def render_many(scenes: Iterable[Scene], size: int = 64, workers: int = 1, chunk: int = 64) -> Iterator[Rendered]:
    """Pictures of many scenes, in order, drawn by `workers` processes."""
    if workers <= 1:
        yield from (render(scene, size) for scene in scenes)
        return
    rest = iter(scenes)
    # Fresh processes: a copy of one that runs torch's threads could hang.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(_batch, batch, size) for batch in islice(_chunks(rest, chunk), 2 * workers)]
        while waiting:
            images, masks = waiting.pop(0).result()
            waiting += [pool.submit(_batch, batch, size) for batch in islice(_chunks(rest, chunk), 1)]
            yield from (Rendered(image, mask) for image, mask in zip(images, masks, strict=True))


def _chunks(scenes: Iterator[Scene], length: int) -> Iterator[list[Scene]]:
    while batch := list(islice(scenes, length)):
        yield batch


def _batch(scenes: list[Scene], size: int) -> tuple[np.ndarray, list[np.ndarray]]:
    drawn = [render(scene, size) for scene in scenes]
    return np.stack([one.image for one in drawn]), [one.masks for one in drawn]


def _lay(canvas: np.ndarray, thing: SceneObject, base: int) -> None:
    """Lay one thing over the canvas."""
    side = len(canvas)
    paints, ends, points = shapes(thing.noun, thing.detail)
    turn = math.radians(thing.angle)
    c, s, length = math.cos(turn), math.sin(turn), thing.scale * side
    mirror = -1 if thing.flip else 1
    placed = points @ (np.array([[mirror * c, mirror * s], [-s, c]]) * length) + (thing.x * side, thing.y * side)
    edge = max(1, round(side * 0.009))
    low, high = np.floor(placed.min(0)).astype(int) - edge - 1, np.ceil(placed.max(0)).astype(int) + edge + 2
    x0, y0 = max(0, low[0]), max(0, low[1])
    x1, y1 = min(side, high[0]), min(side, high[1])
    if x0 >= x1 or y0 >= y1:
        return
    tile = Image.new("L", (int(x1 - x0), int(y1 - y0)))
    draw = ImageDraw.Draw(tile)
    flat = (placed - (x0, y0)).ravel().tolist()
    start = 0
    for paint, end in zip(paints, ends, strict=True):
        draw.polygon(flat[2 * start : 2 * end], fill=paint)
        start = end
    numbers = np.array(tile)
    if thing.texture != "plain":
        numbers[(numbers == BODY) & _pattern(thing, side, numbers.shape)] = BODY + TEXTURED
    inside = numbers > 0
    spread = _grown(inside, edge)
    numbers[spread & ~inside] = OUTLINE
    np.copyto(canvas[y0:y1, x0:x1], numbers + np.uint8(base), where=spread)


def _pattern(thing: SceneObject, side: int, shape: tuple[int, ...]) -> np.ndarray:
    """Where the texture's second colour shows on a tile."""
    random = Random(thing.detail ^ 0x7E87)
    period = round(0.1 * (0.75 + 0.5 * thing.scale) * side)
    pattern = texture(thing.texture, period, random.randrange(8), side + 2 * period)
    x, y = random.randrange(period), random.randrange(period)
    return pattern[y : y + shape[0], x : x + shape[1]]


def _grown(inside: np.ndarray, edge: int) -> np.ndarray:
    """A mask grown by `edge` pixels."""
    for _ in range(edge):
        grown = inside.copy()
        grown[1:] |= inside[:-1]
        grown[:-1] |= inside[1:]
        grown[:, 1:] |= inside[:, :-1]
        grown[:, :-1] |= inside[:, 1:]
        inside = grown
    return inside


def _coverage(owned: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(owned.view(np.uint8) * np.uint8(255)).reduce(SAMPLES))


@lru_cache(maxsize=16)
def _ramps(size: int) -> tuple[np.ndarray, np.ndarray]:
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    return np.broadcast_to(ramp, (size, size)), np.broadcast_to(ramp[:, None], (size, size))


@lru_cache(maxsize=4)
def _noise_pool(size: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((size * 5, size * 5, 3), dtype=np.float32)


def _noise(seed: int, size: int) -> np.ndarray:
    """Standard normal noise, cut from one pool: the same seed, the same noise."""
    random, pool = Random(seed ^ 0x015E), _noise_pool(size)
    x, y = random.randrange(4 * size), random.randrange(4 * size)
    return pool[y : y + size, x : x + size]
