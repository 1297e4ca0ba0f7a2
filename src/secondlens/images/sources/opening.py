"""From whatever names or holds pictures to an `ImageSource`."""

from pathlib import Path
from typing import Any

from secondlens.errors import ImageError
from secondlens.images.sources.base import ImageSource, has_picture_extension
from secondlens.images.sources.dataset import SAVED, DatasetSource
from secondlens.images.sources.files import FileListSource, FolderSource
from secondlens.images.sources.tar import TarSource

_TAR_SUFFIXES = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")
_TABLE_SUFFIXES = (".csv", ".txt")


def open_source(images: Any) -> ImageSource:
    """The pictures that `images` names or holds.

    ==================================================  ==================
    `str` or `Path` of a folder                         `FolderSource`
    ... of a `.csv` or `.txt`, or of one picture        `FileListSource`
    ... of a `.tar`, or a brace or glob pattern of them `TarSource`
    `"datasets:FOLDER[:split]"`                         `DatasetSource`
    list or tuple of picture paths                      `FileListSource`
    list or tuple of `.tar` paths                       `TarSource`
    list of PIL images, map-style or Hugging Face set   `DatasetSource`
    `ImageSource`                                       itself
    ==================================================  ==================

    Raises `ImageError` for anything else and for whatever the sources refuse, `MissingExtra` for `datasets:`
    without that library.
    """
    if isinstance(images, ImageSource):
        return images
    if isinstance(images, str) and images.startswith(SAVED):
        return DatasetSource.from_disk(images)
    if isinstance(images, str | Path):
        return _open_path(Path(images))
    if isinstance(images, list | tuple) and all(isinstance(image, str | Path) for image in images):
        if images and all(str(image).lower().endswith(_TAR_SUFFIXES) for image in images):
            return TarSource.of(images)
        return FileListSource.of(images)
    if hasattr(images, "__getitem__") or hasattr(images, "__iter__"):
        return DatasetSource.of(images)
    raise ImageError(
        f"expected a folder, a list of files, tar shards or a data set of pictures, came {type(images).__name__}"
    )


def _open_path(path: Path) -> ImageSource:
    name = path.name.lower()
    if path.is_dir():
        return FolderSource(path)
    if name.endswith(_TAR_SUFFIXES):
        return TarSource.of(path)
    if not path.exists():
        raise ImageError(f"expected a folder, a table or tar shards of pictures, {path} does not exist; check the path")
    if name.endswith(_TABLE_SUFFIXES):
        return FileListSource.from_table(path)
    if has_picture_extension(name):
        return FileListSource.of([path])
    raise ImageError(
        f"expected a folder, a .csv or .txt table, .tar shards or a picture, came the file {path}; "
        "give it one of those extensions if it is one"
    )
