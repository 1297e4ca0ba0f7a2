"""The statistics of one layer during a survey: blocks of neurons that fit the cache, and their result."""

from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from secondlens.lens.paths import Convention, WriteMaps, coefficients_by_neuron, path_weights, paths_of, write_maps
from secondlens.lens.second_order import gram_root
from secondlens.lens.tower import VisionTower
from secondlens.lens.trace import Trace
from secondlens.numerics import kernels
from secondlens.numerics.buffer import slots_for
from secondlens.numerics.evictions import ENTRIES
from secondlens.numerics.histogram import BINS
from secondlens.numerics.largest import LargestEffects, TopEffects
from secondlens.numerics.parallel import block_size, map_blocks, setup_block_size
from secondlens.numerics.rank_one import rank_one


@dataclass(frozen=True)
class LayerResult:
    """What a survey knows about a layer; the tensors of an atlas's layer file, float32.

    directions: first principal component of the centred top effects, unit norm (zero for a neuron without effect).
    explained_variance: its share in them. spectrum: shares of the first components; participation: effective rank.
    components: v_j with r_j = sum_k v_j[k] u[k]. path_projections: <u[k], r_1>; path_fractions: of each path in the
    projections' energy. top_fraction: share of the top images in sum over all images of |phi - mean|^2.
    variance: mean of |phi - mean|^2. histogram: counts of |phi - c| (`numerics.histogram`), c being the mean of the
    images until then. certified: no other image can belong to the top. tied: a second pass was not enough either: other
    images equal the last of the top to within rounding.
    """

    mean_coefficients: Float[Tensor, "neuron path"]
    mean_effects: Float[Tensor, "neuron embed"]
    directions: Float[Tensor, "neuron embed"]
    explained_variance: Float[Tensor, " neuron"]
    spectrum: Float[Tensor, "neuron component"]
    participation: Float[Tensor, " neuron"]
    components: Float[Tensor, "neuron component path"]
    path_projections: Float[Tensor, "neuron path"]
    path_fractions: Float[Tensor, "neuron path"]
    top_positions: Int[Tensor, "neuron top"]
    top_norms: Float[Tensor, "neuron top"]
    top_projections: Float[Tensor, "neuron top"]
    top_fraction: Float[Tensor, " neuron"]
    variance: Float[Tensor, " neuron"]
    histogram: Int[Tensor, "neuron bin"]
    certified: Bool[Tensor, " neuron"]
    tied: Bool[Tensor, " neuron"]

    @property
    def uncertified(self) -> Bool[Tensor, " neuron"]:
        """Neurons that need a second pass."""
        return ~(self.certified | self.tied)

    def tensors(self) -> dict[str, Tensor]:
        """By name, as they go to disk."""
        return {field.name: getattr(self, field.name).cpu().contiguous() for field in fields(self)}

    @classmethod
    def concatenate(cls, parts: list["LayerResult"]) -> "LayerResult":
        """Blocks of neurons, one after the other."""
        return cls(**{field.name: torch.cat([getattr(part, field.name) for part in parts]) for field in fields(cls)})

    def with_rows(self, rows: Tensor, other: "LayerResult") -> "LayerResult":
        """Return the result with some neurons' rows replaced by those of a second pass."""
        changed = {}
        for field in fields(self):
            tensor = getattr(self, field.name).clone()
            tensor[rows] = getattr(other, field.name).to(tensor)
            changed[field.name] = tensor
        return replace(self, **{**changed, "tied": changed["tied"].index_put((rows,), ~other.certified)})


class Span(NamedTuple):
    """A block of neurons, and those of it that are surveyed.

    Products are those of the whole block in any pass, since their last bits depend on the shape. columns: the block as
    a slice, so that activations are not copied.
    """

    block: Int[Tensor, " neuron"]
    columns: slice
    chosen: Int[Tensor, " row"] | slice

    @classmethod
    def of(cls, block: Tensor, device: torch.device, chosen: Tensor | slice = slice(None)) -> "Span":
        """Return the span of a block of consecutive neurons."""
        return cls(block.to(device), slice(int(block[0]), int(block[-1]) + 1), chosen)

    @property
    def neurons(self) -> Int[Tensor, " row"]:
        """The surveyed neurons."""
        return self.block[self.chosen]


def gram_roots(maps: WriteMaps, spans: list[Span]) -> list[Float[Tensor, "neuron path path"]]:
    """R of the neurons of some spans, float32: |phi| = |s R|."""
    device = maps.values.device

    def root(span: Span) -> Tensor:
        parts = span.block.split(setup_block_size(device))
        return torch.cat([gram_root(maps.directions(part)).float() for part in parts])[span.chosen]

    return map_blocks(root, spans, device)


class LayerStatistics:
    """Statistics of a layer's neurons.

    Args:
        capacity: number of images kept per neuron.
        rows: neurons of a second pass; by default all. mean: their mean coefficients, which stay the reference.
    """

    def __init__(
        self,
        tower: VisionTower,
        layer: int,
        capacity: int,
        convention: Convention = "centred",
        rows: Tensor | None = None,
        mean: Float[Tensor, "row path"] | None = None,
    ) -> None:
        self.tower = tower
        self.layer = layer
        self.maps = write_maps(tower, layer, convention)
        device = self.maps.values.device
        blocks = torch.arange(tower.neurons).split(block_size(device))
        inside = [slice(None) if rows is None else torch.isin(block, rows.cpu()).nonzero()[:, 0] for block in blocks]
        self.spans = [
            Span.of(block, device, chosen)
            for block, chosen in zip(blocks, inside, strict=True)
            if isinstance(chosen, slice) or len(chosen)
        ]
        self._sizes = [len(span.neurons) for span in self.spans]
        means = [None] * len(self.spans) if mean is None else mean.to(device).split(self._sizes)
        low_precision = tower.mlps[layer].project.weight.dtype in (torch.float16, torch.bfloat16)
        self.blocks = [
            LargestEffects(root, capacity, reference, low_precision)
            for root, reference in zip(gram_roots(self.maps, self.spans), means, strict=True)
        ]

    @property
    def count(self) -> int:
        """Number of images so far."""
        return self.blocks[0].count

    def update(self, trace: Trace, positions: Int[Tensor, " image"]) -> None:
        """Add one captured batch."""
        weights = path_weights(trace, self.tower, self.layer)
        activations = trace.activations[self.layer]
        positions = positions.to(activations.device)
        for span, block in zip(self.spans, self.blocks, strict=True):
            coefficients = coefficients_by_neuron(weights, activations[:, :, span.columns])
            block.update(coefficients[span.chosen], positions)

    def merge(self, other: "LayerStatistics") -> None:
        """Add the statistics of other images, which stay unchanged."""
        for block, other_block in zip(self.blocks, other.blocks, strict=True):
            block.merge(other_block)

    def merge_state(self, state: dict[str, Tensor]) -> None:
        """Add the statistics of other images, given by their `state_dict`."""
        for block, part in zip(self.blocks, self._split(state), strict=True):
            block.merge_state(part)

    def clear(self) -> None:
        """Forget all images."""
        for block in self.blocks:
            block.clear()

    def result(self, top_k: int) -> LayerResult:
        """Return statistics, directions and top images of everything so far."""

        def finish(pair: tuple[Span, LargestEffects]) -> LayerResult:
            span, block = pair
            return _block_result(block.result(top_k), block, self.maps.directions(span.block)[span.chosen])

        pairs = list(zip(self.spans, self.blocks, strict=True))
        return LayerResult.concatenate(map_blocks(finish, pairs, self.maps.values.device))

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state of all neurons, independent of how they are split into blocks."""
        states = [block.state_dict() for block in self.blocks]
        return {
            name: torch.cat([state[name] for state in states]) if tensor.ndim else tensor
            for name, tensor in states[0].items()
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Replace everything by the state of a layer with the same neurons."""
        for block, part in zip(self.blocks, self._split(state), strict=True):
            block.load_state_dict(part)

    def _split(self, state: dict[str, Tensor]) -> list[dict[str, Tensor]]:
        parts = {name: tensor.split(self._sizes) for name, tensor in state.items() if tensor.ndim}
        scalars = {name: tensor for name, tensor in state.items() if not tensor.ndim}
        return [scalars | {name: part[block] for name, part in parts.items()} for block in range(len(self._sizes))]


def statistics_bytes(tower: VisionTower, layer: int, capacity: int, batch_size: int) -> int:
    """Return the bytes of a layer's statistics: roots, write maps, the buffer and sums, in float32 and float64."""
    paths = len(paths_of(tower, layer))
    dims = sum(tower.readers[index].weights().value.shape[1] * tower.heads for index in tower.readers_of(layer))
    maps = 4 * dims * (tower.neurons + tower.embed_dim)
    # With the kernels R exists twice, the buffer takes whole batches, and a batch's coefficients exist at once.
    if kernels.on(tower.mlps[layer].project.weight.device):
        roots, slots = 2 * paths, 2 * capacity + 2 * batch_size
    else:
        roots, slots = paths, slots_for(capacity)
    rows = slots * (4 * paths + 8) + ENTRIES * (4 * paths + 8)
    return maps + tower.neurons * (4 * paths * roots + rows + 20 * paths + 4 * BINS + 24)


def _block_result(top: TopEffects, block: LargestEffects, writes: Float[Tensor, "neuron path embed"]) -> LayerResult:
    found = rank_one(top, block.root)
    directions = torch.bmm(found.components[:, :1].to(writes), writes)[:, 0]
    energy = top.variance * block.count
    share = top.norms.square().sum(dim=1) / energy.clamp(min=torch.finfo(torch.float64).tiny)
    return LayerResult(
        mean_coefficients=top.mean.float(),
        mean_effects=torch.bmm(top.mean[:, None].to(writes), writes)[:, 0].float(),
        directions=torch.nn.functional.normalize(directions, dim=1).float(),
        explained_variance=found.spectrum[:, 0].float(),
        spectrum=found.spectrum.float(),
        participation=found.participation.float(),
        components=found.components.float(),
        path_projections=found.along.float(),
        path_fractions=found.path_fractions.float(),
        top_positions=top.positions,
        top_norms=top.norms.float(),
        top_projections=found.projections.float(),
        top_fraction=share.clamp(max=1).float(),
        variance=top.variance.float(),
        histogram=block.histogram.counts,
        certified=top.certified,
        tied=torch.zeros_like(top.certified),
    )
