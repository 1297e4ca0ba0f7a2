"""Drawing scenes by chance: with the table's biases, without any, or against them.

The first object is the scene's subject: its noun is uniform, and the background and the companions follow from it by
the table. Colour and texture follow from each object's own noun. Size, place, pose and light never depend on the noun.

    biased     as the table says
    unbiased   everything uniform and independent
    counter    uniform over what is left when no noun may have any of its planted cues (boat in the sand)
    swapped    each noun as the table would draw another one: a boat in the sand, green, because a cactus is
"""

from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

import numpy as np

from secondlens.errors import WorldError, closest
from secondlens.world.biases import Biases
from secondlens.world.scene import Scene, SceneObject
from secondlens.world.vocabulary import BACKGROUNDS, COLOURS, NOUNS, PROPERTIES, TEXTURES

KINDS = ("biased", "unbiased", "counter", "swapped")
"""Of scenes: with the table, without it, against it, and with the cues of another noun."""

COUNTS = (0.5, 0.35, 0.15)
"""Probability of 1, 2 and 3 objects where their number is left open."""

SCALES = {"small": (0.38, 0.44), "medium": (0.52, 0.6), "large": (0.7, 0.8)}
"""Longer side of an object by its size, as fractions of the image's side."""

_SIZES = {1: ("small", "medium", "large"), 2: ("small", "medium"), 3: ("small",)}
_TWO = (("left", "right"), ("right", "left"), ("top", "bottom"), ("bottom", "top"))
_THREE = (("left", "right", "top"), ("left", "right", "bottom"), ("top", "bottom", "left"), ("top", "bottom", "right"))


@lru_cache(maxsize=1)
def default_biases() -> Biases:
    """The table that comes with the package."""
    return Biases.load()


def sample_scene(
    rng: np.random.Generator,
    biases: Biases | None = None,
    objects: int | None = None,
    kind: str = "biased",
    *,
    nouns: Sequence[str | None] | None = None,
    background: str | None = None,
    colours: Sequence[str | None] | None = None,
    textures: Sequence[str | None] | None = None,
    sizes: Sequence[str | None] | None = None,
    places: Sequence[str | None] | None = None,
) -> Scene:
    """A random scene.

    biases: a table; without one the package's. objects: 1, 2 or 3; None draws the number. Everything after that fixes
    what would be drawn: the background, and by object, None where free, nouns (their number is that of the objects),
    colours, textures, sizes and places. Raises WorldError for unknown words.
    """
    if kind not in KINDS:
        raise WorldError(f"unknown kind of scene {kind!r}{closest(str(kind), KINDS)}")
    if objects is not None and objects not in (1, 2, 3):
        raise WorldError(f"a sampled scene has 1, 2 or 3 objects; got {objects}")
    if nouns is not None and not 1 <= len(nouns) <= 3:
        raise WorldError(f"a sampled scene has 1, 2 or 3 objects; got {len(nouns)} nouns")
    _check("noun", nouns or ())
    _check("background", [background])
    table = biases or default_biases()
    count = len(nouns) if nouns is not None else objects or 1 + bisect_right((0.5, 0.85), rng.random())
    for name, values in (("colour", colours), ("texture", textures), ("size", sizes), ("place", places)):
        if values is not None and len(values) != count:
            raise WorldError(f"one {name} an object, or None: expected {count}, got {len(values)}")
        _check(name, values or ())
    free = [None] * count
    shown = _nouns(rng, table, nouns or free, kind)
    likes = [_other(rng, table, noun) if kind == "swapped" else noun for noun in shown]
    setting = background or _background(rng, table, likes, kind)
    things = []
    spots = _spots(rng, count, places or free)
    for index, (noun, like) in enumerate(zip(shown, likes, strict=True)):
        colour = (colours or free)[index] or _value(rng, table, like, "colour", COLOURS, kind)
        pattern = (textures or free)[index] or _value(rng, table, like, "texture", TEXTURES, kind)
        size = (sizes or free)[index] or _pick(rng, _SIZES[count])
        things.append(_place(rng, noun, colour, pattern, size, spots[index]))
    return Scene(
        setting,
        tuple(things),
        light=round(0.88 + 0.24 * rng.random(), 4),
        light_angle=round(2 * np.pi * rng.random(), 4),
        noise=round(0.025 * rng.random(), 4),
        seed=int(rng.integers(2**31)),
    )


def scene_at(
    seed: int, index: int, biases: Biases | None = None, objects: int | None = None, kind: str = "biased"
) -> Scene:
    """Scene `index` of the endless series of a seed; each is drawn by itself, so order and gaps do not matter."""
    if seed < 0 or index < 0:
        raise WorldError(f"seed and index must not be negative; got {seed} and {index}")
    if kind not in KINDS:
        raise WorldError(f"unknown kind of scene {kind!r}{closest(str(kind), KINDS)}")
    return sample_scene(np.random.default_rng([seed, index, KINDS.index(kind)]), biases, objects, kind)


def _check(name: str, values: Sequence[str | None]) -> None:
    for value in values:
        if value is not None and value not in PROPERTIES[name]:
            raise WorldError(f"unknown {name} {value!r}{closest(str(value), PROPERTIES[name])}")


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.random() * len(options))]


def _by(rng: np.random.Generator, chances: dict[str, float]) -> str:
    sums = list(accumulate(chances.values()))
    at = bisect_right(sums, rng.random() * sums[-1])
    return list(chances)[min(at, len(sums) - 1)]


def _nouns(rng: np.random.Generator, table: Biases, wanted: Sequence[str | None], kind: str) -> list[str]:
    shown: list[str] = []
    for index, given in enumerate(wanted):
        taken = {*shown, *(noun for noun in wanted[index:] if noun)}
        others = [noun for noun in NOUNS if noun not in taken]
        if given:
            shown.append(given)
        elif kind == "biased" and shown:
            chances = {noun: p for noun, p in table.probabilities(shown[0], "companion").items() if noun in others}
            # A companion of probability 1 leaves nothing for a third object: then the others are equally probable.
            shown.append(_by(rng, chances if sum(chances.values()) > 0 else dict.fromkeys(others, 1.0)))
        else:
            if kind == "counter":
                others = [noun for noun in others if not any(_tied(table, noun, other) for other in taken)] or others
            shown.append(_pick(rng, others))
    return shown


def _tied(table: Biases, noun: str, other: str) -> bool:
    pairs = ((noun, other), (other, noun))
    return any(cue.word == second for first, second in pairs for cue in table.planted(first, "companion"))


def _other(rng: np.random.Generator, table: Biases, noun: str) -> str:
    """A noun with two or more planted looks or backgrounds, none of which is planted for the given one."""
    own = {(cue.kind, cue.word) for cue in table.planted(noun)}
    fitting = [other for other in NOUNS if len(looks := _looks(table, other)) >= 2 and not looks & own]
    return _pick(rng, fitting or [other for other in NOUNS if other != noun])


def _looks(table: Biases, noun: str) -> set[tuple[str, str]]:
    return {(cue.kind, cue.word) for cue in table.planted(noun) if cue.kind != "companion"}


def _background(rng: np.random.Generator, table: Biases, shown: list[str], kind: str) -> str:
    if kind in ("biased", "swapped"):
        return _by(rng, table.probabilities(shown[0], "background"))
    if kind == "counter":
        tied = {cue.word for noun in shown for cue in table.planted(noun, "background")}
        return _pick(rng, [value for value in BACKGROUNDS if value not in tied] or BACKGROUNDS)
    return _pick(rng, BACKGROUNDS)


def _value(rng: np.random.Generator, table: Biases, noun: str, name: str, options: Sequence[str], kind: str) -> str:
    if kind in ("biased", "swapped") and table.named(noun, name):
        return _by(rng, table.probabilities(noun, name))
    if kind == "counter":
        tied = {cue.word for cue in table.planted(noun, name)}
        return _pick(rng, [value for value in options if value not in tied] or options)
    return _pick(rng, options)


def _spots(rng: np.random.Generator, count: int, wanted: Sequence[str | None]) -> list[str]:
    """A place for each object; places asked for are kept, the others differ from them where they can."""
    if count == 1:
        return [wanted[0] or _pick(rng, PROPERTIES["place"])]
    layouts = _TWO if count == 2 else _THREE
    fitting = [layout for layout in layouts if all(place is None or place in layout for place in wanted)] or layouts
    layout = list(fitting[int(rng.random() * len(fitting))])
    order = rng.permutation(count)
    spare = [layout[index] for index in order if layout[index] not in wanted]
    return [place or spare.pop() for place in wanted]


def _place(rng: np.random.Generator, noun: str, colour: str, pattern: str, size: str, place: str) -> SceneObject:
    low, high = SCALES[size]
    scale = low + (high - low) * rng.random()
    # As near to the border as the whole thing fits, with a little room; free along the other axis, but near the middle.
    half = scale / 2
    room = max(0.0, 0.5 - half - 0.02)
    offset = max(room - 0.06 * rng.random(), 0.06)
    slide = (rng.random() - 0.5) * min(0.16, room)
    dx, dy = {
        "left": (-offset, slide),
        "right": (offset, slide),
        "top": (slide, -offset),
        "bottom": (slide, offset),
        "middle": (slide * 0.5, (rng.random() - 0.5) * 0.06),
    }[place]
    return SceneObject(
        noun,
        colour,
        pattern,
        size,
        place,
        x=round(0.5 + dx, 4),
        y=round(0.5 + dy, 4),
        scale=round(scale, 4),
        flip=bool(rng.random() < 0.5),
        angle=round(float(16 * (rng.random() - 0.5)), 2),
        detail=int(rng.integers(2**31)),
    )
