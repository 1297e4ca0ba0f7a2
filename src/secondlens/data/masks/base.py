"""What every set of images with masks offers."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped
from PIL import Image

from secondlens.data import UnreadableImage, decode
from secondlens.errors import ImageError


class UnusableMask(ImageError):
    """A mask that does not fit its image or cannot be read: the image is left out and counted."""


@dataclass(frozen=True)
class Masked:
    """One image and what is in it. mask: the foreground; valid: False for void pixels. Both [height, width]."""

    image: Image.Image
    mask: Bool[np.ndarray, "y x"]
    valid: Bool[np.ndarray, "y x"]


@dataclass(frozen=True)
class MaskedImages:
    """Images with masks, each read when asked for.

    ids: unique and stable. names: what the foreground is, None where the set does not say. read: by position; raises
    `UnreadableImage` or `UnusableMask` for one that cannot be used. description: how to find the set again, for JSON.
    """

    ids: tuple[str, ...]
    names: tuple[str | None, ...]
    read: Callable[[int], Masked]
    description: dict[str, Any]

    def __post_init__(self) -> None:
        where = self.description.get("location")
        if not self.ids:
            raise ImageError(f"expected at least one image with a mask, {where} has none")
        if len(set(self.ids)) < len(self.ids):
            twice = next(name for name in self.ids if self.ids.count(name) > 1)
            raise ImageError(f"expected every image once, {where} has {twice!r} several times; remove the repetitions")

    def __len__(self) -> int:
        return len(self.ids)


def read_labels(path: Path) -> Shaped[np.ndarray, "y x"]:
    """The numbers in a mask file: palette indices, grey levels, or bits. Raises `UnusableMask`."""
    try:
        with Image.open(path) as opened:
            # Colours of a palette mean nothing here, its indices do; an alpha channel and colours are made grey.
            image = opened if opened.mode in ("1", "L", "P", "I", "I;16", "F") else opened.convert("L")
            values = np.asarray(image)
    except FileNotFoundError as error:
        raise UnusableMask(f"no mask {path}") from error
    # Decoders meet damaged bytes with any exception there is.
    except Exception as error:
        raise UnusableMask(f"unreadable mask {path}: {' '.join(str(error).split())[:120]}") from error
    return values.astype(np.uint8) if values.dtype == bool else values


def binary(
    labels: Shaped[np.ndarray, "y x"], void: int | None = None
) -> tuple[Bool[np.ndarray, "y x"], Bool[np.ndarray, "y x"]]:
    """Foreground and valid pixels of a mask file.

    void: a value whose pixels count nowhere. Else every label but 0 is foreground; a grey mask, one with values of
    250 or more besides the void ones (255 for white, 254 after JPEG), is cut at 128.
    """
    valid = np.ones(labels.shape, bool) if void is None else labels != void
    grey = labels[valid].size > 0 and labels[valid].max() >= 250
    return (labels >= 128 if grey else labels > 0) & valid, valid


def masked(image: Image.Image, mask: Bool[np.ndarray, "y x"], valid: Bool[np.ndarray, "y x"]) -> Masked:
    """An image with its mask; raises `UnusableMask` where they differ in size or every pixel is void."""
    if mask.shape != (image.height, image.width):
        raise UnusableMask(
            f"the mask is {mask.shape[1]} x {mask.shape[0]} pixels, the image {image.width} x {image.height}"
        )
    if not valid.any():
        raise UnusableMask("every pixel of the mask is void")
    return Masked(image, mask, valid)


def read_image(path: Path) -> Image.Image:
    """An upright RGB image; raises `UnreadableImage` with the file's name."""
    try:
        return decode(path)
    except UnreadableImage as error:
        raise UnreadableImage(f"{error.reason} ({path})") from error
