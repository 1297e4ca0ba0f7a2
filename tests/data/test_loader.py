import io
import multiprocessing
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import encoded, noise, write_tar
from PIL import Image
from torch import Tensor

from secondlens.data import Batch, FolderSource, Skipped, batches, open_source, processing_order, stream
from secondlens.data.loader import Decoders
from secondlens.errors import ImageError
from secondlens.progress import Running

SIDE = 16
ORDER = [11, 0, 10, 1, 9, 2, 8, 3, 7, 4, 6, 5]


def preprocess(images: list[Image.Image]) -> Tensor:
    """What a simple model does; like real processors, it cannot resize an extremely thin picture."""
    rows = []
    for image in images:
        if max(image.size) > 200 * min(image.size):
            raise ValueError(f"aspect ratio of {image.size}\nis absurd")
        small = np.array(image.resize((SIDE, SIDE)), dtype=np.float32) / 255
        rows.append(torch.from_numpy(small).permute(2, 0, 1))
    return torch.stack(rows)


@pytest.fixture
def source(tmp_path: Path) -> FolderSource:
    """12 pictures; 03 is thin, 05 and 07 to 09 cannot be read."""
    for number in range(12):
        noise(seed=number).save(tmp_path / f"{number:02d}.png")
    noise(1, 5000).save(tmp_path / "03.png")
    (tmp_path / "05.png").write_text("no picture")
    (tmp_path / "07.png").write_bytes(encoded(noise(), "PNG")[:-500])
    (tmp_path / "08.png").write_bytes(encoded(noise().convert("CMYK"), "JPEG"))
    (tmp_path / "09.png").write_bytes(b"")
    return FolderSource(tmp_path)


def run(source: FolderSource, order: Sequence[int] = ORDER, **options: object) -> list[Batch]:
    return list(batches(source, preprocess, order=order, batch_size=3, **options))


def assert_same(left: list[Batch], right: list[Batch]) -> None:
    assert [batch.number for batch in left] == [batch.number for batch in right]
    for one, other in zip(left, right, strict=True):
        assert one.positions.tolist() == other.positions.tolist()
        assert torch.equal(one.pixels, other.pixels)
        assert one.skipped == other.skipped
        assert one.thumbnails == other.thumbnails


def test_batches_keep_their_slices(source: FolderSource) -> None:
    result = run(source)
    assert [batch.number for batch in result] == [0, 1, 2, 3]
    assert [batch.positions.tolist() for batch in result] == [[11, 0, 10], [1, 2], [], [4, 6]]
    assert [tuple(batch.pixels.shape) for batch in result] == [
        (3, 3, SIDE, SIDE),
        (2, 3, SIDE, SIDE),
        (0, 3, 0, 0),
        (2, 3, SIDE, SIDE),
    ]
    assert all(batch.positions.dtype == torch.int64 for batch in result)
    assert torch.equal(result[3].pixels, preprocess([noise(seed=4), noise(seed=6)]))
    assert result[0].skipped == ()
    assert result[1].skipped == (Skipped(9, "empty file"),)
    assert [gap.position for gap in result[2].skipped] == [8, 3, 7]
    assert [gap.reason.split(":")[0] for gap in result[2].skipped] == [
        "CMYK",
        "preprocessing failed",
        "truncated",
    ]
    assert result[2].skipped[1].reason == "preprocessing failed: aspect ratio of (1, 5000) is absurd"
    assert result[3].skipped[0].position == 5
    assert result[0].thumbnails == ()


def test_a_thin_picture_does_not_take_its_batch_along(source: FolderSource) -> None:
    (batch,) = run(source, order=[2, 3, 4])
    assert batch.positions.tolist() == [2, 4]
    assert torch.equal(batch.pixels, preprocess([noise(seed=2), noise(seed=4)]))
    assert [gap.position for gap in batch.skipped] == [3]


def test_workers_change_nothing(source: FolderSource) -> None:
    assert_same(run(source, thumbnail_size=8), run(source, thumbnail_size=8, workers=2))


@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_batches_are_the_same(source: FolderSource, workers: int) -> None:
    whole = run(source)
    for first in (1, 3, 4, 9):
        assert_same(whole[first:], run(source, first=first, workers=workers))


def test_resuming_reads_nothing_before_the_first(source: FolderSource) -> None:
    asked: list[int] = []

    class Counting:
        ids = source.ids
        description = source.description

        def read(self, index: int) -> Path:
            asked.append(index)
            return source.read(index)

        def path(self, index: int) -> Path:
            return source.path(index)

    list(batches(Counting(), preprocess, order=ORDER, batch_size=3, first=2))
    assert asked == ORDER[6:]


def test_the_last_batch_may_be_short(source: FolderSource) -> None:
    assert [batch.positions.tolist() for batch in run(source, order=[0, 1, 2, 4])] == [[0, 1, 2], [4]]
    assert run(source, order=[]) == []


def test_thumbnails_belong_to_the_readable_pictures(source: FolderSource) -> None:
    (batch,) = run(source, order=[2, 3, 4], thumbnail_size=8)
    sizes = [Image.open(io.BytesIO(data)).size for data in batch.thumbnails]
    assert sizes == [(8, 6), (8, 6)]


def left_behind(threads: set[threading.Thread]) -> list[object]:
    """The processes, and the threads besides `threads`, that are there after some time to end."""
    deadline = time.monotonic() + 5
    while True:
        left = [*multiprocessing.active_children(), *(set(threading.enumerate()) - threads)]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.02)


def test_stopping_early_leaves_no_process_or_thread(source: FolderSource) -> None:
    threads = set(threading.enumerate())
    iterator = batches(source, preprocess, order=ORDER * 20, batch_size=3, workers=2)
    assert next(iterator).number == 0
    assert len(multiprocessing.active_children()) == 2
    iterator.close()
    assert left_behind(threads) == []


def test_an_exception_of_the_consumer_leaves_no_process(source: FolderSource) -> None:
    threads = set(threading.enumerate())

    def consume() -> None:
        for batch in batches(source, preprocess, order=ORDER, batch_size=3, workers=1):
            raise KeyError(batch.number)

    with pytest.raises(KeyError):
        consume()
    assert left_behind(threads) == []


def test_a_stream_yields_what_can_be_used_and_tells_when_it_was(source: FolderSource) -> None:
    told: list[tuple[str, int, int]] = []
    running = Running(batch_size=3, workers=1, progress=lambda *step: told.append(step))
    found = stream(source, preprocess, ORDER, running, "photos")
    seen = []
    for batch in found:
        # Told of the batches before, the one without a readable image too; what was skipped in this one is known.
        assert [done for _, done, _ in told] == [3 * number for number in range(1, batch.number + 1)]
        seen.append((batch.positions.tolist(), [gap.position for gap in found.skipped]))
    assert seen == [([11, 0, 10], []), ([1, 2], [9]), ([4, 6], [9, 8, 3, 7, 5])]
    assert told == [("photos", done, 12) for done in (3, 6, 9, 12)]
    assert found.skipped == [gap for batch in run(source) for gap in batch.skipped]
    assert_same(
        list(stream(source, preprocess, ORDER, running)), [batch for batch in run(source) if len(batch.positions)]
    )


def test_a_stream_goes_on_from_a_batch_and_beside_other_passes(source: FolderSource) -> None:
    told: list[tuple[str, int, int]] = []
    running = Running(batch_size=5, progress=lambda *step: told.append(step))
    numbers = [batch.number for batch in stream(source, preprocess, ORDER, running, first=1)]
    assert numbers == [1, 2]
    assert told == [("images", 10, 12), ("images", 12, 12)]
    told.clear()
    assert list(stream(source, preprocess, [5, 7], running, before=12, total=20)) == []
    assert told == [("images", 14, 20)]
    # Nobody has to want to know.
    assert len(list(stream(source, preprocess, [0, 1]))) == 1


def test_leaving_a_stream_ends_its_processes(source: FolderSource) -> None:
    threads = set(threading.enumerate())
    found = stream(source, preprocess, ORDER, Running(batch_size=3, workers=2))
    for batch in found:
        assert batch.number == 0
        break
    assert left_behind(threads) == []
    assert found.skipped == []


def thread_count(images: list[Image.Image]) -> Tensor:
    return torch.full((len(images), 3, 1, 1), float(torch.get_num_threads()))


@pytest.mark.parametrize("workers", [0, 1])
def test_preprocessing_uses_one_thread(source: FolderSource, workers: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        for batch in batches(source, thread_count, order=[0, 1], batch_size=1, workers=workers):
            assert torch.get_num_threads() == 3
            assert batch.pixels.flatten().tolist() == [1.0] * 3
    finally:
        torch.set_num_threads(before)


def one_row_only(images: list[Image.Image]) -> Tensor:
    return torch.zeros(1, 3, 2, 2)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_preprocess_that_loses_rows_is_refused(source: FolderSource, workers: int) -> None:
    with pytest.raises(ImageError) as caught:
        list(batches(source, one_row_only, order=[0, 1], batch_size=2, workers=workers))
    assert str(caught.value).startswith("expected pixels [2, 3, height, width] from preprocess, came [1, 3, 2, 2]")


@pytest.mark.parametrize("workers", [0, 1])
def test_rows_that_are_no_pictures_stop_the_run(workers: int) -> None:
    rows = [(noise(), 0), (torch.zeros(3, 4, 4), 1)]
    with pytest.raises(ImageError, match=r"^expected a PIL image in row 1, came Tensor"):
        list(batches(open_source([rows[0][0], rows[1]]), preprocess, order=[0, 1], batch_size=2, workers=workers))


def test_a_shard_that_vanishes_is_skipped(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "x.tar", {"a.png": encoded(noise(), "PNG")})
    source = open_source(tar)
    tar.unlink()
    (batch,) = batches(source, preprocess, order=[0], batch_size=1)
    assert batch.skipped == (Skipped(0, "unreadable: No such file or directory"),)


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 0},
        {"batch_size": 1, "workers": -1},
        {"batch_size": 1, "first": -1},
        {"batch_size": 1, "thumbnail_size": 0},
        {"batch_size": 1, "order": [12]},
        {"batch_size": 1, "order": [-1]},
    ],
)
def test_impossible_arguments(source: FolderSource, options: dict) -> None:
    with pytest.raises(ValueError, match="must"):
        batches(source, preprocess, **({"order": [0]} | options))


def with_process(images: list[Image.Image]) -> Tensor:
    """The pixels are the number of the process."""
    return torch.full((len(images), 3, 1, 1), float(os.getpid()))


@pytest.mark.parametrize("workers", [0, 2])
def test_decoders_stay_for_the_next_order(source: FolderSource, workers: int) -> None:
    decoders = Decoders(source, preprocess, workers, thumbnail_size=8)
    others = ORDER[::-1][:7]
    for order in (ORDER, others, ORDER):
        assert_same(list(decoders.batches(order, 3)), run(source, order, thumbnail_size=8))
    # An iteration that is broken off leaves nothing behind.
    next(decoders.batches(ORDER, 3))
    assert_same(list(decoders.batches(others, 3)), run(source, others, thumbnail_size=8))
    decoders.close()
    with pytest.raises(ValueError, match="closed"):
        decoders.batches(ORDER, 3)
    same = Decoders(source, with_process, workers)
    seen = [
        {float(value) for batch in same.batches([0, 1, 2, 10], 1) for value in batch.pixels[:, 0, 0, 0]}
        for _ in range(2)
    ]
    assert seen[0] == seen[1]
    assert (float(os.getpid()) in seen[0]) == (workers == 0)
    same.close()


@pytest.mark.parametrize("count", [0, 1, 2, 1000])
def test_processing_order_is_a_permutation(count: int) -> None:
    order = processing_order(count)
    assert sorted(order) == list(range(count))
    assert order == processing_order(count)


def test_processing_order_never_changes() -> None:
    assert processing_order(10) == [5, 0, 7, 1, 8, 2, 9, 6, 4, 3]


def test_processing_order_mixes_sorted_classes() -> None:
    first = np.array(processing_order(10_000)[:100])
    assert abs(first.mean() - 5000) < 1000
    assert len(set((first // 1000).tolist())) == 10
