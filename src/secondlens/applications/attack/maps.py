"""Where in a picture the push to the wrong class comes from."""

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from secondlens.lens.model import LensModel
from secondlens.lens.paths import Convention
from secondlens.lens.second_order import patch_contributions

# Okabe and Ito's vermilion and blue: to the predicted class, and to the shown one.
TO_PREDICTED, TO_SHOWN = np.array([213, 94, 0]), np.array([0, 114, 178])
STRENGTH = 0.75


@torch.no_grad()
def attribution_map(
    model: LensModel,
    picture: Image.Image,
    vector: Float[Tensor, " embed"],
    layers: list[int],
    convention: Convention = "centred",
) -> Float[Tensor, "row column"]:
    """Each patch's contribution, through the neurons of some layers, to <z/|z|, v/|v|>; the class token's is left out.

    Positive where a patch speaks for the predicted class. Sums over layers are exact: see `effects.patches`.
    """
    direction = torch.nn.functional.normalize(vector, dim=0)[None].to(model.device)
    pixels = model.preprocess([picture])
    total = sum(patch_contributions(model, pixels, layer, direction, convention)[0, 0] for layer in layers)
    assert isinstance(total, Tensor)
    height, width = (side // model.tower.patch for side in model.tower.image_size)
    return total[-height * width :].reshape(height, width).float().cpu()


def overlay(picture: Image.Image, values: Float[Tensor, "row column"]) -> Image.Image:
    """The picture in grey, tinted by the map: vermilion to the predicted class, blue to the shown one."""
    array = values.numpy()
    scale = float(np.abs(array).max()) or 1.0
    small = Image.fromarray((array / scale).astype(np.float32))
    wide = np.asarray(small.resize(picture.size, Image.Resampling.BICUBIC)).clip(-1, 1)[..., None]
    grey = np.asarray(picture.convert("L").convert("RGB"), dtype=np.float32)
    tint = np.where(wide > 0, TO_PREDICTED, TO_SHOWN)
    alpha = STRENGTH * np.abs(wide)
    return Image.fromarray((grey * (1 - alpha) + tint * alpha).astype(np.uint8))
