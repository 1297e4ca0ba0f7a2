"""Pictures that are files of their own: a folder, or a list of paths."""

import csv
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from secondlens.data.decode import EXTENSIONS
from secondlens.data.sources.base import check_ids, has_picture_extension, text_id
from secondlens.errors import ImageError


@dataclass(frozen=True)
class FolderSource:
    """Every picture file under `root`, at any depth, in the order of the POSIX paths relative to it: the ids.

    Hidden files and folders are left out. Symbolic links are followed, except to a folder they lie in. A file
    with a picture's extension is listed whatever it contains: reading it gives the reason why it is skipped.
    Raises `ImageError` if `root` is no folder or holds no picture file.
    """

    root: Path
    ids: tuple[str, ...] = field(init=False, repr=False)
    _files: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.root.is_dir():
            raise ImageError(f"expected a folder of pictures, {self.root} is not a folder; check the path")
        try:
            files = tuple(sorted(_picture_files(self.root)))
        except OSError as error:
            raise ImageError(
                f"expected a readable folder of pictures, cannot list {error.filename}: {error.strerror}"
            ) from error
        if not files:
            raise ImageError(
                f"expected picture files in {self.root}, found none; "
                f"extensions looked for: {' '.join(sorted(EXTENSIONS))}"
            )
        object.__setattr__(self, "_files", files)
        object.__setattr__(self, "ids", tuple(map(text_id, files)))
        check_ids(self.ids, f"the folder {self.root}")

    @property
    def description(self) -> dict[str, Any]:
        """`kind` "folder"; `location`, the absolute path of the folder."""
        return {"kind": "folder", "location": str(self.root.resolve())}

    def read(self, index: int) -> Path:
        """The file of the picture at `index`."""
        return self.path(index)

    def path(self, index: int) -> Path:
        """The file of the picture at `index`."""
        return self.root / self._files[index]


def _picture_files(root: Path) -> Iterator[str]:
    # Each folder goes with the real paths of the folders above it: a link back to one of those is a loop.
    waiting: list[tuple[str, frozenset[str]]] = [("", frozenset())]
    while waiting:
        folder, above = waiting.pop()
        real = os.path.realpath(root / folder)
        if real in above:
            continue
        with os.scandir(root / folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                name = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_dir():
                    waiting.append((name, above | {real}))
                elif has_picture_extension(entry.name):
                    yield name


@dataclass(frozen=True)
class FileListSource:
    """The given files in the given order; the ids are the paths as given, in POSIX form.

    Relative paths are relative to `base`. `table` is the CSV or text file that named the paths, if any.
    Raises `ImageError` for an empty list and for a path given twice. Whether the files exist is seen when
    they are read.
    """

    files: tuple[str, ...]
    base: Path = field(default_factory=Path.cwd)
    table: Path | None = None
    ids: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", tuple(text_id(PurePath(file).as_posix()) for file in self.files))
        check_ids(self.ids, str(self.table) if self.table else "the list of files")

    @classmethod
    def of(cls, files: Sequence[str | Path]) -> "FileListSource":
        """The pictures of a list of paths, relative ones being relative to the working directory."""
        return cls(tuple(map(str, files)))

    @classmethod
    def from_table(cls, table: Path) -> "FileListSource":
        """The pictures named by a CSV with a column `file`, or by a text file with one path a line.

        Relative paths are relative to the table's own folder. Raises `ImageError` if the table is missing, is
        no UTF-8 text, or has no column `file` or an empty cell in it.
        """
        try:
            text = table.read_text(encoding="utf-8-sig")
        except OSError as error:
            raise ImageError(f"expected a table of files, cannot read {table}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ImageError(f"expected UTF-8 text, {table} is in another encoding; save it as UTF-8") from error
        if table.suffix.lower() == ".csv":
            files = _file_column(table, text)
        else:
            files = tuple(line.strip() for line in text.split("\n") if line.strip())
        return cls(files, base=table.parent, table=table)

    @property
    def description(self) -> dict[str, Any]:
        """`kind` "files"; `location`, the table or else the base folder; `base`, where relative ids start."""
        base = str(self.base.resolve())
        return {"kind": "files", "location": str(self.table.resolve()) if self.table else base, "base": base}

    def read(self, index: int) -> Path:
        """The file of the picture at `index`."""
        return self.path(index)

    def path(self, index: int) -> Path:
        """The file of the picture at `index`."""
        return self.base / self.files[index]


def _file_column(table: Path, text: str) -> tuple[str, ...]:
    rows = csv.DictReader(io.StringIO(text))
    if "file" not in (rows.fieldnames or ()):
        raise ImageError(
            f"expected a column 'file' in {table}, its columns are {list(rows.fieldnames or ())}; "
            "name the column that holds the paths 'file'"
        )
    files = [(rows.line_num, row["file"]) for row in rows]
    empty = [number for number, file in files if not file]
    if empty:
        raise ImageError(f"expected a path in every row of {table}, line {empty[0]} has no 'file'")
    return tuple(file for _, file in files)
