"""Pixels and masks."""

from dataclasses import replace

import numpy as np
import pytest
from scenes import DOG, scene

from secondlens.errors import WorldError
from secondlens.world import NOUNS, TEXTURES, render, render_many, scene_at
from secondlens.world.drawing import shapes
from secondlens.world.scene import Scene
from secondlens.world.vocabulary import BACKGROUNDS, COLOURS


def flat(whole: Scene) -> Scene:
    """The scene without noise."""
    return replace(whole, noise=0.0)


def test_the_same_scene_gives_the_same_pixels() -> None:
    for index in range(10):
        one, other = render(scene_at(0, index)), render(scene_at(0, index))
        assert (one.image == other.image).all()
        assert (one.masks == other.masks).all()
        assert one.image.shape == (64, 64, 3)
        assert one.image.dtype == np.uint8
        assert one.masks.shape == (len(scene_at(0, index).objects), 64, 64)


def test_many_are_the_single_ones_in_order_whatever_the_workers() -> None:
    scenes = [scene_at(0, index) for index in range(5)]
    single = [render(one, 32) for one in scenes]
    for workers in (1, 2):
        many = list(render_many(iter(scenes), 32, workers=workers, chunk=2))
        assert len(many) == 5
        for one, other in zip(single, many, strict=True):
            assert (one.image == other.image).all()
            assert (one.masks == other.masks).all()


def test_a_mask_is_where_the_thing_changes_the_picture() -> None:
    for index in range(30):
        whole = flat(scene_at(7, index, objects=2))
        picture = render(whole)
        for number in range(2):
            other = "white" if whole.objects[number].colour != "white" else "black"
            things = list(whole.objects)
            things[number] = replace(things[number], colour=other, texture="plain")
            recoloured = render(replace(whole, objects=tuple(things)))
            assert (recoloured.masks == picture.masks).all()
            changed = (recoloured.image != picture.image).any(-1)
            # Nothing changes outside the mask but the antialiased pixels at its border.
            mask = picture.masks[number]
            near = mask.copy()
            near[1:] |= mask[:-1]
            near[:-1] |= mask[1:]
            near[:, 1:] |= near[:, :-1].copy()
            near[:, :-1] |= near[:, 1:].copy()
            assert (changed & ~near).mean() < 0.01


def test_masks_agree_with_those_of_a_finer_picture() -> None:
    for index in range(12):
        whole = scene_at(8, index)
        coarse, fine = render(whole, 64).masks, render(whole, 256).masks
        averaged = fine.reshape(len(fine), 64, 4, 64, 4).mean((2, 4)) >= 0.5
        for one, other in zip(coarse, averaged, strict=True):
            if one.sum() > 60:
                # Borders differ by parts of a pixel; thin parts (spokes, legs) are mostly border.
                assert (one & other).sum() / (one | other).sum() > 0.75


def test_nearer_things_hide_others() -> None:
    far = replace(DOG, noun="house", y=0.4, scale=0.5)
    near = replace(DOG, noun="ball", colour="red", y=0.55, scale=0.5)
    together = render(scene(far, near)).masks
    alone = render(scene(far)).masks[0], render(scene(near)).masks[0]
    assert not (together[0] & together[1]).any()
    assert (together[1] == alone[1]).all()
    assert 0 < together[0].sum() < alone[0].sum()
    # The order of the list is that of the masks and does not say what is in front.
    swapped = render(scene(near, far))
    assert (swapped.masks == together[::-1]).all()
    assert (swapped.image == render(scene(far, near)).image).all()


@pytest.mark.parametrize("noun", NOUNS)
def test_every_noun_is_large_whole_and_varied(noun: str) -> None:
    things = [replace(DOG, noun=noun, detail=detail, flip=bool(detail % 2)) for detail in range(8)]
    masks = [render(scene(thing)).masks[0] for thing in things]
    for mask in masks:
        rows, columns = np.nonzero(mask)
        longest = max(rows.max() - rows.min(), columns.max() - columns.min()) + 1
        # The longer side is the scale, plus the outline and less what the thinnest tips lose to rounding.
        assert 0.6 * 64 <= longest <= 0.7 * 64 + 4
        assert mask.mean() > 0.07
    assert len({shapes(noun, detail)[2].tobytes() for detail in range(8)}) == 8


def test_nouns_have_different_silhouettes() -> None:
    masks = np.stack([render(scene(replace(DOG, noun=noun, detail=3))).masks[0] for noun in NOUNS])
    flat_masks = masks.reshape(len(NOUNS), -1).astype(float)
    both = flat_masks @ flat_masks.T
    either = flat_masks.sum(1)[:, None] + flat_masks.sum(1) - both
    overlap = both / either - np.eye(len(NOUNS))
    first, second = np.unravel_index(overlap.argmax(), overlap.shape)
    assert overlap.max() < 0.85, (NOUNS[first], NOUNS[second])


@pytest.mark.parametrize("noun", NOUNS)
def test_colour_and_texture_show_on_every_noun(noun: str) -> None:
    thing = replace(DOG, noun=noun, colour="green")
    plain = render(scene(thing))
    looks = {plain.image.tobytes()}
    for texture in TEXTURES[1:]:
        textured = render(scene(replace(thing, texture=texture)))
        assert (textured.masks == plain.masks).all()
        changed = (textured.image != plain.image).any(-1)
        # A second colour on at least a twelfth of the thing (a hammer's handle stays of wood), nowhere else.
        assert (changed & plain.masks[0]).sum() > plain.masks[0].sum() / 12
        looks.add(textured.image.tobytes())
    assert len(looks) == len(TEXTURES)
    green = plain.image[plain.masks[0]].astype(int)
    assert ((green[:, 1] > green[:, 0] + 30) & (green[:, 1] > green[:, 2] + 30)).mean() > 0.2


def test_colours_are_far_apart_in_any_light() -> None:
    means = {}
    for colour in COLOURS:
        samples = []
        for detail in range(6):
            ball = replace(DOG, noun="ball", colour=colour, detail=detail)
            picture = render(scene(ball, light=0.88 + 0.04 * detail))
            samples.append(np.median(picture.image[picture.masks[0]].reshape(-1, 3), axis=0))
        means[colour] = np.array(samples)
    for colour, samples in means.items():
        for other, others in means.items():
            if colour != other:
                gap = np.linalg.norm(samples[:, None] - others[None], axis=-1).min()
                assert gap > 35, (colour, other)


def test_backgrounds_vary_and_differ() -> None:
    for background in BACKGROUNDS:
        pictures = {render(scene(background=background, seed=seed)).image.tobytes() for seed in range(6)}
        assert len(pictures) == 6


def test_light_and_noise_do_what_they_say() -> None:
    dark, bright = (render(scene(light=light)).image.mean() for light in (0.8, 1.1))
    assert bright / dark == pytest.approx(1.1 / 0.8, rel=0.1)  # bright pixels are cut off at 255
    clean, noisy = render(scene(seed=3)), render(scene(seed=3, noise=0.02))
    difference = noisy.image.astype(float) - clean.image
    # Quantisation adds a twelfth of a level; pixels near 255 lose half of their noise.
    assert difference.std() == pytest.approx(0.02 * 255, rel=0.15)


def test_a_thing_outside_has_an_empty_mask() -> None:
    picture = render(scene(DOG, replace(DOG, x=3.0)))
    assert picture.masks[0].any()
    assert not picture.masks[1].any()


@pytest.mark.parametrize("size", [8, 5000])
def test_sizes_out_of_range(size: int) -> None:
    with pytest.raises(WorldError, match="16 to 1024"):
        render(scene(), size)
