"""What is in a picture: a scene as plain data, from which it can be drawn again, bit for bit."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

from secondlens.errors import WorldError, closest
from secondlens.world.vocabulary import PROPERTIES

Built = TypeVar("Built")


@dataclass(frozen=True)
class SceneObject:
    """One thing: what it is, and how this picture of it was drawn."""

    noun: str
    colour: str
    texture: str
    size: str
    place: str
    x: float
    """Centre, as a fraction of the image's width."""
    y: float
    """Centre, as a fraction of the image's height, from the top."""
    scale: float
    """Longer side, as a fraction of the image's side."""
    flip: bool = False
    """Mirrored left to right."""
    angle: float = 0.0
    """Rotation in degrees, clockwise."""
    detail: int = 0
    """Seed of pose, proportions and small parts."""

    def __post_init__(self) -> None:
        for kind in ("noun", "colour", "texture", "size", "place"):
            _known(kind, getattr(self, kind))
        if not 0 < self.scale <= 2:
            raise WorldError(f"an object's scale must lie in (0, 2], a fraction of the image's side; got {self.scale}")


@dataclass(frozen=True)
class Scene:
    """A background with one or more things on it."""

    background: str
    objects: tuple[SceneObject, ...]
    light: float = 1.0
    """Brightness; 1 is neutral."""
    light_angle: float = 0.0
    """Where the light comes from, in radians."""
    noise: float = 0.0
    """Standard deviation of the pixels' noise, as a fraction of the range."""
    seed: int = 0
    """Seed of the background's variant and of the noise."""

    def __post_init__(self) -> None:
        _known("background", self.background)
        if not 1 <= len(self.objects) <= 7:
            raise WorldError(f"a scene has 1 to 7 objects; got {len(self.objects)}")

    @property
    def nouns(self) -> tuple[str, ...]:
        """Canonical nouns of the objects, in order."""
        return tuple(thing.noun for thing in self.objects)

    def to_json(self) -> str:
        """One line of JSON; `from_json` gives the same scene back."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | Mapping[str, Any]) -> "Scene":
        """A scene from what `to_json` wrote. Raises WorldError where it is not one."""
        try:
            entry = dict(json.loads(text) if isinstance(text, str) else text)
        except (json.JSONDecodeError, TypeError, ValueError) as error:
            raise WorldError(f"not a scene in JSON: {error}") from error
        objects = entry.pop("objects", None)
        if not isinstance(objects, list | tuple):
            raise WorldError("a scene needs 'objects', a list; write scenes with Scene.to_json")
        things = tuple(_build(SceneObject, thing) for thing in objects)
        return _build(cls, {**entry, "objects": things})


def property_of(scene: Scene, name: str) -> str:
    """The background of a scene, or a property of its first object."""
    return scene.background if name == "background" else str(getattr(scene.objects[0], name))


def _build(kind: type[Built], entry: Any) -> Built:
    if not isinstance(entry, Mapping):
        raise WorldError(f"a {kind.__name__} must be a JSON object; got {entry!r}")
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    for name in entry:
        if name not in known:
            raise WorldError(f"{kind.__name__} has no field {name!r}{closest(str(name), known)}")
    try:
        return kind(**entry)
    except TypeError as error:
        raise WorldError(f"not a {kind.__name__}: {error}; its fields are {', '.join(sorted(known))}") from error


def _known(kind: str, value: Any) -> None:
    if value not in PROPERTIES[kind]:
        raise WorldError(f"unknown {kind} {value!r}{closest(str(value), PROPERTIES[kind])}")
