"""One batch of a survey."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from secondlens.data.loader import Batch
from secondlens.lens.capture import capture
from secondlens.lens.layer import LayerStatistics
from secondlens.lens.model import LensModel
from secondlens.lens.trace import CaptureRequest


def update(model: LensModel, statistics: Sequence[LayerStatistics], batch: Batch) -> Float[Tensor, "image embed"]:
    """One captured forward pass into the statistics of some layers; the images' embeddings, unnormalised."""
    positions = to_device(batch.positions, model.device)
    request = CaptureRequest(layers=[each.layer for each in statistics], low_precision=True)
    trace = capture(model.tower, to_device(batch.pixels, model.device), request)
    for each in statistics:
        each.update(trace, positions)
    return trace.embeddings


def finish(model: LensModel) -> None:
    """Wait until an accelerator has done what it was given."""
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor there. From pinned memory, so that nobody waits until a GPU has done what it was given before."""
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
