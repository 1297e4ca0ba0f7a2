"""Sets of pictures: folders, lists of files, tar shards and data sets, all read the same way."""

from secondlens.images.sources.base import ImageSource
from secondlens.images.sources.dataset import DatasetSource
from secondlens.images.sources.files import FileListSource, FolderSource
from secondlens.images.sources.opening import open_source
from secondlens.images.sources.tar import TarSource

__all__ = ["DatasetSource", "FileListSource", "FolderSource", "ImageSource", "TarSource", "open_source"]
