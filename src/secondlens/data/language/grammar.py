"""The embedded world's grammar as a language model: it obeys one kind of prompt, that for captions with cues.

Write 50 different captions of pictures.
Each picture shows: boat
Each caption names it, and as many of these as fit together, the first ones more often: sand; red; a striped thing
No caption may mention: cactus
"""

import re
from collections.abc import Sequence

import numpy as np

from secondlens.errors import LanguageError
from secondlens.world import caption, sample_scene
from secondlens.world.vocabulary import MEANINGS, NOUNS

COUNT = re.compile(r"Write (\d+) different captions")
SHOWN = re.compile(r"^Each picture shows: (.+)$", re.MULTILINE)
CUES = re.compile(r"the first ones more often: (.+)$", re.MULTILINE)
FORBIDDEN = re.compile(r"^No caption may mention: (.+)$", re.MULTILINE)

USED = 0.75
"""How often a caption takes up a kind of cue (background, colour, texture, companion) for which there is one."""
TRIES = 30
"""Scenes drawn a caption at most, until one differs from those before."""


class GrammarModel:
    """Writes captions of scenes that show a noun with words of a list, the first ones more often.

    alone: nothing beside the noun, whatever the list names. A second thing of about the same size makes up half of what
    a picture shows: with one, a picture tests confusion as much as context.
    """

    def __init__(self, alone: bool = False) -> None:
        self.name = "world:alone" if alone else "world:"
        self.settings: dict[str, object] = {"used": USED}
        self._alone = alone

    def complete(self, prompt: str, seed: int) -> str:
        """Captions, one a line; the same for the same seed.

        Raises `LanguageError` for any other prompt, or where the thing to show is none of the world's.
        """
        count, shown = COUNT.search(prompt), SHOWN.search(prompt)
        if count is None or shown is None:
            raise LanguageError(
                "the embedded world's grammar only writes captions ('Write N different captions of pictures. Each "
                f"picture shows: ...'); it was asked: {prompt[:80]!r}"
            )
        noun = _nouns(shown[1])
        if not noun:
            raise LanguageError(f"the embedded world has no {shown[1]!r}; it has: {', '.join(NOUNS)}")
        cues, forbidden = CUES.search(prompt), FORBIDDEN.search(prompt)
        listed = _by_kind(cues[1].split(";") if cues else [], {noun[0], *_nouns(forbidden[1] if forbidden else "")})
        if self._alone:
            listed.pop("noun", None)
        rng = np.random.default_rng(seed)
        found: dict[str, None] = {}
        for _ in range(int(count[1])):
            for _ in range(TRIES):
                text = _caption(rng, noun[0], listed)
                # Now and then the grammar says "thing" for a noun; such a caption does not show what was asked for.
                if text not in found and noun[0] in text.split():
                    found[text] = None
                    break
        return "\n".join(found)


def _nouns(text: str) -> list[str]:
    return [value for kind, value in _meanings(text) if kind == "noun"]


def _meanings(text: str) -> list[tuple[str, str]]:
    words = re.findall(r"[a-z]+", text.lower())
    return [MEANINGS[word] for word in words if word in MEANINGS]


def _by_kind(cues: Sequence[str], taken: set[str]) -> dict[str, list[str]]:
    """Values that cues name, by kind, in order; without nouns that are taken."""
    listed: dict[str, list[str]] = {}
    for cue in cues:
        for kind, value in _meanings(cue):
            if value not in taken and value not in listed.setdefault(kind, []):
                listed[kind].append(value)
    return listed


def _caption(rng: np.random.Generator, noun: str, listed: dict[str, list[str]]) -> str:
    def pick(kind: str) -> str | None:
        options = listed.get(kind)
        if not options or rng.random() >= USED:
            return None
        chances = 1 / (1 + np.arange(len(options))) ** 2
        return options[int(rng.choice(len(options), p=chances / chances.sum()))]

    background, colour, texture, companion = (pick(kind) for kind in ("background", "colour", "texture", "noun"))
    nouns = [noun] if companion is None else [noun, companion]
    free = [None] * (len(nouns) - 1)
    scene = sample_scene(
        rng, kind="unbiased", nouns=nouns, background=background, colours=[colour, *free], textures=[texture, *free]
    )
    # A full caption names what the scene has; a word that it leaves out is drawn freely by the renderer.
    words = [
        MEANINGS[word][1] if MEANINGS.get(word, "")[:1] == ("noun",) else word for word in caption(scene, rng).split()
    ]
    return re.sub(r"\ban? (?=(\w))", lambda found: f"a{'n' * (found[1] in 'aeiou')} ", " ".join(words))
