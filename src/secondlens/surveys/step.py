"""One batch of a survey."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from secondlens.effects.layer import LayerStatistics
from secondlens.images.loader import Batch
from secondlens.models.capture import capture
from secondlens.models.model import LensModel
from secondlens.models.trace import CaptureRequest


def update(model: LensModel, statistics: Sequence[LayerStatistics], batch: Batch) -> Float[Tensor, "image embed"]:
    """One captured forward pass into the statistics of some layers; the images' embeddings, unnormalised."""
    positions = to_device(batch.positions, model.device)
    request = CaptureRequest(layers=[found.layer for found in statistics], low_precision=True)
    trace = capture(model.tower, to_device(batch.pixels, model.device), request)
    for found in statistics:
        found.update(trace, positions)
    return trace.embeddings


def fix_reference(
    model: LensModel, statistics: Sequence[LayerStatistics], batch: Batch, candidates: int
) -> Float[Tensor, "image embed"]:
    """Start afresh around the mean of one batch, with no image held: what follows costs what most of a survey does."""
    for found in statistics:
        found.restart(len(batch.positions))
    embeddings = update(model, statistics, batch)
    for found in statistics:
        begun = found.shard_state()
        found.restart(max(candidates, len(batch.positions)))
        found.load_state_dict(begun)
    return embeddings


def finish(model: LensModel) -> None:
    """Wait until an accelerator has done what it was given."""
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor there. From pinned memory, so that nobody waits until a GPU has done what it was given before."""
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
