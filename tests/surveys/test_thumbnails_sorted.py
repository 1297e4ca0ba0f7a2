"""Thumbnails sorted on disk: the file that sorting in memory gives, and the memory of a part of it."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from secondlens.disk.files import write_table
from secondlens.errors import OutputError
from secondlens.surveys import finish
from secondlens.surveys.finish import ROWS, TOGETHER, sort_thumbnails


def write_parts(folder: Path, counts: list[int], size: int) -> list[Path]:
    """Parts with ids in random order and pictures of random bytes, of size / 2 to 3 size / 2."""
    rng = np.random.default_rng(0)
    names = iter(rng.permutation(sum(counts)).tolist())
    parts = []
    for number, count in enumerate(counts):
        ids = [f"n{name % 7}/bild-ä{name}.jpg" for _, name in zip(range(count), names, strict=False)]
        pictures = [rng.bytes(int(length)) for length in rng.integers(size // 2, 3 * size // 2, count)]
        parts.append(folder / f"part-{number}.parquet")
        write_table(parts[-1], pa.table({"id": pa.array(ids), "jpeg": pa.array(pictures, pa.binary())}))
    return parts


def sort_in_memory(parts: list[Path], target: Path) -> None:
    write_table(target, pa.concat_tables([pq.read_table(part) for part in parts]).sort_by("id"), TOGETHER)


@pytest.mark.parametrize(
    ("counts", "size"),
    [([1], 100), ([3, 1, 5], 2000), ([ROWS], 40), ([ROWS + 1, 10, 2 * ROWS - 5], 40), ([700, 1500, 3000], 3000)],
)
def test_bit_for_bit_as_in_memory(counts: list[int], size: int, tmp_path: Path) -> None:
    parts = write_parts(tmp_path, counts, size)
    sort_thumbnails(parts, tmp_path / "sorted", tmp_path / "scratch")
    sort_in_memory(parts, tmp_path / "expected")
    assert (tmp_path / "sorted").read_bytes() == (tmp_path / "expected").read_bytes()
    groups = pq.ParquetFile(tmp_path / "sorted").metadata
    assert groups.num_row_groups == max(1, -(-sum(counts) // TOGETHER))
    assert not (tmp_path / "scratch").exists()


def test_memory_is_that_of_some_rows(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, [5 * ROWS, 5 * ROWS], 1500)
    default = pa.default_memory_pool()
    peaks = {}
    for sort, target in ((sort_in_memory, "a"), (lambda *places: sort_thumbnails(*places, tmp_path / "scratch"), "b")):
        pool = pa.proxy_memory_pool(default)
        pa.set_memory_pool(pool)
        try:
            sort(parts, tmp_path / target)
        finally:
            pa.set_memory_pool(default)
        peaks[target] = pool.max_memory()
    # Measured: 3.05 and 0.35 times the pictures, the latter mostly what the writer holds of a page and a dictionary.
    pictures = 10 * ROWS * 1500
    assert peaks["b"] < pictures / 2 < pictures < peaks["a"]


def test_more_than_one_array_can_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finish, "LARGEST", 5000)
    parts = write_parts(tmp_path, [40, 30], 1000)
    sort_thumbnails(parts, tmp_path / "sorted", tmp_path / "scratch")
    sort_in_memory(parts, tmp_path / "expected")
    assert pq.read_table(tmp_path / "sorted").equals(pq.read_table(tmp_path / "expected"))


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, [5], 100)
    (tmp_path / "taken").mkdir()
    with pytest.raises(OutputError, match="cannot write to"):
        sort_thumbnails(parts, tmp_path / "taken", tmp_path / "scratch")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["part-0.parquet", "taken"]
