"""The self-check of a loaded model: does what the lens recomputes from captured parts equal what the model computed?

It catches whatever an adapter does not know of (LayerScale, register tokens, norms on queries and keys, another
pooling) without a list of names: on a random image

- every reader's output at the pooled token, recomputed from its attention row, must equal the change of the residual
  stream there, less the MLP's output;
- the layer norm and projection of the sum of all direct contributions must equal the embedding.
"""

import torch
from torch import Tensor

from secondlens.errors import ModelError
from secondlens.lens.capture import capture, pooled_output
from secondlens.lens.model import LensModel, SelfCheck
from secondlens.lens.tower import VisionTower
from secondlens.lens.trace import POOL_MLP, CaptureRequest, Trace

# float32 through some dozen layers: random towers of real size measure 1e-7 to 2e-6.
TOLERANCE = 1e-4


@torch.no_grad()
def check_model(model: LensModel, *, images: int = 2, seed: int = 0) -> SelfCheck:
    """Relative errors on random images, in the precision the model has now.

    Raises `ModelError` with the measured errors where one exceeds `TOLERANCE`.
    """
    tower = model.tower
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randn(images, 3, *tower.image_size, generator=generator)
    trace = capture(tower, pixels, CaptureRequest(first_order=True))
    result = measure(tower, trace)
    if not max(result.attention_error, result.embedding_error) <= TOLERANCE:
        raise ModelError(
            f"{model.reference}: the lens cannot describe this model: recomputed from captured parts, attention "
            f"outputs differ by {result.attention_error:.1e} and the embedding by {result.embedding_error:.1e} "
            f"(relative; expected at most {TOLERANCE:.0e}). The {model.family} adapter does not know something that "
            "this model does"
        )
    return result


def measure(tower: VisionTower, trace: Trace) -> SelfCheck:
    """Both relative errors of a first-order trace."""
    outputs = [_reader_output(tower, trace, index) for index in range(len(tower.readers))]
    if tower.final_norm is None:
        assert tower.pool_mlp is not None
        written = tower.pool_mlp.write(trace.pooled_activations[POOL_MLP])
        attention = relative_error(outputs[0], trace.embeddings - written)
        return SelfCheck(attention, relative_error(outputs[0] + written, trace.embeddings))

    residuals = [trace.readouts[index].pooled_resid_pre for index in range(len(tower.readers))]
    residuals.append(trace.pooled_resid_post)
    total, errors = residuals[0], []
    assert total is not None
    for layer, mlp in enumerate(tower.mlps):
        written = mlp.write(trace.pooled_activations[layer])
        before, after = residuals[layer], residuals[layer + 1]
        assert before is not None
        assert after is not None
        errors.append(relative_error(outputs[layer], after - before - written))
        total = total + outputs[layer] + written
    norm = tower.final_norm
    normed = torch.nn.functional.layer_norm(
        total, norm.normalized_shape, norm.weight.to(total), norm.bias.to(total), norm.eps
    )
    return SelfCheck(max(errors), relative_error(tower.project(normed), trace.embeddings))


def _reader_output(tower: VisionTower, trace: Trace, index: int) -> Tensor:
    weights, mixed = tower.readers[index].weights(), trace.readouts[index].mixed
    assert mixed is not None
    return pooled_output(weights, mixed)


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """max over images of |ours - theirs| / |theirs|."""
    return float(((ours - theirs).norm(dim=-1) / theirs.norm(dim=-1)).max())
