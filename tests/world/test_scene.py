"""Scenes as data."""

import json
from dataclasses import replace

import pytest
from scenes import DOG, scene

from secondlens.errors import WorldError
from secondlens.world import Scene, scene_at
from secondlens.world.drawing import DRAWINGS
from secondlens.world.drawing.backgrounds import PAINTERS
from secondlens.world.drawing.paint import COLOUR_VALUES
from secondlens.world.vocabulary import BACKGROUNDS, COLOURS, MEANINGS, NOUNS, PLACES, SYNONYMS, TEXTURES


def test_json_gives_the_same_scene() -> None:
    for index in range(50):
        original = scene_at(5, index)
        again = Scene.from_json(original.to_json())
        assert again == original
        assert Scene.from_json(json.loads(original.to_json())) == original


def test_everything_in_the_vocabulary_can_be_drawn() -> None:
    assert set(DRAWINGS) == set(NOUNS)
    assert set(PAINTERS) == set(BACKGROUNDS)
    assert set(COLOUR_VALUES) == set(COLOURS)
    assert (len(NOUNS), len(COLOURS), len(TEXTURES), len(BACKGROUNDS)) == (32, 10, 4, 8)


def test_no_word_means_two_things() -> None:
    words = [word for table in SYNONYMS.values() for options in table.values() for word in options]
    assert len(words) == len(set(words)) == len(MEANINGS)
    assert not set(words) & set(PLACES)


@pytest.mark.parametrize("field", ["noun", "colour", "texture", "size", "place"])
def test_unknown_words_are_named_with_the_nearest_known(field: str) -> None:
    with pytest.raises(WorldError, match=rf"unknown {field} '{getattr(DOG, field)}x' \(did you mean"):
        replace(DOG, **{field: getattr(DOG, field) + "x"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a scene in JSON"),
        ("[1]", "not a scene in JSON"),
        ('{"background": "sea"}', "'objects'"),
        ('{"background": "moon", "objects": [DOG]}', "unknown background"),
        ('{"background": "sea", "objects": []}', "1 to 7 objects"),
        ('{"background": "sea", "objects": [3]}', "must be a JSON object"),
        ('{"background": "sea", "objects": [{"noun": "dog"}]}', "its fields are"),
        ('{"background": "sea", "objects": [DOG], "lights": 1}', "did you mean 'light'"),
        ('{"objects": [DOG]}', "its fields are"),
    ],
)
def test_text_that_is_no_scene(text: str, message: str) -> None:
    dog = json.dumps(json.loads(scene().to_json())["objects"][0])
    with pytest.raises(WorldError, match=message):
        Scene.from_json(text.replace("DOG", dog))


def test_scale_must_be_a_fraction() -> None:
    with pytest.raises(WorldError, match="scale"):
        replace(DOG, scale=0.0)
