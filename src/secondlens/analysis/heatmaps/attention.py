"""Heat maps from attention alone, and from the direct contributions of heads."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from secondlens.analysis.heatmaps.base import PlainMethod, SharedPass, distinct
from secondlens.analysis.heatmaps.mixing import Mixing, back_to_input
from secondlens.lens.first_order import read_directions, reader_contributions


@dataclass(frozen=True)
class RawAttention(PlainMethod):
    """The last attention from the pooled token to each patch, mean over heads.

    H[i] = 1/heads sum_h A[last,h,pooled,i]
    """

    name: str = "raw-attention"

    def maps(
        self, shared: SharedPass, targets: Float[Tensor, "image target embed"]
    ) -> Float[Tensor, "image target row column"]:
        """One map an image, repeated for every target."""
        shared.check_targets(targets)
        last = len(shared.model.tower.readers) - 1
        rows = shared.to_grid(shared.trace.readouts[last].attention.mean(dim=1))
        return rows[:, None].expand(-1, targets.shape[1], -1, -1)


@dataclass(frozen=True)
class Rollout(PlainMethod):
    """Attention rollout (Abnar and Zuidema 2020): attention through all layers, the residual stream as an identity.

    B[l] = (I + 1/heads sum_h A[l,h]) / 2
    H    = the pooled query's row of B[last] ... B[1] B[0]

    With an attention-pooling head the row is that head's attention (mean over heads) times the product.
    attentions: how many the tower has. mixing: another B than the paper's.
    """

    attentions: int
    mixing: Mixing = "attention"
    name: str = "rollout"

    @property
    def depths(self) -> Mapping[Mixing, int]:
        """All attentions."""
        return {self.mixing: self.attentions}

    def maps(
        self, shared: SharedPass, targets: Float[Tensor, "image target embed"]
    ) -> Float[Tensor, "image target row column"]:
        """One map an image, repeated for every target."""
        shared.check_targets(targets)
        mixing = shared.mixing(self.mixing, self.attentions)
        if shared.model.tower.pool_mlp is None:
            row = torch.zeros_like(mixing[0][:, 0])
            row[:, 0] = 1
        else:
            row = shared.trace.readouts[0].attention.mean(dim=1)
        rows = back_to_input({len(mixing): row[:, None]}, mixing)
        return shared.to_grid(rows).expand(-1, targets.shape[1], -1, -1)


@dataclass(frozen=True)
class MaskCLIP(PlainMethod):
    """The text's similarity to the embedding that each token alone would give (Zhou, Loy and Dai, ECCV 2022).

    H[i] = <e[i] / |e[i]|, t>,    e[i] = finish(sum_h W_O[h] (W_V[h] x[i] + b_V[h]) + b_O)

    x[i] is the output of the layer norm before the last readout attention, `finish` what follows that attention: the
    final layer norm and the projection, or the rest of an attention-pooling head.
    """

    name: str = "mask-clip"

    @property
    def direct(self) -> bool:
        """Return True: the tokens of the last readout attention are read."""
        return True

    @torch.no_grad()
    def maps(
        self, shared: SharedPass, targets: Float[Tensor, "image target embed"]
    ) -> Float[Tensor, "image target row column"]:
        """Return cosine similarities, from the shared pass alone."""
        shared.check_targets(targets)
        tower, tokens = shared.model.tower, shared.direct[-1].tokens
        weights = tower.readers[-1].weights()
        values = torch.einsum("biw,hdw->bihd", tokens, weights.value.to(tokens)) + weights.value_bias.to(tokens)
        output = torch.einsum("bihd,hwd->biw", values, weights.output.to(tokens)) + weights.output_bias.to(tokens)
        alone = tower.finish(output.flatten(0, 1).to(shared.model.dtype)).unflatten(0, output.shape[:2])
        alone = torch.nn.functional.normalize(alone.to(tokens), dim=-1)
        return shared.to_grid(torch.einsum("bie,bte->bti", alone, targets.to(tokens)))


@dataclass(frozen=True)
class TextSpan(PlainMethod):
    """First-order token map (Gandelsman et al. 2024, section 5): each token's direct contribution through all heads.

    H[i] = sum_{readers, heads} a[h,i] <Proj diag(g_post) C W_O[h] (W_V[h] x[i] + b_V[h]), t> / (sigma_post |z|)

    used: how many of the last readers; None: all. traced: each reader's part followed back to the input through the
    attention before it, as in `Contribution`; it keeps the sum over tokens. before: how many layers the last reader has
    before it.
    """

    before: int
    used: int | None = None
    traced: bool = False
    mixing: Mixing = "norms"
    name: str = "text-span"

    @property
    def direct(self) -> bool:
        """Yes."""
        return True

    @property
    def depths(self) -> Mapping[Mixing, int]:
        """Of the attentions before the last reader."""
        return {self.mixing: self.before} if self.traced else {}

    @torch.no_grad()
    def maps(
        self, shared: SharedPass, targets: Float[Tensor, "image target embed"]
    ) -> Float[Tensor, "image target row column"]:
        """No pass beyond the shared one; signed, in units of the score."""
        shared.check_targets(targets)
        sets = distinct(targets)
        if len(sets) == 1:
            found = self._rows(shared, sets[0], slice(None))
        else:
            parts = [self._rows(shared, sets[image], slice(image, image + 1)) for image in range(shared.images)]
            found = {depth: torch.cat([part[depth] for part in parts]) for depth in parts[0]}
        if self.traced:
            return shared.to_grid(back_to_input(found, shared.mixing(self.mixing, self.before)))
        return shared.to_grid(torch.stack(list(found.values())).sum(dim=0))

    def _rows(self, shared: SharedPass, targets: Float[Tensor, "target embed"], images: slice) -> dict[int, Tensor]:
        """By how many layers come before the reader, [image, target, token]."""
        readers, seen = shared.model.tower.readers, shared.direct
        reads = read_directions(shared.model.tower, targets.to(seen[0].tokens))
        scale = shared.scale[images, None, None]
        start = 0 if self.used is None else max(len(seen) - self.used, 0)
        return {
            reader.layers_before: scale
            * reader_contributions(reader.weights(), reads, read.tokens[images], read.attention[images])
            for reader, read in list(zip(readers, seen, strict=True))[start:]
        }
