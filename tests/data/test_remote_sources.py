"""Pictures behind URLs and in Parquet files: the same pictures as from a folder, in any process."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pictures import encoded, noise, write_tar

from secondlens.data import UnreadableImage, batches
from secondlens.data.sources import FolderSource, TarSource, open_source
from secondlens.data.sources.parquet import ParquetSource
from secondlens.data.sources.remote import RemoteFolderSource, RemoteTarSource
from secondlens.errors import ImageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "pictures"
    for name in ("b/2.png", "a/1.jpg", "a/.hidden.png", ".cache/0.png", "a/note.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x" if name.endswith("txt") else encoded(noise(), name[-3:].replace("jpg", "jpeg")))
    return root


@pytest.fixture
def memory() -> Iterator[Any]:
    system = fsspec.filesystem("memory")
    yield system
    system.rm("/bucket", recursive=True)


def contents(source: Any) -> list[bytes]:
    return [data if isinstance(data, bytes) else data.read_bytes() for data in map(source.read, range(len(source.ids)))]


def test_a_remote_folder_is_the_folder(folder: Path, memory: Any) -> None:
    memory.put(str(folder), "/bucket/pictures", recursive=True)
    local = FolderSource(folder)
    for url in ("memory://bucket/pictures", "memory://bucket/pictures/", folder.as_uri()):
        source = open_source(url)
        assert isinstance(source, RemoteFolderSource)
        assert source.ids == local.ids == ("a/1.jpg", "b/2.png")
        assert contents(source) == contents(local)
        assert json.loads(json.dumps(source.description)) == {"kind": "remote folder", "location": url}
        assert open_source(source.description["location"]).ids == source.ids
        assert source.path(0) is None


def test_remote_shards_are_the_shards(tmp_path: Path, memory: Any) -> None:
    for number in range(3):
        members = {f"{number}-{row}.png": encoded(noise(), "PNG") for row in range(2)}
        write_tar(tmp_path / f"{number}.tar", {**members, f"{number}-0.txt": b"words"})
    memory.put(str(tmp_path), "/bucket/shards", recursive=True)
    local = TarSource.of(str(tmp_path / "{0..2}.tar"))
    for given in (
        "memory://bucket/shards/{0..2}.tar",
        "memory://bucket/shards/*.tar",
        [f"memory://bucket/shards/{number}.tar" for number in range(3)],
    ):
        source = open_source(given)
        assert isinstance(source, RemoteTarSource)
        assert source.ids == local.ids
        assert contents(source) == contents(local)
        assert open_source(source.description["location"]).ids == source.ids


@pytest.mark.parametrize("kind", ["bytes", "struct"])
def test_parquet(tmp_path: Path, memory: Any, kind: str) -> None:
    pictures = [encoded(noise(), "PNG") for _ in range(7)]
    rows: list[Any] = [*pictures, None]
    column = pa.array(rows, pa.binary())
    if kind == "struct":
        paths = pa.array([f"{row}.png" for row in range(8)])
        column = pa.StructArray.from_arrays([column, paths], ["bytes", "path"])
    table = pa.table({"image": column, "label": pa.array(range(8))})
    for name, part in (("a.parquet", table.slice(0, 5)), ("b.parquet", table.slice(5))):
        pq.write_table(part, tmp_path / name, row_group_size=2)
    memory.put(str(tmp_path), "/bucket/parquet", recursive=True)
    for given in (str(tmp_path / "*.parquet"), tmp_path.glob("*.parquet"), "memory://bucket/parquet/*.parquet"):
        source = open_source(given if isinstance(given, str) else sorted(given))
        assert isinstance(source, ParquetSource)
        assert source.ids == (*(f"a.parquet/{row}" for row in range(5)), *(f"b.parquet/{row}" for row in range(3)))
        assert [source.read(row) for row in (6, 0, 3, 5, 1, 2, 4)] == [pictures[row] for row in (6, 0, 3, 5, 1, 2, 4)]
        with pytest.raises(UnreadableImage, match="row is empty"):
            source.read(7)
        assert source.description["column"] == "image"
        assert open_source(source.description["location"]).ids == source.ids


def test_other_processes_read_them_too(folder: Path) -> None:
    """What a loader's processes and a cluster's workers do."""

    source = open_source(folder.as_uri())
    found = list(batches(source, _pixels, order=[1, 0], batch_size=1, workers=1))
    assert [batch.positions.tolist() for batch in found] == [[1], [0]]


def _pixels(images: list[Any]) -> Any:
    import torch

    return torch.zeros(len(images), 3, 2, 2)


def test_what_cannot_be_read_is_said(tmp_path: Path, folder: Path, memory: Any) -> None:
    memory.pipe("/bucket/empty/readme.txt", b"x")
    memory.pipe("/bucket/bad.tar", b"x" * 2000)
    memory.pipe("/bucket/bad.parquet", b"x" * 200)
    pq.write_table(pa.table({"label": [1]}), tmp_path / "none.parquet")
    pq.write_table(pa.table({"a": [b"x"], "b": [b"x"]}), tmp_path / "two.parquet")
    for given, message in (
        ("memory://bucket/empty", "expected picture files"),
        ("memory://bucket/nowhere", "expected picture files|cannot list"),
        ("memory://bucket/bad.tar", "truncated, damaged or no tar"),
        ("memory://bucket/no.tar", "cannot read memory://bucket/no.tar"),
        ("memory://bucket/no-*.tar", "none matches"),
        ("memory://bucket/bad.parquet", "cannot read memory"),
        ("unheard://bucket/folder", "URL that fsspec knows"),
        (["memory://bucket/a.png", "memory://bucket/b.png"], "one URL of a folder"),
        (str(tmp_path / "none.parquet"), "found none among label"),
        (str(tmp_path / "two.parquet"), "found a, b among a, b"),
        (str(tmp_path / "no-*.parquet"), "none matches"),
    ):
        with pytest.raises(ImageError, match=message):
            open_source(given)
    source = open_source(folder.as_uri())
    (folder / "b" / "2.png").unlink()
    [batch] = batches(source, _pixels, order=[0, 1], batch_size=2)
    assert [gap.position for gap in batch.skipped] == [1]
