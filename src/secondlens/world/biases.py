"""The written table of co-occurrence biases: which backgrounds, colours, textures and companions go with which noun.

The table is a JSON file. For each noun it names some values and their probabilities; values that it does not name share
the rest evenly, and what a noun does not mention is uniform. With no entry at all the world has no biases.

    {"name": "mine", "nouns": {"boat": {"background": {"sea": 0.85}, "companion": {"lighthouse": 0.6}}}}

A value is a *planted cue* of a noun where its probability is at least twice the uniform one (its *lift* is 2 or more).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

from secondlens.errors import WorldError, closest
from secondlens.world.vocabulary import NOUNS, PROPERTIES

KINDS = ("background", "colour", "texture", "companion")
"""What a noun can be tied to."""

PLANTED_LIFT = 2.0
"""A value at least this many times as probable as uniform is a planted cue."""


@dataclass(frozen=True)
class Cue:
    """A value that the table ties to a noun. lift: its probability over the uniform one."""

    kind: str
    word: str
    probability: float
    lift: float


@dataclass(frozen=True)
class Biases:
    """A validated table: nouns -> kind -> value -> probability, as written."""

    name: str
    nouns: Mapping[str, Mapping[str, Mapping[str, float]]]

    @classmethod
    def load(cls, path: str | Path | None = None) -> "Biases":
        """The table of a JSON file; without a path the one that comes with the package. Raises WorldError."""
        if path is None:
            text = resources.files("secondlens.world").joinpath("biases.json").read_text(encoding="utf-8")
            return cls.from_json(text, "the built-in table")
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise WorldError(f"cannot read a table of biases from {path}: {error}") from error
        return cls.from_json(text, str(path))

    @classmethod
    def none(cls) -> "Biases":
        """The table without biases: everything is uniform."""
        return cls("none", {})

    @classmethod
    def from_json(cls, text: str, where: str = "the text") -> "Biases":
        """A table from its JSON text; `where` names it in messages. Raises WorldError."""
        try:
            entry = json.loads(text)
        except json.JSONDecodeError as error:
            raise WorldError(f"{where} is not JSON: {error}") from error
        if not isinstance(entry, dict) or not isinstance(entry.get("nouns"), dict):
            raise WorldError(f'{where} must be an object with "nouns": {{noun: {{kind: {{value: probability}}}}}}')
        extra = set(entry) - {"name", "about", "nouns"}
        if extra:
            raise WorldError(f"{where} has unknown fields {sorted(extra)}; known: name, about, nouns")
        _check(entry["nouns"])
        return cls(str(entry.get("name", "unnamed")), entry["nouns"])

    def __post_init__(self) -> None:
        _check(self.nouns)

    def to_json(self) -> str:
        """The table as it can be loaded again."""
        return json.dumps({"name": self.name, "nouns": self.nouns}, indent=2)

    def probabilities(self, noun: str, kind: str) -> dict[str, float]:
        """Every value's probability given the noun; they sum to 1, in the order of the vocabulary."""
        return dict(self._tables[noun, kind])

    def planted(self, noun: str, kind: str | None = None) -> list[Cue]:
        """The planted cues of a noun, strongest lift first."""
        return list(self._planted[noun]) if kind is None else [cue for cue in self._planted[noun] if cue.kind == kind]

    def planted_cues(self, shown: str, predicted: str) -> list[Cue]:
        """The cues that could make a picture of `shown` be taken for `predicted`: planted for the latter alone.

        Strongest lift first. An audit that finds these words has recovered what the table planted.
        """
        for noun in (shown, predicted):
            if noun not in NOUNS:
                raise WorldError(f"unknown noun {noun!r}{closest(noun, NOUNS)}")
        own = {(cue.kind, cue.word) for cue in self._planted[shown]}
        return [cue for cue in self._planted[predicted] if (cue.kind, cue.word) not in own and cue.word != shown]

    @cached_property
    def _tables(self) -> dict[tuple[str, str], dict[str, float]]:
        return {(noun, kind): self._table(noun, kind) for noun in NOUNS for kind in KINDS}

    @cached_property
    def _planted(self) -> dict[str, list[Cue]]:
        found: dict[str, list[Cue]] = {}
        for noun in NOUNS:
            cues = []
            for kind in KINDS:
                table = self._tables[noun, kind]
                cues += [Cue(kind, word, p, p * len(table)) for word, p in table.items()]
            planted = [cue for cue in cues if cue.lift >= PLANTED_LIFT and cue.word in self.named(noun, cue.kind)]
            found[noun] = sorted(planted, key=lambda cue: (-cue.lift, cue.word))
        return found

    def named(self, noun: str, kind: str) -> Mapping[str, float]:
        """The values that the table names for a noun, as written."""
        return self.nouns.get(noun, {}).get(kind, {})

    def _table(self, noun: str, kind: str) -> dict[str, float]:
        named = self.named(noun, kind)
        options = _options(noun, kind)
        rest = (1 - sum(named.values())) / max(1, len(options) - len(named))
        return {value: named.get(value, rest) for value in options}


def _options(noun: str, kind: str) -> tuple[str, ...]:
    if kind == "companion":
        return tuple(other for other in NOUNS if other != noun)
    return PROPERTIES[kind]


def _check(nouns: Mapping[str, Any]) -> None:
    for noun, kinds in nouns.items():
        if noun not in NOUNS:
            raise WorldError(f"the table of biases names an unknown noun {noun!r}{closest(noun, NOUNS)}")
        if not isinstance(kinds, Mapping):
            raise WorldError(f"biases of {noun!r} must be an object {{kind: {{value: probability}}}}; got {kinds!r}")
        for kind, chances in kinds.items():
            if kind not in KINDS:
                raise WorldError(f"biases of {noun!r} have an unknown kind {kind!r}{closest(kind, KINDS)}")
            _check_chances(noun, kind, chances)


def _check_chances(noun: str, kind: str, chances: Any) -> None:
    if not isinstance(chances, Mapping):
        raise WorldError(f"{kind} of {noun!r} must be an object {{value: probability}}; got {chances!r}")
    options = _options(noun, kind)
    for value, chance in chances.items():
        if value not in options:
            raise WorldError(f"{kind} of {noun!r} names an unknown value {value!r}{closest(str(value), options)}")
        if isinstance(chance, bool) or not isinstance(chance, int | float) or not 0 <= chance <= 1:
            raise WorldError(f"{kind} of {noun!r}: the probability of {value!r} must lie in [0, 1]; got {chance!r}")
    total = sum(chances.values())
    if total > 1 + 1e-9:
        raise WorldError(f"{kind} of {noun!r}: the probabilities sum to {total:g}, more than 1")
    if len(chances) == len(options) and abs(total - 1) > 1e-9:
        raise WorldError(
            f"{kind} of {noun!r} names every value, so the probabilities must sum to 1; they sum to {total:g}"
        )
