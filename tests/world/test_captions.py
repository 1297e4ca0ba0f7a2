"""The grammar of captions and its reverse."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import DOG, scene

from secondlens.errors import WorldError
from secondlens.world import all_words, caption, class_prompts, sample_scene, scene_at, scene_from_text
from secondlens.world.captions import DETAILS, LONGEST
from secondlens.world.sampler import KINDS
from secondlens.world.vocabulary import BACKGROUNDS, COLOURS, MEANINGS, NOUNS, SIZES, TEXTURES

WORDS = set(all_words())


@settings(max_examples=300, deadline=None)
@given(
    index=st.integers(0, 2**31),
    seed=st.integers(0, 2**31),
    detail=st.sampled_from(DETAILS),
    kind=st.sampled_from(KINDS),
)
def test_what_a_caption_says_is_drawn(index: int, seed: int, detail: str, kind: str) -> None:
    original = scene_at(seed, index, kind=kind)
    rng = np.random.default_rng([seed, index])
    text = caption(original, rng, detail)
    words = text.split()
    assert set(words) <= WORDS
    assert len(words) <= LONGEST
    drawn = scene_from_text(text, rng)
    said = {MEANINGS[word] for word in words if word in MEANINGS}
    assert len(drawn.objects) == len(original.objects)
    if (
        any(word in text for word in (" on ", " in ", " at ", " by ", " inside "))
        and ("background", original.background) in said
    ):
        assert drawn.background == original.background
    for one, other in zip(original.objects, drawn.objects, strict=True):
        if ("noun", one.noun) in said:
            assert one.noun == other.noun
    # With one object, whatever the caption says is true of both scenes, and it says nothing else.
    if len(original.objects) == 1:
        for kind_, value in said - {("background", original.background)}:
            assert getattr(original.objects[0], kind_) == value == getattr(drawn.objects[0], kind_)
    if detail == "noun":
        assert {kind_ for kind_, _ in said} == {"noun"}
        assert drawn.nouns == original.nouns


def test_adjectives_stay_with_their_nouns() -> None:
    text = "there is a small red striped cat on the left next to an azure chequered boat in the sand"
    drawn = scene_from_text(text, np.random.default_rng(0))
    cat, boat = drawn.objects
    assert (cat.noun, cat.size, cat.colour, cat.texture, cat.place) == ("cat", "small", "red", "striped", "left")
    assert (boat.noun, boat.colour, boat.texture, drawn.background) == ("boat", "blue", "checked", "desert")


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_full_captions_of_several_objects_round_trip(seed: int) -> None:
    rng = np.random.default_rng(seed)
    original = sample_scene(rng, objects=3, kind="unbiased")
    text = caption(original, rng)
    drawn = scene_from_text(text, rng)
    cut = text.replace(" , ", " and ").split(" ")
    ends = [i for i, word in enumerate(cut) if MEANINGS.get(word, ("", ""))[0] == "noun" or word == "thing"]
    starts = [0, *(end + 1 for end in ends[:-1])]
    for one, other, start, end in zip(original.objects, drawn.objects, starts, ends, strict=True):
        for word in cut[start : end + 1]:
            kind, value = MEANINGS.get(word, ("background", ""))
            if kind != "background":
                assert getattr(one, kind) == value == getattr(other, kind)


def test_what_a_text_leaves_open_is_drawn_without_biases() -> None:
    rng = np.random.default_rng(0)
    drawn = [scene_from_text("a boat", rng) for _ in range(800)]
    share = sum(scene.background == "sea" for scene in drawn) / 800
    assert share == pytest.approx(1 / 8, abs=4.5 * np.sqrt(1 / 8 * 7 / 8 / 800))
    assert all(scene.nouns == ("boat",) for scene in drawn)


@pytest.mark.parametrize(
    ("text", "nouns", "background"),
    [
        ("Two Dogs, playing in the SNOW!", ["dog"], "snow"),
        ("a photo of scissors", ["scissors"], None),
        ("the ocean", [None], "sea"),
        ("something dotted", [None], None),
        ("cat dog bird fish", ["cat", "dog", "bird"], None),
        ("in the woods , a moth", ["butterfly"], "forest"),
    ],
)
def test_other_sentences(text: str, nouns: list[str | None], background: str | None) -> None:
    drawn = scene_from_text(text, np.random.default_rng(0))
    assert [noun or other for noun, other in zip(nouns, drawn.nouns, strict=True)] == list(drawn.nouns)
    assert background is None or drawn.background == background


def test_a_text_without_anything_to_draw() -> None:
    with pytest.raises(WorldError, match="can be drawn"):
        scene_from_text("hello there", np.random.default_rng(0))


def test_every_word_is_used_and_forms_vary() -> None:
    rng = np.random.default_rng(0)
    texts = [caption(scene_at(0, index, kind="unbiased"), rng) for index in range(1500)]
    used = {word for text in texts for word in text.split()}
    assert WORDS - used <= {"things"}
    assert len({caption(scene(DOG), rng) for _ in range(200)}) > 60


def test_the_same_generator_gives_the_same_caption() -> None:
    assert caption(scene(), np.random.default_rng(4)) == caption(scene(), np.random.default_rng(4))


def test_articles() -> None:
    rng = np.random.default_rng(1)
    texts = [caption(scene_at(1, index), rng) for index in range(500)]
    for text in texts:
        words = text.split()
        for article, word in pairwise(words):
            if article in ("a", "an"):
                assert (article == "an") == (word[0] in "aeiou"), text
        assert "a scissors" not in text


@pytest.mark.parametrize(
    ("kind", "values"),
    [("noun", NOUNS), ("colour", COLOURS), ("texture", TEXTURES), ("background", BACKGROUNDS), ("size", SIZES)],
)
def test_prompts_are_in_the_grammar(kind: str, values: tuple[str, ...]) -> None:
    prompts = class_prompts(kind)
    assert tuple(prompts) == values
    for value, texts in prompts.items():
        for text in texts:
            words = text.split()
            assert set(words) <= WORDS
            assert [MEANINGS[word] for word in words if word in MEANINGS] == [(kind, value)]


def test_unknown_requests() -> None:
    with pytest.raises(WorldError, match="unknown detail"):
        caption(scene(), np.random.default_rng(0), "long")
    with pytest.raises(WorldError, match="no prompts"):
        class_prompts("place")
