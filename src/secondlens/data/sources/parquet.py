"""Pictures in Parquet files: a column of encoded files, as Hugging Face data sets are published."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from glob import glob, has_magic
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from secondlens.data.decode import UnreadableImage
from secondlens.data.sources.base import check_ids
from secondlens.data.sources.remote import is_url, open_url
from secondlens.errors import ImageError

GROUPS = 4
"""Row groups that a process keeps. A picture costs the reading of its group: write few rows a group (some 10)."""


@dataclass(frozen=True)
class ParquetSource:
    """The rows of Parquet files, local or behind URLs, in their order; the ids are `file-name.parquet/row`.

    column: of bytes, or of structs with a field `bytes`; the only such column, or the one named "image". Raises
    `ImageError` where a file is missing or no Parquet, or where there is no such column or more than one.
    """

    files: tuple[str, ...]
    column: str = ""
    ids: tuple[str, ...] = field(init=False, repr=False)
    _places: tuple[tuple[int, int, int], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        ids: list[str] = []
        places: list[tuple[int, int, int]] = []
        for number, file in enumerate(self.files):
            try:
                with _open(file) as opened:
                    if not self.column:
                        object.__setattr__(self, "column", _image_column(opened.schema_arrow, file))
                    groups = [opened.metadata.row_group(group).num_rows for group in range(opened.num_row_groups)]
            except (OSError, pa.ArrowInvalid) as error:
                raise ImageError(f"expected a Parquet file of pictures, cannot read {file}: {error}") from error
            places += [(number, group, row) for group, count in enumerate(groups) for row in range(count)]
            ids += [f"{file.rpartition('/')[2]}/{row}" for row in range(sum(groups))]
        check_ids(ids, "the list of Parquet files")
        object.__setattr__(self, "ids", tuple(ids))
        object.__setattr__(self, "_places", tuple(places))

    @classmethod
    def of(cls, files: str | Path | Sequence[str | Path]) -> "ParquetSource":
        """The pictures of one file, a list of them, or a pattern with asterisks."""
        given = [files] if isinstance(files, str | Path) else files
        found: list[str] = []
        for name in map(str, given):
            if not has_magic(name) or Path(name).exists():
                found.append(name)
            elif is_url(name):
                system, path = open_url(name)
                found += [system.unstrip_protocol(one) for one in sorted(system.glob(path))]
            else:
                # Path.glob takes no absolute pattern.
                found += sorted(glob(name))  # noqa: PTH207
        if not found:
            raise ImageError(f"expected Parquet files, none matches {', '.join(map(str, given))}; check the pattern")
        return cls(tuple(name if is_url(name) else str(Path(name).resolve()) for name in found))

    @property
    def description(self) -> dict[str, Any]:
        """`kind` "parquet"; `location`, the files in order; `column`."""
        return {"kind": "parquet", "location": list(self.files), "column": self.column}

    def read(self, index: int) -> bytes:
        """The bytes of the picture at `index`; `UnreadableImage` for an empty row."""
        number, group, row = self._places[index]
        value = _group(self.files[number], group, self.column)[row].as_py()
        found = value["bytes"] if isinstance(value, dict) else value
        if found is None:
            raise UnreadableImage("no picture: the row is empty")
        return found

    def path(self, index: int) -> None:
        """None: rows are not files."""
        return


@lru_cache(maxsize=GROUPS)
def _group(file: str, group: int, column: str) -> pa.ChunkedArray:
    with _open(file) as opened:
        return opened.read_row_group(group, columns=[column])[column]


def _open(file: str) -> pq.ParquetFile:
    if not is_url(file):
        return pq.ParquetFile(file)
    system, path = open_url(file)
    return pq.ParquetFile(system.open(path, "rb"))


def _image_column(schema: pa.Schema, file: str) -> str:
    names = [found.name for found in schema if _holds_files(found.type)]
    if len(names) == 1 or "image" in names:
        return names[0] if len(names) == 1 else "image"
    raise ImageError(
        f"expected one column of pictures (bytes, or structs with a field bytes) in {file}, found "
        f"{', '.join(names) or 'none'} among {', '.join(schema.names)}; name the column image"
    )


def _holds_files(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(kind.field(number).name == "bytes" for number in range(kind.num_fields))
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
