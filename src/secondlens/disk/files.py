"""Files that are whole or absent: written under a temporary name, then renamed."""

import errno
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.torch import save_file
from torch import Tensor

from secondlens.errors import OutputError

ROW_GROUP = 16_384
"""Rows a group of a Parquet file that is written in parts."""


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, atomically."""
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes, atomically."""
    write_whole(path, lambda temporary: temporary.write_bytes(content))


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file, atomically."""
    write_whole(path, lambda temporary: save_file(tensors, temporary, metadata))


def write_table(path: Path, table: pa.Table, row_group: int | None = None) -> None:
    """Write a Parquet file, atomically. row_group: rows that are read together, by default a million."""
    write_whole(path, lambda temporary: pq.write_table(table, temporary, row_group, compression="zstd"))


def write_tables(path: Path, tables: Iterable[pa.Table]) -> None:
    """Write tables of one schema as one Parquet file, atomically; at least one table.

    Row groups have the same size however the rows were split before: the file depends on the rows alone.
    """

    def write(temporary: Path) -> None:
        with ExitStack() as stack:
            writer, left = None, None
            for table in tables:
                writer = writer or stack.enter_context(pq.ParquetWriter(temporary, table.schema, compression="zstd"))
                left = table if left is None else pa.concat_tables([left, table])
                while left.num_rows >= ROW_GROUP:
                    writer.write_table(left.slice(0, ROW_GROUP).combine_chunks())
                    left = left.slice(ROW_GROUP)
            if writer is not None and left is not None and left.num_rows:
                writer.write_table(left.combine_chunks())

    write_whole(path, write)


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn a full disk or a folder without write permission into a message that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise OutputError(
                f"no space left on the disk of {folder}; what was finished is kept: free some space and run the same "
                "command again, it goes on from the last checkpoint"
            ) from error
        if isinstance(error, PermissionError | NotADirectoryError | IsADirectoryError | FileExistsError):
            raise OutputError(f"cannot write to {folder}: {error.strerror}; choose another folder") from error
        raise


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, where there is none; raises `OutputError` where that cannot be."""
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)


def check_folder(folder: Path) -> None:
    """Before what takes long: refuse a folder that could not be made or written to. Nothing is made yet.

    Raises `OutputError` where there is a file in its place, or a folder without write permission.
    """
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise OutputError(f"cannot write to {folder}: {there} is a file; choose another folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write to {folder}: no write permission for {there}; choose another folder")


def check_file(path: Path, *endings: str) -> None:
    """Before what takes long: refuse a file that could not be written. endings: those that it may have; default: any.

    Raises `OutputError` for another ending, a folder of that name, and what `check_folder` refuses.
    """
    if endings and path.suffix.lower() not in endings:
        raise OutputError(f"expected the name of a file that ends in {' or '.join(endings)}, got {path}")
    if path.is_dir():
        raise OutputError(f"expected the name of a file to write, got the folder {path}")
    check_folder(path.parent)


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` write a temporary file beside the path, and rename it when it is on the disk."""
    temporary = path.with_name(f".{path.name}.partial")
    with disk_errors(path.parent):
        try:
            # safetensors makes files that only their owner may read; an atlas is shared like any other file.
            temporary.touch()
            mode = temporary.stat().st_mode
            write(temporary)
            temporary.chmod(mode)
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        except Exception as error:
            temporary.unlink(missing_ok=True)
            # safetensors reports a full disk as an error of its own, with the system's words in it.
            if not isinstance(error, OSError) and "No space left" in str(error):
                raise OSError(errno.ENOSPC, str(error)) from error
            raise
