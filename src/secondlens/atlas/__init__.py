"""The atlas: a folder with a manifest, a safetensors file a layer, the images' ids and thumbnails."""

from secondlens.atlas.manifest import Manifest
from secondlens.atlas.store import Atlas, AtlasLayer, SkippedImage

__all__ = ["Atlas", "AtlasLayer", "Manifest", "SkippedImage"]
