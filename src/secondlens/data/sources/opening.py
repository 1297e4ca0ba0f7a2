"""From whatever names or holds pictures to an `ImageSource`."""

from pathlib import Path
from typing import Any

from secondlens.data.sources.base import ImageSource, has_picture_extension
from secondlens.data.sources.dataset import SAVED, DatasetSource
from secondlens.data.sources.files import FileListSource, FolderSource
from secondlens.data.sources.parquet import ParquetSource
from secondlens.data.sources.remote import RemoteFolderSource, RemoteTarSource, is_url
from secondlens.data.sources.tar import TarSource
from secondlens.data.sources.zip import ZipSource
from secondlens.errors import ImageError

_TAR_SUFFIXES = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")
_PARQUET = ".parquet"
_TABLE_SUFFIXES = (".csv", ".txt")


def open_source(images: Any) -> ImageSource:
    """The pictures that `images` names or holds.

    ==================================================  ==================
    `str` or `Path` of a folder                         `FolderSource`
    ... of a `.csv` or `.txt`, or of one picture        `FileListSource`
    ... of a `.tar`, or a brace or glob pattern of them `TarSource`
    ... of a `.zip`                                     `ZipSource`
    ... of a `.parquet`, or a glob pattern of them      `ParquetSource`
    `"datasets:FOLDER[:split]"`                         `DatasetSource`
    a URL (`s3://...`) of a folder, `.tar`, `.parquet`  `RemoteFolderSource`, `RemoteTarSource`, `ParquetSource`
    list or tuple of picture paths                      `FileListSource`
    list or tuple of `.tar` paths or URLs               `TarSource`, `RemoteTarSource`
    list or tuple of `.parquet` paths or URLs           `ParquetSource`
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
    if isinstance(images, str) and is_url(images):
        return _open_url([images])
    if isinstance(images, str | Path):
        return _open_path(Path(images))
    if isinstance(images, list | tuple) and all(isinstance(image, str | Path) for image in images):
        if images and all(is_url(str(image)) for image in images):
            return _open_url(list(map(str, images)))
        if images and all(str(image).lower().endswith(_TAR_SUFFIXES) for image in images):
            return TarSource.of(images)
        if images and all(str(image).lower().endswith(_PARQUET) for image in images):
            return ParquetSource.of(images)
        return FileListSource.of(images)
    if hasattr(images, "__getitem__") or hasattr(images, "__iter__"):
        return DatasetSource.of(images)
    raise ImageError(
        f"expected a folder, a list of files, tar shards or a data set of pictures, came {type(images).__name__}"
    )


def is_one_image(images: str | Path) -> bool:
    """Whether `open_source` reads this as one image file, and not as a set; a folder or table of one is a set."""
    return has_picture_extension(str(images)) and Path(images).is_file()


def _open_url(urls: list[str]) -> ImageSource:
    if all(url.lower().endswith(_TAR_SUFFIXES) for url in urls):
        return RemoteTarSource.of(urls)
    if all(url.lower().endswith(_PARQUET) for url in urls):
        return ParquetSource.of(urls)
    if len(urls) == 1:
        return RemoteFolderSource(urls[0])
    raise ImageError(
        f"expected one URL of a folder, or URLs of .tar or of .parquet files, came {len(urls)} others "
        f"(first: {urls[0]}); give them as shards"
    )


def _open_path(path: Path) -> ImageSource:
    name = path.name.lower()
    if path.is_dir():
        return FolderSource(path)
    if name.endswith(_TAR_SUFFIXES):
        return TarSource.of(path)
    if name.endswith(_PARQUET):
        return ParquetSource.of(path)
    if name.endswith(".zip"):
        return ZipSource(path)
    if not path.exists():
        raise ImageError(f"expected a folder, a table or tar shards of pictures, {path} does not exist; check the path")
    if name.endswith(_TABLE_SUFFIXES):
        return FileListSource.from_table(path)
    if is_one_image(path):
        return FileListSource.of([path])
    raise ImageError(
        f"expected a folder, a .csv or .txt table, .tar shards, a .zip, .parquet files or a picture, came the file "
        f"{path}; give it one of those extensions if it is one"
    )
