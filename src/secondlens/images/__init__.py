"""Images: sources of pictures, safe decoding, batches. Knows nothing of models."""

from secondlens.images.decode import UnreadableImage, decode, thumbnail
from secondlens.images.loader import Batch, Skipped, batches, processing_order
from secondlens.images.sources import ImageSource, open_source

__all__ = [
    "Batch",
    "ImageSource",
    "Skipped",
    "UnreadableImage",
    "batches",
    "decode",
    "open_source",
    "processing_order",
    "thumbnail",
]
