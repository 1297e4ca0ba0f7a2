"""A grammar of captions, and its reverse: from a text to a scene that shows it.

caption     = [opening] things [setting] | setting "," things
things      = thing | thing joiner thing | thing "," thing "and" thing
thing       = article [size] [colour] [texture] noun [place]
setting     = "on the sea" | "in the desert" | ...

Words are lower case and separated by spaces, the comma is a word of its own, and every word is in `all_words()`.
"""

import re
from collections.abc import Sequence

import numpy as np

from secondlens.errors import WorldError
from secondlens.world.sampler import sample_scene
from secondlens.world.scene import Scene, SceneObject
from secondlens.world.vocabulary import (
    BACKGROUND_WORDS,
    COLOUR_WORDS,
    MEANINGS,
    NOUN_WORDS,
    PLACES,
    PLURAL_NOUNS,
    SIZE_WORDS,
    SYNONYMS,
    TEXTURE_WORDS,
)

DETAILS = ("noun", "colour", "texture", "size", "background", "full")

LONGEST = 30
"""No caption of the grammar has more words."""

SETTINGS: dict[str, tuple[str, ...]] = {
    "sea": ("on the {}", "in the {}", "by the {}"),
    "desert": ("in the {}", "on the {}"),
    "meadow": ("in the {}", "on the {}"),
    "forest": ("in the {}", "inside the {}"),
    "snow": ("in the {}", "on the {}"),
    "city": ("in the {}", "in a {}"),
    "night": ("at {}", "in the {}"),
    "room": ("in a {}", "in the {}", "inside a {}"),
}
"""Phrases of a background; the place holder is one of its words."""

PHRASES_OF_PLACE: dict[str, tuple[str, ...]] = {
    "left": ("on the left", "to the left"),
    "right": ("on the right", "to the right"),
    "top": ("at the top", "near the top"),
    "bottom": ("at the bottom", "near the bottom"),
    "middle": ("in the middle", "in the centre"),
}

OPENINGS = ("there is", "here is", "a picture of", "we see", "it shows")
JOINERS = ("and", "with", "beside", "next to", "together with")
_WORD = re.compile(r"[a-z]+|,")
_LOCATIONS = {"centre": "middle", **{place: place for place in PLACES}}
SYNONYM_RATE = 0.3
"""How often a caption takes a synonym where there is one."""


def caption(scene: Scene, rng: np.random.Generator, detail: str = "full") -> str:
    """A sentence about a scene, at most `LONGEST` words.

    detail: "noun" names the nouns alone; "colour", "texture", "size" and "background" name that one property, half of
    the time of a mere "thing"; "full" names colours, textures and the background nearly always, sizes and places now
    and then, and seldom says "thing" for a noun.
    """
    if detail not in DETAILS:
        raise WorldError(f"unknown detail {detail!r}; known: {', '.join(DETAILS)}")
    full = detail == "full"
    many = len(scene.objects) > 1
    things = [
        _thing(
            thing,
            rng,
            noun=rng.random() >= {"noun": 0.0, "full": 0.05}.get(detail, 0.5),
            size=detail == "size" or (full and rng.random() < (0.15 if many else 0.3)),
            colour=detail == "colour" or (full and rng.random() < 0.9),
            texture=detail == "texture" or (full and rng.random() < 0.9),
            # With three things there is no room for places within the longest caption.
            place=full and len(scene.objects) < 3 and rng.random() < (0.15 if many else 0.25),
        )
        for thing in scene.objects
    ]
    setting = _setting(scene.background, rng) if detail == "background" or (full and rng.random() < 0.9) else ""
    joined = _join(things, rng)
    if setting and rng.random() < 0.15:
        return f"{setting} , {joined}"
    opening = _choice(rng, OPENINGS) + " " if rng.random() < 0.3 else ""
    return f"{opening}{joined} {setting}".strip()


def class_prompts(kind: str) -> dict[str, list[str]]:
    """Texts for zero-shot classification, in the grammar's style: canonical value -> prompts whose mean stands for it.

    kind: "noun", "colour", "texture", "background" or "size".
    """
    templates = {
        "noun": ("{article} {word}", "there is {article} {word}", "a picture of {article} {word}"),
        "colour": ("{article} {word} thing", "there is {article} {word} thing", "a picture of {article} {word} thing"),
        "texture": ("{article} {word} thing", "there is {article} {word} thing", "a picture of {article} {word} thing"),
        "size": ("{article} {word} thing", "there is {article} {word} thing"),
        "background": ("a thing {setting}", "there is a thing {setting}", "{setting} , a thing"),
    }
    if kind not in templates:
        raise WorldError(f"no prompts for {kind!r}; known: {', '.join(templates)}")
    prompts: dict[str, list[str]] = {}
    for value in SYNONYMS[kind]:
        setting = SETTINGS[value][0].format(value) if kind == "background" else ""
        filled = [
            template.format(article="" if value in PLURAL_NOUNS else _article(value), word=value, setting=setting)
            for template in templates[kind]
        ]
        prompts[value] = [" ".join(text.split()) for text in filled]
    return prompts


def all_words() -> list[str]:
    """Every word of the grammar, sorted: what a tokenizer needs to know."""
    texts = [word for words in SYNONYMS.values() for options in words.values() for word in options]
    texts += [phrase for phrases in (*SETTINGS.values(), *PHRASES_OF_PLACE.values()) for phrase in phrases]
    texts += [*OPENINGS, *JOINERS, "a", "an", "and", ",", "thing", "things"]
    return sorted({word for text in texts for word in _WORD.findall(text)})


def scene_from_text(text: str, rng: np.random.Generator) -> Scene:
    """A scene that shows a text: the renderer as a text-to-image model.

    Nouns in their order (three at most; later ones are left out), each with the adjectives before it and the place
    after it, and the background, wherever it stands. Words that the grammar does not know are passed over. What the
    text does not mention is drawn without biases. Raises WorldError where the text names nothing that can be drawn.
    """
    things: list[dict[str, str | None]] = []
    pending: dict[str, str] = {}
    background = None
    for word in _WORD.findall(text.lower()):
        kind, value = MEANINGS.get(word) or MEANINGS.get(word.removesuffix("s")) or ("", "")
        if kind == "noun" or (word in ("thing", "things")):
            things.append({"noun": value or None, **pending})
            pending = {}
        elif kind == "background":
            background = background or value
        elif kind:
            pending.setdefault(kind, value)
        elif word in _LOCATIONS and things:
            things[-1].setdefault("place", _LOCATIONS[word])
    if not things and (background or pending):
        things.append({"noun": None, **pending})
    if not things:
        raise WorldError(f"nothing in {text!r} can be drawn; it should name one of: {', '.join(NOUN_WORDS)}")
    things = things[:3]
    return sample_scene(
        rng,
        kind="unbiased",
        nouns=[thing.get("noun") for thing in things],
        background=background,
        colours=[thing.get("colour") for thing in things],
        textures=[thing.get("texture") for thing in things],
        sizes=[thing.get("size") for thing in things],
        places=[thing.get("place") for thing in things],
    )


def _thing(
    thing: SceneObject,
    rng: np.random.Generator,
    *,
    noun: bool,
    size: bool,
    colour: bool,
    texture: bool,
    place: bool,
) -> str:
    words = []
    if size:
        words.append(_word(SIZE_WORDS[thing.size], rng))
    middle = []
    if colour:
        middle.append(_word(COLOUR_WORDS[thing.colour], rng))
    # 'plain' is often left unsaid, as people do, but the word has to be learned.
    if texture and (thing.texture != "plain" or not noun or rng.random() < 0.6):
        middle.append(_word(TEXTURE_WORDS[thing.texture], rng))
    if len(middle) == 2 and rng.random() < 0.3:
        middle.reverse()
    words += [*middle, _word(NOUN_WORDS[thing.noun], rng) if noun else "thing"]
    if not noun or thing.noun not in PLURAL_NOUNS:
        words.insert(0, _article(words[0]))
    if place:
        words.append(_choice(rng, PHRASES_OF_PLACE[thing.place]))
    return " ".join(words)


def _setting(background: str, rng: np.random.Generator) -> str:
    word = _word(BACKGROUND_WORDS[background], rng)
    return _choice(rng, SETTINGS[background]).format(word)


def _join(things: list[str], rng: np.random.Generator) -> str:
    if len(things) < 3:
        return f" {_choice(rng, JOINERS)} ".join(things)
    return f"{things[0]} , {things[1]} and {things[2]}"


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def _choice(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.random() * len(options))]


def _word(options: Sequence[str], rng: np.random.Generator) -> str:
    if len(options) == 1 or rng.random() >= SYNONYM_RATE:
        return options[0]
    return _choice(rng, options[1:])
