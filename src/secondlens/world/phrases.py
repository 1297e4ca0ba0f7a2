"""Short texts of the world's grammar, for pools: everything that a neuron of a model of the world may stand for."""

from secondlens.world.captions import SETTINGS
from secondlens.world.vocabulary import BACKGROUNDS, COLOURS, MEANINGS, NOUNS, PLACES, PLURAL_NOUNS, SIZES, TEXTURES

CONCEPT_KINDS = ("noun", "colour", "texture", "background")
"""What a scene's content is told apart by."""

CONCEPTS: tuple[tuple[str, str], ...] = tuple(
    (kind, value)
    for kind, values in zip(CONCEPT_KINDS, (NOUNS, COLOURS, TEXTURES, BACKGROUNDS), strict=True)
    for value in values
)
"""(kind, value) of everything that is known to be in a scene or not: 54 concepts."""


def single_phrases() -> list[str]:
    """A text for every value, one thing at a time: "a boat", "a red thing", "a thing on the sea"; 62 texts."""
    texts = [_thing(noun) for noun in NOUNS]
    texts += [_thing("thing", look) for look in (*COLOURS, *TEXTURES, *SIZES)]
    texts += [f"a thing {SETTINGS[background][0].format(background)}" for background in BACKGROUNDS]
    return texts + [f"a thing {_at(place)}" for place in PLACES]


def phrases() -> list[str]:
    """About 1,000 texts, in a fixed order: single values ("a boat", "a red thing", "a thing on the sea"), and pairs
    ("a red boat", "a striped boat", "a boat on the sea", "a red striped thing", "a red thing on the sea", ...).
    """
    looks = (*COLOURS, *TEXTURES)
    settings = [SETTINGS[background][0].format(background) for background in BACKGROUNDS]
    texts = single_phrases()
    texts += [_thing(noun, look) for noun in NOUNS for look in (*looks, *SIZES)]
    texts += [f"{_thing(noun)} {setting}" for noun in NOUNS for setting in settings]
    texts += [_thing("thing", colour, texture) for colour in COLOURS for texture in TEXTURES]
    texts += [f"{_thing('thing', look)} {setting}" for look in looks for setting in settings]
    return texts


def concepts_of(text: str) -> set[tuple[str, str]]:
    """The concepts that a text names, synonyms included; places and sizes are none."""
    meanings = (MEANINGS.get(word) for word in text.lower().split())
    return {meaning for meaning in meanings if meaning is not None and meaning[0] in CONCEPT_KINDS}


def _thing(noun: str, *adjectives: str) -> str:
    words = " ".join((*adjectives, noun))
    if noun in PLURAL_NOUNS:
        return words
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _at(place: str) -> str:
    return {"top": "at the top", "bottom": "at the bottom", "middle": "in the middle"}.get(place, f"on the {place}")
