"""Sets of pictures: folders, lists of files, tar shards and data sets, all read the same way."""

from secondlens.data.sources.base import ImageSource, SubsetSource, every, subset
from secondlens.data.sources.cifar import CifarSource
from secondlens.data.sources.dataset import DatasetSource
from secondlens.data.sources.files import FileListSource, FolderSource
from secondlens.data.sources.opening import is_one_image, open_source
from secondlens.data.sources.tar import NestedTarSource, TarSource

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
    "is_one_image",
    "open_source",
    "subset",
]
