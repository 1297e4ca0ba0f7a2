"""Scenes drawn by chance: determinism, and frequencies beside the table's probabilities."""

from collections import Counter
from itertools import combinations, permutations

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from secondlens.errors import WorldError
from secondlens.world import Biases, Scene, default_biases, sample_scene, scene_at
from secondlens.world.sampler import COUNTS, KINDS
from secondlens.world.vocabulary import BACKGROUNDS, COLOURS, NOUNS, TEXTURES

TABLE = default_biases()
BIASED = [scene_at(0, index, objects=2) for index in range(6000)]
UNBIASED = [scene_at(0, index, objects=2, kind="unbiased") for index in range(6000)]


def values(scene: Scene, kind: str) -> list[tuple[str, str]]:
    """(noun, value) pairs that the table speaks about."""
    if kind == "background":
        return [(scene.nouns[0], scene.background)]
    if kind == "companion":
        return [scene.nouns[:2]]  # type: ignore[list-item]
    return [(thing.noun, getattr(thing, kind)) for thing in scene.objects]


def test_a_scene_depends_on_seed_index_and_kind_alone() -> None:
    forward = [scene_at(3, index) for index in range(20)]
    backward = [scene_at(3, index) for index in reversed(range(20))]
    assert forward == backward[::-1]
    assert len({scene.to_json() for scene in forward}) == 20
    assert scene_at(4, 0) != forward[0]
    assert scene_at(3, 0, kind="unbiased").seed != scene_at(3, 0, kind="counter").seed


@pytest.mark.parametrize("kind", ["background", "colour", "texture", "companion"])
def test_frequencies_are_the_tables(kind: str) -> None:
    pairs = Counter(pair for scene in BIASED for pair in values(scene, kind))
    totals = Counter(noun for scene in BIASED for noun, _ in values(scene, kind))
    for noun in NOUNS:
        for value, p in TABLE.probabilities(noun, kind).items():
            # 4.5 standard deviations of a binomial: one in 150,000, and about 2,500 are looked at.
            bound = 4.5 * np.sqrt(totals[noun] * p * (1 - p)) + 1
            assert abs(pairs[noun, value] - totals[noun] * p) <= bound, (noun, value)


def test_unbiased_properties_are_independent_and_uniform() -> None:
    columns = {
        "noun": ([scene.nouns[0] for scene in UNBIASED], NOUNS),
        "companion": ([scene.nouns[1] for scene in UNBIASED], NOUNS),
        "background": ([scene.background for scene in UNBIASED], BACKGROUNDS),
        "colour": ([scene.objects[0].colour for scene in UNBIASED], COLOURS),
        "texture": ([scene.objects[0].texture for scene in UNBIASED], TEXTURES),
        "place": ([scene.objects[0].place for scene in UNBIASED], ("left", "right", "top", "bottom")),
        "size": ([scene.objects[0].size for scene in UNBIASED], ("small", "medium")),
    }
    for (first, (one, rows)), (second, (two, across)) in combinations(columns.items(), 2):
        if {first, second} == {"noun", "companion"}:
            continue  # never the same noun twice: not independent
        table = np.zeros((len(rows), len(across)))
        for a, b in zip(one, two, strict=True):
            table[rows.index(a), across.index(b)] += 1
        assert chi2_contingency(table).pvalue > 1e-4, (first, second)
        assert table.sum(1).min() > 0.7 * table.sum() / len(rows)


def test_the_biased_world_is_not_independent() -> None:
    table = np.zeros((len(NOUNS), len(BACKGROUNDS)))
    for scene in BIASED:
        table[NOUNS.index(scene.nouns[0]), BACKGROUNDS.index(scene.background)] += 1
    assert chi2_contingency(table).pvalue < 1e-12


def test_counter_scenes_never_show_planted_cues() -> None:
    planted = {noun: {(cue.kind, cue.word) for cue in TABLE.planted(noun)} for noun in NOUNS}
    seen = set()
    for index in range(1000):
        scene = scene_at(1, index, kind="counter")
        for thing in scene.objects:
            cues = planted[thing.noun]
            assert ("background", scene.background) not in cues
            assert ("colour", thing.colour) not in cues
            assert ("texture", thing.texture) not in cues
            seen.add((thing.noun, scene.background))
        for one, other in permutations(scene.nouns, 2):
            assert ("companion", other) not in planted[one]
    assert ("boat", "desert") in seen
    # Every noun still appears on every background that is not its own.
    unplanted = 32 * 8 - sum(kind == "background" for cues in planted.values() for kind, _ in cues)
    assert len(seen) == unplanted


def test_another_table_draws_another_world() -> None:
    table = Biases("odd", {"boat": {"background": {"desert": 1.0}, "companion": {"cake": 1.0}, "colour": {"red": 1.0}}})
    rng = np.random.default_rng(0)
    for _ in range(30):
        scene = sample_scene(rng, table, nouns=["boat", None, None])
        assert (scene.background, scene.nouns[1], scene.objects[0].colour) == ("desert", "cake", "red")
        assert len(set(scene.nouns)) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_and_places_of_objects(kind: str) -> None:
    scenes = [scene_at(2, index, kind=kind) for index in range(600)]  # type: ignore[arg-type]
    counts = Counter(len(scene.objects) for scene in scenes)
    for number, p in zip((1, 2, 3), COUNTS, strict=True):
        assert abs(counts[number] - 600 * p) < 4.5 * np.sqrt(600 * p * (1 - p))
    for scene in scenes:
        assert len(set(scene.nouns)) == len(scene.objects)
        assert len({thing.place for thing in scene.objects}) == len(scene.objects)
        for thing in scene.objects:
            half = thing.scale / 2
            # The whole thing lies inside, but for a turned one's corners.
            assert half - 0.04 <= thing.x <= 1.04 - half
            assert half - 0.04 <= thing.y <= 1.04 - half
            assert {
                "left": thing.x < 0.45,
                "right": thing.x > 0.55,
                "top": thing.y < 0.45,
                "bottom": thing.y > 0.55,
            }.get(thing.place, abs(thing.x - 0.5) < 0.06 and abs(thing.y - 0.5) < 0.06)


def test_what_is_fixed_stays_fixed() -> None:
    rng = np.random.default_rng(0)
    scene = sample_scene(
        rng,
        nouns=["boat", "cat"],
        background="desert",
        colours=["red", None],
        textures=[None, "dotted"],
        sizes=["large", None],
        places=[None, "left"],
    )
    assert (scene.nouns, scene.background) == (("boat", "cat"), "desert")
    boat, cat = scene.objects
    assert (boat.colour, boat.size, cat.texture, cat.place, boat.place) == ("red", "large", "dotted", "left", "right")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "biassed"}, "did you mean 'biased'"),
        ({"objects": 4}, "1, 2 or 3"),
        ({"nouns": []}, "1, 2 or 3"),
        ({"nouns": ["yacht"]}, "unknown noun"),
        ({"background": "moon"}, "unknown background"),
        ({"nouns": ["cat"], "colours": ["red", "blue"]}, "expected 1, got 2"),
        ({"nouns": ["cat"], "places": ["up"]}, "unknown place"),
    ],
)
def test_wrong_requests(arguments: dict, message: str) -> None:
    with pytest.raises(WorldError, match=message):
        sample_scene(np.random.default_rng(0), **arguments)
    with pytest.raises(WorldError, match="negative"):
        scene_at(-1, 0)
