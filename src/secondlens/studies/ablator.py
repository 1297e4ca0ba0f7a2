"""Replacing a layer's second-order effects, every way at once, without an effect ever being made.

With coefficients s[n,k] of an image, the survey's means m[n,k], write directions u[n,k], c = s - m, and thresholds
t[n], the top-th norms of the survey:

    all       = sum_n sum_k c[n,k] u[n,k]                        everything that varies over images
    large     = the same over neurons with |phi - mean| >= t[n]
    x[n,j]    = sum_k c[n,k] <u[n,k], r[n,j]>                    projection on the j-th principal component

    without_all   = z/|z| - all                                  every effect at its mean
    without_large = z/|z| - large                                effects above the threshold at their mean
    without_small = z/|z| - (all - large)                        effects below the threshold at their mean
    rank r        = without_all + sum_n sum_{j<=r} x[n,j] r[n,j]
    texts         = without_all + sum_n x[n,1] r'[n]             r' a reconstruction of the direction from texts

1. |phi - mean| = |c R| in path space, R R^T = u u^T (`gram_root`).
2. Both sums over neurons go through the factors of u: [path, image, neuron] x [path, neuron, dim] for `all` and for
   `large` (coefficients of small neurons zeroed) in one product, then [image, path dim] x [path dim, embed] once.
3. Neurons come in blocks, so that a block's coefficients stay in the cache.

The floor, beside the forward pass of a ViT-B-32 over one image (8.7 GFLOP), layers 0 to 10: 792 paths in all.
FLOPs: coefficients 0.24 G, norms 0.45 G, the two sums 0.73 G, projections and ranks up to 4 0.16 G: 1.6 G, 18 %.
Bytes: coefficients are 9.7 MB an image and are written or read some ten times, from the cache where a block fits it;
factors of u and R are 1.6 GB, read once a batch: 51 MB an image at 32 images a batch. With 100 GFLOP/s and 10 GB/s
that is 16 ms of arithmetic and 5 to 15 ms of memory beside 87 ms: at best 1.25 x the forward pass. Before the first
batch, Gram matrices in float64: 0.23 TFLOP once.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondlens.atlas.store import AtlasLayer
from secondlens.lens.model import LensModel
from secondlens.lens.paths import Convention, path_weights, paths_of, write_maps
from secondlens.lens.second_order import gram_root
from secondlens.lens.tower import VisionTower
from secondlens.lens.trace import Trace
from secondlens.numerics.parallel import block_size, map_blocks, setup_block_size

RANKS = {"rank_one": 1, "rank_two": 2, "rank_four": 4}
BASELINE, FIXED = "baseline", ("without_all", "without_large", "without_small")


class LayerAblator:
    """The input-independent half for one layer; `ablate` does a captured batch.

    mean: mean coefficients. thresholds: norms |phi - mean| from which on an effect is large. components: v_j with
    r_j = sum_k v_j[k] u[k] of unit norm, as an atlas has them. Ranks above the number of components are left out.
    """

    def __init__(
        self,
        tower: VisionTower,
        layer: int,
        mean: Float[Tensor, "neuron path"],
        thresholds: Float[Tensor, " neuron"],
        components: Float[Tensor, "neuron component path"],
        convention: Convention = "centred",
    ) -> None:
        self.tower = tower
        self.layer = layer
        maps = write_maps(tower, layer, convention)
        self.ranks = {name: rank for name, rank in RANKS.items() if rank <= components.shape[1]}
        kept = components[:, : max(self.ranks.values())]

        def prepare(rows: Tensor) -> tuple[Tensor, Tensor]:
            """[neuron, path, path + component]: R beside <u, r_j>, so that one product gives both; and r_j."""
            factors, directions = [], []
            for part in rows.split(setup_block_size(maps.values.device)):
                writes = maps.directions(part.to(maps.values.device))
                made = torch.bmm(kept[part.to(kept.device)].to(writes), writes)
                directions.append(torch.nn.functional.normalize(made, dim=2))
                along = torch.bmm(writes, directions[-1].mT)
                factors.append(torch.cat([gram_root(writes).to(writes), along], dim=2))
            return torch.cat(factors), torch.cat(directions)

        blocks = torch.arange(tower.neurons).split(block_size(maps.values.device))
        factors, directions = zip(*map_blocks(prepare, blocks, maps.values.device), strict=True)
        self._spans = [slice(int(block[0]), int(block[-1]) + 1) for block in blocks]
        self._factors: tuple[Tensor, ...] = factors
        self._values = maps.values
        self._outputs = maps.outputs.transpose(1, 2).reshape(-1, maps.outputs.shape[1])
        self._mean = mean.to(maps.values).T.contiguous()
        self._thresholds = thresholds.to(maps.values)
        # [component, neuron, embed]
        self.directions: Float[Tensor, "component neuron embed"] = torch.cat(directions).transpose(0, 1).contiguous()
        self._targets: dict[str, Tensor] = {}
        self.large: Int[Tensor, " neuron"] = torch.zeros(tower.neurons, dtype=torch.int64, device=maps.values.device)

    @classmethod
    def of(cls, model: LensModel, layer: AtlasLayer) -> "LayerAblator":
        """With the means, thresholds and components of an atlas's layer."""
        return cls(
            model.tower,
            layer.index,
            layer.mean_coefficients,
            layer.thresholds,
            layer.components,
            layer.atlas.manifest.convention,
        )

    def add(self, name: str, directions: Float[Tensor, "neuron embed"]) -> None:
        """Also reconstruct effects as x[n,1] times these directions."""
        self._targets[name] = directions.to(self._values)

    @property
    def variants(self) -> list[str]:
        """Names of what `ablate` gives, in order."""
        return [BASELINE, *FIXED, *self.ranks, *self._targets]

    def ablate(self, trace: Trace) -> dict[str, Float[Tensor, "image embed"]]:
        """By variant, the embedding over |z| with the layer's effects replaced; counts large effects in `large`."""
        weights = path_weights(trace, self.tower, self.layer).to(self._values)
        activations = trace.activations[self.layer].to(self._values)
        images, paths, _ = weights.shape
        components = len(self.directions)
        reads = weights.new_zeros(paths, 2 * images, self._values.shape[1])
        x = weights.new_empty(components, images, activations.shape[2])
        for number, span in enumerate(self._spans):
            neurons = span.stop - span.start
            # The first half all coefficients, the second those of large effects.
            both = weights.new_empty(2 * images, paths, neurons)
            centred, large = both[:images], both[images:]
            torch.bmm(weights, activations[:, :, span], out=centred)
            centred -= self._mean[:, span]
            seen = torch.bmm(centred.permute(2, 0, 1).contiguous(), self._factors[number])
            above = seen[:, :, :paths].norm(dim=2) >= self._thresholds[span, None]
            torch.mul(centred, above.T[:, None], out=large)
            reads.baddbmm_(both.transpose(0, 1), self._values[:, :, span].mT)
            x[:, :, span] = seen[:, :, paths:].permute(2, 1, 0)
            self.large[span] += above.sum(dim=1)
        everything, large = (reads.transpose(0, 1).reshape(2 * images, -1) @ self._outputs).chunk(2)
        unit = torch.nn.functional.normalize(trace.embeddings.to(self._values), dim=1)
        rest = unit - everything
        found = {
            BASELINE: unit,
            "without_all": rest,
            "without_large": unit - large,
            "without_small": rest + large,
        }
        rebuilt, done = rest, 0
        for name, rank in self.ranks.items():
            for component in range(done, rank):
                rebuilt = torch.addmm(rebuilt, x[component], self.directions[component])
            found[name], done = rebuilt, rank
        for name, target in self._targets.items():
            found[name] = torch.addmm(rest, x[0], target)
        return found


def ablator_bytes(tower: VisionTower, layer: int, targets: int, batch_size: int, tokens: int) -> int:
    """Memory of one layer's ablator and of a batch's activations, in float32."""
    paths = len(paths_of(tower, layer))
    dims = sum(tower.readers[index].weights().value.shape[1] * tower.heads for index in tower.readers_of(layer))
    maps = dims * (tower.neurons + 2 * tower.embed_dim)
    each = paths * (paths + 6) + (4 + targets) * tower.embed_dim
    return 4 * (maps + tower.neurons * each + batch_size * tokens * tower.neurons)


def group_layers(sizes: dict[int, int], limit: int) -> list[list[int]]:
    """Layers by pass over the images, as many in a pass as fit into `limit` bytes, at least one."""
    groups: list[list[int]] = []
    room = 0
    for layer, size in sorted(sizes.items()):
        if not groups or size > room:
            groups.append([])
            room = limit
        groups[-1].append(layer)
        room -= size
    return groups
