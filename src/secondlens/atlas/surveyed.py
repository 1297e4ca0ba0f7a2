"""The images an atlas was made of, opened again where they still are.

An atlas keeps the ids of its images and their embeddings, no hashes of their content. So other ids are seen when the
images are opened, and other content under the same id when the model sees it: `require_unchanged`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from PIL import Image
from torch import Tensor

from secondlens.atlas.store import Atlas
from secondlens.data.sources import FileListSource, ImageSource, open_source
from secondlens.errors import AtlasError, ImageError, SecondLensError

COSINE = 0.995
"""Of an image's embeddings in the survey and now: of one image, it is larger in any precision and on any hardware; of
two, it is far smaller.
"""


@dataclass(frozen=True)
class SurveyedImages:
    """The images of an atlas, an `ImageSource` with the ids of `atlas.source_ids`."""

    atlas: Atlas
    source: ImageSource

    @property
    def ids(self) -> Sequence[str]:
        """Those of the source."""
        return self.source.ids

    @property
    def description(self) -> dict[str, Any]:
        """That of the source."""
        return self.source.description

    def read(self, index: int) -> bytes | Path | Image.Image:
        """Read the image at `index`."""
        return self.source.read(index)

    def path(self, index: int) -> Path | None:
        """Return its file, where the source has one."""
        return self.source.path(index)


def surveyed_images(atlas: Atlas, images: str | Path | None = None) -> SurveyedImages:
    """Open the images of a survey from where they were, or from `images`, where they are now.

    Raises `ImageError` where there are none, or others than those surveyed; it names the first other one.
    """
    card: dict[str, Any] = atlas.manifest.images.source
    place = card.get("location") if images is None else images
    try:
        if images is None and card.get("kind") == "files":
            # Their ids are their paths: what listed them is not needed.
            source: ImageSource = FileListSource(tuple(atlas.source_ids), base=Path(str(card["base"])))
        else:
            source = open_source(place)
    except SecondLensError as error:
        raise ImageError(
            f"cannot find the images of the atlas {atlas.folder} again ({error}); give the place where they are now"
        ) from error
    other = next((pair for pair in zip_longest(atlas.source_ids, source.ids) if pair[0] != pair[1]), None)
    if other is not None:
        raise ImageError(
            f"expected the {len(atlas.source_ids)} images of the survey, {place} has {len(source.ids)} images now, "
            f"{_name(other[1])} in the place of {_name(other[0])}; give the place where they are now"
        )
    return SurveyedImages(atlas, source)


def _name(image: str | None) -> str:
    return "none" if image is None else repr(image)


def require_unchanged(
    source: ImageSource, positions: Int64[Tensor, " image"], embeddings: Float[Tensor, "image embed"]
) -> None:
    """Raise `ImageError` naming an image of an atlas that has another embedding now than in the survey.

    embeddings: of the images at `positions`, of any norm. Of a source other than `SurveyedImages`, and of an older
    atlas, which keeps no embeddings, nothing is required.
    """
    if not isinstance(source, SurveyedImages):
        return
    try:
        kept = source.atlas.image_embeddings[positions]
    except AtlasError:
        return
    changed = torch.nn.functional.cosine_similarity(embeddings.float().cpu(), kept) < COSINE
    if changed.any():
        name = source.ids[int(positions[changed][0])]
        raise ImageError(
            f"{name} is not the image of that name that was surveyed: expected the embedding that "
            f"{source.atlas.folder} keeps, got another. Restore the image, or survey the images again."
        )
