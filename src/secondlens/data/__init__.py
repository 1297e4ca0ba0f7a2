"""Pictures: where they are, how they are decoded, and how they become batches of pixels."""

from secondlens.data.decode import MAX_PIXELS, UnreadableImage, decode, thumbnail
from secondlens.data.loader import Batch, Preprocess, Skipped, Stream, batches, processing_order, stream
from secondlens.data.sources import (
    DatasetSource,
    FileListSource,
    FolderSource,
    ImageSource,
    TarSource,
    open_source,
)

__all__ = [
    "MAX_PIXELS",
    "Batch",
    "DatasetSource",
    "FileListSource",
    "FolderSource",
    "ImageSource",
    "Preprocess",
    "Skipped",
    "Stream",
    "TarSource",
    "UnreadableImage",
    "batches",
    "decode",
    "open_source",
    "processing_order",
    "stream",
    "thumbnail",
]
