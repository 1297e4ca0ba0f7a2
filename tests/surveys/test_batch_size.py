"""The batch size that is found: the search itself, its bounds, and that surveys go on with what they began with."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import secondlens as sl
from secondlens.cli.survey import parse_batch_size
from secondlens.errors import SurveyError
from secondlens.lens import LensModel
from secondlens.surveys.batch_size import (
    BATCH_SIZE,
    begun_with,
    by_doubling,
    find_batch_size,
    largest_planned,
    survey_rate,
)
from secondlens.surveys.plan import make_plan


def rates(known: dict, tried: list[int]) -> Callable[[int], float]:
    """A measured rate by batch size; out of memory where there is none."""

    def rate(size: int) -> float:
        tried.append(size)
        if size not in known:
            raise torch.OutOfMemoryError(f"no room for {size} images")
        return float(known[size])

    return rate


@pytest.mark.parametrize(
    ("known", "most", "found", "tried"),
    [
        # 5 % more is not more than 5 %.
        ({32: 100, 64: 190, 128: 199.5, 256: 400}, 4096, 64, [32, 64, 128]),
        ({32: 100, 64: 190, 128: 199.6, 256: 150}, 4096, 128, [32, 64, 128, 256]),
        # Slower at once, out of memory, out of plan.
        ({32: 100, 64: 90}, 4096, 32, [32, 64]),
        ({32: 100, 64: 200}, 4096, 64, [32, 64, 128]),
        ({32: 100, 64: 200, 128: 400}, 64, 64, [32, 64]),
        # Not even the first fits: halves, and nothing beyond the one that does.
        ({8: 20, 4: 10}, 4096, 8, [32, 16, 8, 16]),
    ],
)
def test_doubling_ends_where_it_no_longer_pays(known: dict, most: int, found: int, tried: list[int]) -> None:
    seen: list[int] = []
    assert by_doubling(rates(known, seen), 32, most) == found
    assert seen == tried


def test_a_gpu_that_holds_no_image_is_an_error() -> None:
    with pytest.raises(SurveyError, match="too little free memory"):
        by_doubling(rates({}, []), 32, 4096)


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    def broken(size: int) -> float:
        raise ValueError(f"wrong pixels for {size}")

    with pytest.raises(ValueError, match="wrong pixels"):
        by_doubling(broken, 32, 4096)


def test_the_plan_bounds_it(clip: LensModel) -> None:
    # Where all images are the top, all plans have the same candidates, and only batches take more or less memory.
    layers, images = [0, 1, 2], 600
    # Up to the first of the doubled sizes that holds all images.
    assert largest_planned(clip, layers, images, images, 64 * 2**30) == 1024
    # A limit that 128 images a batch keep exactly: 256 would need a second pass, or more memory than there is.
    limit = make_plan(clip, layers, images, images, 128).bytes
    assert largest_planned(clip, layers, images, images, limit) == 128
    small = make_plan(clip, layers, images, images, 8).bytes
    assert len(make_plan(clip, layers, images, images, BATCH_SIZE, small).groups) > 1
    # Below what even one layer takes in batches of 32.
    least = make_plan(clip, [0], images, images, 8).bytes
    assert largest_planned(clip, [0], images, images, least) == 8
    with pytest.raises(SurveyError, match="GiB of memory"):
        largest_planned(clip, [0], images, images, 2**20)


def test_rates_are_measured_by_surveying(clip: LensModel) -> None:
    rate = survey_rate(clip, [0, 1], 20)
    # A forward pass over one image costs nearly as much as over sixteen of this size: far more than timers jitter.
    assert 0 < rate(1) < rate(16)


def test_a_cpu_takes_32_and_a_number_is_a_number(clip: LensModel) -> None:
    assert find_batch_size("auto", clip, [0], 1000, 5) == BATCH_SIZE == 32
    assert find_batch_size(7, clip, [0], 1000, 5) == 7
    assert (parse_batch_size("auto"), parse_batch_size("48")) == ("auto", 48)
    for wrong in ("-3", "many", "1.5", ""):
        with pytest.raises(SurveyError, match="a number or auto"):
            parse_batch_size(wrong)
    with pytest.raises(SurveyError, match="a number or auto"):
        find_batch_size("64", clip, [0], 1000, 5)


def test_a_survey_goes_on_with_the_batch_size_it_began_with(clip: LensModel, pictures: Path, tmp_path: Path,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    folder = tmp_path / "atlas"
    assert begun_with(folder) is None
    from secondlens.surveys.checkpoint import Checkpoints

    save = Checkpoints.save

    def once(self: Checkpoints, *arguments: object) -> None:
        save(self, *arguments)  # type: ignore[arg-type]
        raise InterruptedError

    monkeypatch.setattr(Checkpoints, "save", once)
    with pytest.raises(InterruptedError):
        sl.survey(clip, pictures, folder, layers=[0], top=3, batch_size=12)
    monkeypatch.undo()
    assert begun_with(folder) == 12
    atlas = sl.survey(clip, pictures, folder, layers=[0], top=3)
    assert atlas.manifest.batch_size == begun_with(folder) == 12
    # Complete: opened again, not refused for another batch size.
    assert sl.survey(clip, pictures, folder, layers=[0], top=3).manifest.created == atlas.manifest.created
