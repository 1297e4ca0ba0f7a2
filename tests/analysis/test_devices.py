"""Heat maps keep to the model's device and give float32 whatever its precision.

On the meta device tensors have shapes and no values; to mix it with another is an error, as on a GPU.
"""

import pytest
import torch

from builders import SPECS, build
from secondlens.analysis.heatmaps import Options, SharedPass, make_methods, same_for_all
from secondlens.analysis.heatmaps.registry import METHODS
from secondlens.lens import LensModel
from secondlens.lens.families import clip as hf_clip
from secondlens.lens.model import Preprocessing

# Those of the neurons' activations need an atlas; a share of the norms asks for a number, which meta does not have.
NAMES = [name for name in METHODS if name not in ("activation", "signed-activation", "traced-fraction")]


def on_meta(dtype: torch.dtype) -> LensModel:
    module = build(SPECS[0])
    model = LensModel("tiny", "random", module, hf_clip.tower(module), Preprocessing(torch.stack, {}), None)
    return model.to("meta", dtype)


def maps_of(model: LensModel, method: object) -> torch.Tensor:
    height, width = model.tower.image_size
    pixels = torch.randn(2, 3, height, width)
    directions = torch.nn.functional.normalize(torch.randn(3, model.embed_dim), dim=-1)
    return method.maps(SharedPass.of(model, pixels, [method]), same_for_all(directions, 2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_maps_are_made_where_the_model_is(name: str, dtype: torch.dtype) -> None:
    model = on_meta(dtype)
    found = maps_of(model, make_methods(model, [name], options=Options())[0])
    grid = [side // model.tower.patch for side in model.tower.image_size]
    assert list(found.shape) == [2, 3, *grid]
    assert found.device.type == "meta"
    assert found.dtype == torch.float32
