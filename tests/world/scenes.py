"""Small scenes for the tests of the world."""

from typing import Any

from secondlens.world.scene import Scene, SceneObject

DOG = SceneObject("dog", "brown", "plain", "large", "middle", x=0.5, y=0.5, scale=0.7, detail=1)


def scene(*things: SceneObject, **settings: Any) -> Scene:
    return Scene(settings.pop("background", "meadow"), things or (DOG,), **settings)
