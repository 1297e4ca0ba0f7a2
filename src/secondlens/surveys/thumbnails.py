"""Thumbnails of a survey as one Parquet file sorted by id, in memory that hardly grows with their number.

1. Read the ids of all parts and sort them: the rank of every row. Read the sizes of the pictures: where each begins
   in a file that holds them in order.
2. Read the parts again, some rows at a time, and write each picture to its place in that file.
3. Write the table from the file, which is mapped into memory: the system gives its pages back when it needs them.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from secondlens.disk.files import disk_errors, write_table

ROWS = 4096
"""Rows that are read at a time."""
TOGETHER = 1024
"""Rows of a row group: who looks some pictures up reads a few megabytes, not all of them."""
LARGEST = 2**31 - 1
"""Bytes that one array of pictures can hold."""


def sort_thumbnails(parts: Sequence[Path], target: Path, scratch: Path) -> None:
    """Write the rows (id, jpeg) of all parts, at least one, sorted by id.

    The file is bit for bit what sorting one table in memory gives, as far as one array can hold it (2 GB of pictures).

    scratch: a file to work in, as large as all pictures; it is removed. Memory: some 100 bytes an image and two to
    three times its id.
    """
    ids = pa.chunked_array([chunk for part in parts for chunk in pq.read_table(part, columns=["id"])["id"].chunks])
    order = pc.sort_indices(ids)
    rows = order.to_numpy()
    sizes = np.concatenate([pc.binary_length(some).to_numpy() for some in _pictures(parts)])
    ends = np.cumsum(sizes[rows], dtype=np.int64)
    starts = np.empty_like(ends)
    starts[rows] = ends - sizes[rows]
    try:
        with disk_errors(scratch.parent), scratch.open("wb") as file:
            row = 0
            for some in _pictures(parts):
                for picture in some:
                    file.seek(starts[row])
                    file.write(picture.as_buffer())
                    row += 1
        with pa.memory_map(str(scratch)) as mapped:
            pictures = pa.chunked_array(_chunks(mapped.read_buffer(), np.concatenate([[0], ends])))
            write_table(target, pa.table({"id": ids.take(order), "jpeg": pictures}), TOGETHER)
    finally:
        scratch.unlink(missing_ok=True)


def _pictures(parts: Sequence[Path]) -> Iterator[pa.BinaryArray]:
    for part in parts:
        # Read as it is needed: a column of a part may be large.
        with pq.ParquetFile(part, buffer_size=1 << 20, pre_buffer=False) as file:
            for batch in file.iter_batches(ROWS, columns=["jpeg"]):
                yield batch.column(0)


def _chunks(data: pa.Buffer, offsets: np.ndarray) -> list[pa.BinaryArray]:
    """Arrays of as many pictures over one buffer as they can hold; offsets: where each begins, and the end."""
    found, first, rows = [], 0, len(offsets) - 1
    while first < rows:
        last = int(np.searchsorted(offsets, offsets[first] + LARGEST, side="right")) - 1
        mine = offsets[first : last + 1]
        here = pa.py_buffer((mine - mine[0]).astype(np.int32))
        there = data.slice(int(mine[0]), int(mine[-1] - mine[0]))
        found.append(pa.Array.from_buffers(pa.binary(), last - first, [None, here, there]))
        first = last
    return found
