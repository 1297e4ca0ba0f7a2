"""The statistics of one layer during a survey: blocks of neurons that fit the cache, and their result."""

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from secondlens import kernels
from secondlens.effects.factored import gram_root
from secondlens.effects.parallel import block_size, map_blocks, setup_block_size
from secondlens.effects.paths import Convention, WriteMaps, coefficients_by_neuron, path_weights, paths_of, write_maps
from secondlens.effects.rank_one import rank_one
from secondlens.effects.statistics import EffectStatistics
from secondlens.effects.top import TopEffects
from secondlens.errors import SurveyError
from secondlens.models.tower import VisionTower
from secondlens.models.trace import Trace


@dataclass(frozen=True)
class LayerResult:
    """What a survey knows about a layer; the tensors of an atlas's layer file, float32.

    directions: first principal component of the centred top effects, unit norm (zero for a neuron without effect).
    explained_variance: its share in them. spectrum: shares of the first components; participation: effective rank.
    components: v_j with r_j = sum_k v_j[k] u[k]. path_projections: <u[k], r_1>; path_shares: of each path in the
    projections' energy. top_share: share of the top images in sum over all images of |phi - mean|^2.
    variance: mean of |phi - mean|^2. histogram: counts of |phi - reference| (`effects.histogram`), the reference
    being within `drift` of the mean. proved: top images found in one pass; the others by a second.
    """

    mean_coefficients: Float[Tensor, "neuron path"]
    mean_effects: Float[Tensor, "neuron embed"]
    directions: Float[Tensor, "neuron embed"]
    explained_variance: Float[Tensor, " neuron"]
    spectrum: Float[Tensor, "neuron component"]
    participation: Float[Tensor, " neuron"]
    components: Float[Tensor, "neuron component path"]
    path_projections: Float[Tensor, "neuron path"]
    path_shares: Float[Tensor, "neuron path"]
    top_positions: Int[Tensor, "neuron top"]
    top_norms: Float[Tensor, "neuron top"]
    top_projections: Float[Tensor, "neuron top"]
    top_share: Float[Tensor, " neuron"]
    variance: Float[Tensor, " neuron"]
    histogram: Int[Tensor, "neuron bin"]
    drift: Float[Tensor, " neuron"]
    proved: Bool[Tensor, " neuron"]

    def tensors(self) -> dict[str, Tensor]:
        """By name, as they go to disk."""
        return {field.name: getattr(self, field.name).cpu().contiguous() for field in fields(self)}

    @classmethod
    def concatenate(cls, parts: list["LayerResult"]) -> "LayerResult":
        """Blocks of neurons, one after the other."""
        return cls(**{field.name: torch.cat([getattr(part, field.name) for part in parts]) for field in fields(cls)})

    def with_rows(self, rows: Tensor, other: "LayerResult") -> "LayerResult":
        """Some neurons' rows taken from a second pass; what that pass cannot know better stays."""
        keep = ("histogram", "drift", "variance", "proved", "mean_coefficients", "mean_effects")
        changed = {}
        for field in fields(self):
            if field.name not in keep:
                tensor = getattr(self, field.name).clone()
                tensor[rows] = getattr(other, field.name).to(tensor)
                changed[field.name] = tensor
        return replace(self, **changed)


def gram_roots(maps: WriteMaps, groups: list[Tensor]) -> list[Float[Tensor, "neuron path path"]]:
    """R of groups of neurons, float32: |phi| = |s R|."""

    device = maps.values.device

    def root(group: Tensor) -> Tensor:
        return torch.cat([gram_root(maps.directions(part)).float() for part in group.split(setup_block_size(device))])

    return map_blocks(root, groups, device)


class LayerStatistics:
    """Statistics of a layer's neurons: all of them, or in a second pass those in `rows`."""

    def __init__(
        self,
        tower: VisionTower,
        layer: int,
        candidates: int,
        convention: Convention = "centred",
        rows: Tensor | None = None,
    ) -> None:
        self.tower = tower
        self.layer = layer
        self.maps = write_maps(tower, layer, convention)
        chosen = torch.ones(tower.neurons, dtype=torch.bool)
        if rows is not None:
            chosen = chosen.logical_not().index_fill(0, rows.cpu(), True)
        blocks = torch.arange(tower.neurons).split(block_size(self.maps.values.device))
        groups = [block[chosen[block]] for block in blocks]
        self.rows = [group.to(self.maps.values.device) for group in groups if len(group)]
        roots = gram_roots(self.maps, self.rows)
        # Of a model in half precision, norms need not be more precise than 16 bits.
        halved = tower.mlps[layer].project.weight.dtype in (torch.float16, torch.bfloat16)
        self.blocks = [EffectStatistics(made, candidates, complete=rows is not None, halved=halved) for made in roots]
        # A slice where the block is whole: no copy of the activations.
        self._columns = [slice(int(group[0]), int(group[-1]) + 1) if rows is None else group for group in self.rows]

    @property
    def count(self) -> int:
        """Images taken in so far."""
        return self.blocks[0].count

    def update(self, trace: Trace, positions: Int[Tensor, " image"]) -> None:
        """Take in one captured batch."""
        weights = path_weights(trace, self.tower, self.layer)
        activations = trace.activations[self.layer]
        positions = positions.to(activations.device)
        for columns, block in zip(self._columns, self.blocks, strict=True):
            block.update(coefficients_by_neuron(weights, activations[:, :, columns]), positions)

    def merge(self, other: "LayerStatistics") -> None:
        """Add what another pass over other images found."""
        for mine, theirs in zip(self.blocks, other.blocks, strict=True):
            mine.merge(theirs)

    def restart(self, candidates: int) -> None:
        """Forget all images; from here on keep `candidates` of them a neuron."""
        self.blocks = [EffectStatistics(block.root, candidates, block.complete, block.halved) for block in self.blocks]

    @property
    def filling(self) -> bool:
        """Still keeping every image, with no reference yet."""
        return self.blocks[0].filling

    def shard_state(self) -> dict[str, Tensor]:
        """The state with which statistics of other images begin, to be merged here."""
        return _named([block.shard_state() for block in self.blocks])

    def merge_state(self, state: dict[str, Tensor]) -> None:
        """Add what statistics of other images found, by their state; a block at a time."""
        for block, some in zip(self.blocks, _by_block(state, len(self.blocks)), strict=True):
            block.merge_state(some)

    def result(self, top: int) -> tuple[LayerResult, Tensor | None]:
        """Statistics, directions and top images of everything so far; and the numbers of the images that a second
        pass must see (none if every neuron is proved), None for all images.
        """

        def finish(pair: tuple[Tensor, EffectStatistics]) -> tuple[LayerResult, Tensor | None]:
            rows, block = pair
            found = block.result(top)
            return _block_result(found, block, self.maps.directions(rows)), found.ambiguous

        pairs = list(zip(self.rows, self.blocks, strict=True))
        parts, ambiguous = zip(*map_blocks(finish, pairs, self.maps.values.device), strict=True)
        known = [numbers for numbers in ambiguous if numbers is not None]
        return LayerResult.concatenate(list(parts)), torch.cat(known).unique() if len(known) == len(ambiguous) else None

    def second_pass(self, proved: Bool[Tensor, " neuron"], top: int) -> dict[str, Tensor]:
        """The state with which statistics of the neurons that are not proved begin a second pass."""
        some = [(~proved[rows]).nonzero()[:, 0] for rows in self.rows]
        pairs = [(block, neurons) for block, neurons in zip(self.blocks, some, strict=True) if len(neurons)]
        return _named([block.second_pass(neurons, top).state_dict() for block, neurons in pairs])

    def state_dict(self) -> dict[str, Tensor]:
        """The blocks' states, by name."""
        return _named([block.state_dict() for block in self.blocks])

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from a state of a layer with the same neurons."""
        for block, some in zip(self.blocks, _by_block(state, len(self.blocks)), strict=True):
            block.load_state_dict(some)


def _named(states: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The blocks' states as one, `BLOCK.NAME`."""
    return {f"{i}.{name}": tensor for i, state in enumerate(states) for name, tensor in state.items()}


def _by_block(state: dict[str, Tensor], blocks: int) -> list[dict[str, Tensor]]:
    """The opposite."""
    found = 1 + max(int(name.partition(".")[0]) for name in state)
    if found != blocks:
        raise SurveyError(
            f"expected statistics in {blocks} blocks of neurons, got {found}: a survey that was begun on a CPU goes on "
            "on a CPU, one of a GPU on a GPU; continue there, or start afresh in another folder"
        )
    parts: list[dict[str, Tensor]] = [{} for _ in range(blocks)]
    for name, tensor in state.items():
        block, _, rest = name.partition(".")
        parts[int(block)][rest] = tensor
    return parts


def statistics_bytes(tower: VisionTower, layer: int, candidates: int, batch_size: int) -> int:
    """Memory of a layer's statistics: roots, held coefficients and sums, in float32 and float64."""
    paths = len(paths_of(tower, layer))
    dims = sum(tower.readers[index].weights().value.shape[1] * tower.heads for index in tower.readers_of(layer))
    maps = 4 * dims * (tower.neurons + tower.embed_dim)
    device = tower.mlps[layer].project.weight.device
    # With the kernels R is there twice, some images wait, and a batch's coefficients exist at once.
    fused = kernels.on(device)
    roots, places = (2 * paths, 3 * candidates + 2 * batch_size) if fused else (paths, candidates)
    return maps + tower.neurons * (4 * paths * (roots + places) + 8 * paths + 24 * candidates + 400)


def _block_result(top: TopEffects, block: EffectStatistics, writes: Float[Tensor, "neuron path embed"]) -> LayerResult:
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
        path_shares=found.path_shares.float(),
        top_positions=top.positions,
        top_norms=top.norms.float(),
        top_projections=found.projections.float(),
        top_share=share.clamp(max=1).float(),
        variance=top.variance.float(),
        histogram=block.histogram.counts,
        drift=top.drift.float(),
        proved=top.proved,
    )
