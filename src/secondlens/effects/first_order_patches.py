"""Where in the image the heads' direct contributions come from: the attention's sum before it is summed over tokens.

With x[i] the output of the layer norm before a reader, a[h,i] the pooled token's attention, t a direction:

    c[t,i](I) = sum_{readers, heads} a[h,i] <Proj diag(g_post) C W_O[h] (W_V[h] x[i] + b_V[h]), t> / (sigma_post |z|)

(Gandelsman et al. 2024, section 5, there with the last layers only.) A head's attention sums to one, so its value bias
is spread over tokens as its attention is. With `c` summed over tokens, everything else that is written to the pooled
token (its own embedding, MLPs, output biases, the final layer norm's bias) is `rest`:

    sum_i c[t,i](I) + rest[t](I) = <z/|z|, t>
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from secondlens.errors import SecondLensError
from secondlens.models.capture import capture
from secondlens.models.model import LensModel
from secondlens.models.tower import AttentionWeights, VisionTower
from secondlens.models.trace import CaptureRequest


@torch.no_grad()
def first_order_token_contributions(
    model: LensModel,
    pixels: Float[Tensor, "image 3 height width"],
    directions: Float[Tensor, "direction embed"],
    readers: Sequence[int] | None = None,
) -> Float[Tensor, "image direction token"]:
    """Contribution of each token, through the heads of some readers directly, to <z/|z|, direction>.

    directions: unit-norm texts or any other vectors of the joint space. readers: indices into `tower.readers` (layers,
    in a tower with a class token); all by default. Tokens as in the model, class token first where there is one.

    Raises `SecondLensError` for directions of another space or a reader that is not there.
    """
    tower = model.tower
    if directions.ndim != 2 or directions.shape[1] != tower.embed_dim:
        raise SecondLensError(
            f"expected directions [direction, {tower.embed_dim}] in the joint space, got {list(directions.shape)}"
        )
    chosen = set(range(len(tower.readers)) if readers is None else readers)
    if not chosen <= set(range(len(tower.readers))):
        raise SecondLensError(f"expected readers from 0 to {len(tower.readers) - 1}, got {sorted(chosen)}")
    if not chosen:
        raise SecondLensError("expected at least one reader")
    wide = torch.promote_types(model.dtype, torch.float32)
    reads = read_directions(tower, directions.to(model.device, wide))
    found: list[Tensor] = []

    def add(index: int, tokens: Tensor, attention: Tensor) -> None:
        if index in chosen:
            found.append(reader_contributions(tower.readers[index].weights(), reads, tokens, attention))

    trace = capture(tower, pixels, CaptureRequest(first_order=True, on_readout=add))
    scale = 1 / trace.final_scale
    return torch.stack(found).sum(dim=0) * scale[:, None, None]


def reader_contributions(
    weights: AttentionWeights,
    reads: Float[Tensor, "direction width"],
    tokens: Float[Tensor, "image token width"],
    attention: Float[Tensor, "image head token"],
) -> Float[Tensor, "image direction token"]:
    """One reader's part of `c`, times sigma_post |z|; `reads` as `read_directions` makes them."""
    # Folded into the values' weight, a direction is read off the tokens without making any value.
    along = torch.einsum("tw,hwd->htd", reads, weights.output.to(reads))
    folded = torch.einsum("htd,hdw->htw", along, weights.value.to(reads))
    bias = torch.einsum("htd,hd->ht", along, weights.value_bias.to(reads))
    heads, count, width = folded.shape
    read = (tokens @ folded.reshape(-1, width).T).unflatten(-1, (heads, count)) + bias
    return torch.einsum("bhi,biht->bti", attention, read)


def read_directions(tower: VisionTower, directions: Float[Tensor, "direction embed"]) -> Tensor:
    """[direction, width]: C diag(g_post) Proj^T t, so that <Proj diag(g_post) C x, t> is its product with x."""
    read = directions if tower.projection is None else directions @ tower.projection().to(directions)
    if tower.final_norm is None:
        return read
    read = read * tower.final_gain().to(read)
    return read - read.mean(dim=-1, keepdim=True)
