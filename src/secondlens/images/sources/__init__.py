"""Sets of pictures: folders, lists of files, tar shards and data sets, all read the same way."""

from secondlens.images.sources.base import ImageSource
from secondlens.images.sources.cifar import CifarSource
from secondlens.images.sources.dataset import DatasetSource
from secondlens.images.sources.files import FileListSource, FolderSource
from secondlens.images.sources.opening import open_source
from secondlens.images.sources.subset import SubsetSource, every, subset
from secondlens.images.sources.tar import NestedTarSource, TarSource

__all__ = [
    "CifarSource",
    "DatasetSource",
    "FileListSource",
    "FolderSource",
    "ImageSource",
    "NestedTarSource",
    "SubsetSource",
    "TarSource",
    "every",
    "open_source",
    "subset",
]
