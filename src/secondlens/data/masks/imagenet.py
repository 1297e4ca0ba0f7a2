"""ImageNet-Segmentation (Guillaumin, Kuettel and Ferrari 2014): `gtsegs_ijcv.mat`, 4,276 images with masks.

The file is MATLAB v7.3, that is HDF5: /value/img is [image, 1] of references to arrays [channel, x, y] (MATLAB counts
its axes the other way round), /value/gt is [image, 1] of references to cells that refer to arrays [x, y], 1 for the
object. It holds no class names that a text could be made from: the target is the predicted class. A file saved as
v5, as `scipy.io.savemat` writes, is read as well.
"""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from secondlens.data.masks.base import Masked, MaskedImages, UnusableMask, masked
from secondlens.errors import ImageError, MissingExtra

_HDF5 = b"\x89HDF\r\n\x1a\n"
FILE = "gtsegs_ijcv.mat"


def read_imagenet_segmentation(path: str | Path) -> MaskedImages:
    """The file, or the folder that holds it.

    Raises `ImageError` for a file of another structure, `MissingExtra` for v7.3 without h5py.
    """
    path = Path(path)
    path = path / FILE if path.is_dir() else path
    if not path.is_file():
        raise ImageError(f"expected {FILE} or its folder, there is no file {path}")
    with path.open("rb") as file:
        head = file.read(520)
    # MATLAB writes 512 bytes of its own before the HDF5 signature.
    reader = _v73(path) if _HDF5 in (head[:8], head[512:520]) else _v5(path)
    count, pair = reader

    def read(index: int) -> Masked:
        image, labels = pair(index)
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or labels.ndim != 2:
            raise UnusableMask(
                f"expected an image [y, x, 3] of bytes and a mask [y, x], got {image.shape} and {labels.shape}"
            )
        return masked(Image.fromarray(np.ascontiguousarray(image)), labels == 1, np.isin(labels, (0, 1)))

    digits = len(str(count - 1))
    return MaskedImages(
        ids=tuple(f"{number:0{digits}d}" for number in range(count)),
        names=(None,) * count,
        read=read,
        description={"kind": "imagenet-segmentation", "location": str(path.resolve())},
    )


def _v73(path: Path) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise MissingExtra("h5py", "hdf5", f"reading {path.name} (MATLAB v7.3)") from error
    try:
        file = h5py.File(path, "r")
        images, masks = file["/value/img"], file["/value/gt"]
        count = len(images)
        if images.shape != masks.shape:
            raise KeyError(f"{count} images, {len(masks)} masks")
    except (OSError, KeyError) as error:
        raise ImageError(f"expected /value/img and /value/gt in {path}: {error}") from error

    def pair(index: int) -> tuple[np.ndarray, np.ndarray]:
        image = np.asarray(file[images[index, 0]]).transpose(2, 1, 0)
        return image, np.asarray(file[file[masks[index, 0]][0, 0]]).T

    return count, pair


def _v5(path: Path) -> Any:
    from scipy.io import loadmat

    try:
        value = loadmat(path, simplify_cells=True)["value"]
        images, masks = value["img"], value["gt"]
    except Exception as error:
        raise ImageError(
            f"expected a MATLAB file with value.img and value.gt, cannot read {path}: {str(error)[:200]}"
        ) from error

    def pair(index: int) -> tuple[np.ndarray, np.ndarray]:
        labels = masks[index]
        return np.asarray(images[index]), np.asarray(labels if labels.dtype != object else labels.flat[0])

    return len(images), pair
