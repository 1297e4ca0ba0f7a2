"""The images an atlas was made of, opened again where they still are."""

from pathlib import Path
from typing import Any

from secondlens.atlas.store import Atlas
from secondlens.data.sources import FileListSource, ImageSource, open_source
from secondlens.errors import ImageError, SecondLensError


def surveyed_images(atlas: Atlas) -> ImageSource:
    """The atlas's images; raises `ImageError` where they are no longer where the manifest says, or are others."""
    card: dict[str, Any] = atlas.manifest.images.source
    location, base = card.get("location"), card.get("base")
    try:
        if card.get("kind") == "files" and location == base:
            # A list of files leaves no table: their ids are paths from the base folder.
            source: ImageSource = FileListSource.of([Path(str(base)) / name for name in atlas.source_ids])
        else:
            source = open_source(location)
    except SecondLensError as error:
        raise ImageError(
            f"cannot find the images of the atlas {atlas.folder} again ({error}); give the images to take means over"
        ) from error
    if len(source.ids) != len(atlas.source_ids):
        raise ImageError(
            f"{location} has {len(source.ids)} images now, the atlas {atlas.folder} was made of "
            f"{len(atlas.source_ids)}; give the images to take means over"
        )
    return source
