"""What neurons write along texts, token by token.

    c[t,i] = sum_{n,k} b[k,i] p[n,i] <u[n,k], t>,      <u[n,k], t> = <r[k,t], w[n]>

    b[k,i]  = a[k,i] / (sigma[k,i] sigma_post |z|)                          what a path weighs a token with
    r[k,t]  = C diag(g) W_V[h]^T W_O[h]^T C diag(g_post) Proj^T t           how it reads a token for a text: [width]
    w[n]    = a neuron's column of the MLP's output matrix

Sums can be taken in three orders. With T tokens, width W, K paths, t texts, m chosen neurons:

    all neurons, few texts     y[i] = sum_n p[n,i] w[n] is what the MLP writes, upstream's own; then <r[k,t], y[i]>:
                               t K T W, and t K W dim once for r
    all neurons, many texts    each reader applied to y itself, all texts at the end: 2 T W^2 a layer and reader, t T W
    chosen neurons             <r[k,t], w[n]> of those alone: t m K W, then t m K T

Nothing of [token, neuron, path] or [text, path, neuron] is made. For three layers of ViT-B-32 (72 pairs of a layer and
a path) that is 0.1 % of a forward pass a text, or 8 % for any number of texts: the change is at 63 texts an image.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from secondlens.analysis.heatmaps.base import SharedPass
from secondlens.errors import SecondLensError
from secondlens.lens.first_order import read_directions
from secondlens.lens.model import LensModel
from secondlens.lens.paths import (
    Convention,
    Path,
    WriteMaps,
    check_convention,
    check_layer,
    coefficients,
    output_map,
    path_weights,
    paths_of,
    write_maps,
)
from secondlens.lens.second_order import project_writes

# Numbers of [image, token, target, path] or [target, neuron, width] at a time.
BLOCK = 2**22


class Writes:
    """Contributions of some layers' neurons through some paths; the input-independent factors are made once.

    paths: only these (reader, head) pairs; None for all that come after each layer.
    """

    def __init__(
        self,
        model: LensModel,
        layers: Sequence[int],
        convention: Convention = "centred",
        paths: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        check_convention(convention)
        self.model = model
        self.layers = tuple(layers)
        self.centred = convention == "centred"
        self.convention: Convention = convention
        tower = model.tower
        for layer in layers:
            check_layer(tower, layer)
        known = {layer: paths_of(tower, layer) for layer in layers}
        self._places = dict.fromkeys(layers, slice(None)) if paths is None else self._chosen(known, paths)
        self.readers = sorted({path.reader for some in known.values() for path in some})
        self._outputs = {reader: output_map(tower, reader, self.centred, self._dtype) for reader in self.readers}
        self._targets: Tensor | None = None
        self._reads: dict[int, Tensor] = {}
        self._along: dict[int, Tensor] = {}

    def _chosen(self, known: Mapping[int, list[Path]], paths: Sequence[tuple[int, int]]) -> dict[int, Tensor | slice]:
        tower, chosen = self.model.tower, {Path(*path) for path in paths}
        every = {path for some in known.values() for path in some}
        if not chosen or not every >= chosen:
            wrong = sorted(chosen - every)
            first = min(path.reader for path in every)
            raise SecondLensError(
                f"expected paths (reader, head) with readers from {first} to {len(tower.readers) - 1} and heads from 0 "
                f"to {tower.heads - 1} for neurons of layers {', '.join(map(str, self.layers))}, got "
                f"{', '.join(str(tuple(path)) for path in wrong) or 'none'}"
            )
        places = {layer: [place for place, path in enumerate(some) if path in chosen] for layer, some in known.items()}
        return {layer: torch.tensor(some, device=self.model.device, dtype=torch.long) for layer, some in places.items()}

    @property
    def _dtype(self) -> torch.dtype:
        return torch.promote_types(self.model.dtype, torch.float32)

    @cached_property
    def _columns(self) -> dict[int, Float[Tensor, "neuron width"]]:
        """w of each layer; a column of upstream's matrix is scattered over memory."""
        tower = self.model.tower
        return {layer: tower.mlps[layer].weight().T.to(self._dtype).contiguous() for layer in self.layers}

    @cached_property
    def _maps(self) -> dict[int, WriteMaps]:
        return {layer: write_maps(self.model.tower, layer, self.convention) for layer in self.layers}

    def reads(self, sets: Float[Tensor, "set target embed"]) -> dict[int, Float[Tensor, "all head width"]]:
        """r of each reader's heads, all sets one after another."""
        if self._targets is None or not torch.equal(self._targets, sets):
            self._targets, self._reads, self._along = sets.clone(), {}, {}
        if not self._reads:
            for reader, outputs in self._outputs.items():
                upstream = self.model.tower.readers[reader]
                asked = torch.matmul(sets.flatten(0, 1).to(outputs), outputs)
                read = torch.bmm(asked, upstream.weights().value.to(outputs)).transpose(0, 1)
                read = read * upstream.norm.weight.detach().to(read)
                self._reads[reader] = read - read.mean(dim=-1, keepdim=True) if self.centred else read
        return self._reads

    def _reads_of(self, layer: int, sets: Float[Tensor, "set target embed"]) -> Float[Tensor, "set target path width"]:
        reads = self.reads(sets)
        together = torch.cat([reads[reader] for reader in self.model.tower.readers_of(layer)], dim=1)
        return together[:, self._places[layer]].unflatten(0, sets.shape[:2])

    def along(self, sets: Float[Tensor, "set target embed"]) -> dict[int, Float[Tensor, "all path neuron"]]:
        """<u[n,k], t> of all neurons of each layer: many numbers, which only `neurons` asks for."""
        self.reads(sets)
        if not self._along:
            for layer, maps in self._maps.items():
                self._along[layer] = project_writes(maps, sets.flatten(0, 1))[:, self._places[layer]]
        return self._along

    def path_weights(self, shared: SharedPass, layer: int) -> Float[Tensor, "image path token"]:
        """b of the paths that count."""
        return path_weights(shared.trace, self.model.tower, layer)[:, self._places[layer]]

    def tokens(
        self,
        shared: SharedPass,
        sets: Float[Tensor, "set target embed"],
        masks: Mapping[int, Bool[Tensor, "any target neuron"]] | None = None,
    ) -> dict[int, Float[Tensor, "image target token"]]:
        """c of each layer, over its neurons, or over those that `masks` choose; one set for all images, or one each."""
        if masks:
            return {layer: self._of_chosen(shared, layer, sets, mask) for layer, mask in masks.items()}
        if self._late(sets.shape[0] * sets.shape[1], shared.trace.mlp_writes[self.layers[0]].shape[:2], len(sets)):
            return self._of_all_late(shared, sets)
        return {layer: self._of_all(shared, layer, sets) for layer in self.layers}

    def _late(self, targets: int, rows: Sequence[int], sets: int = 1) -> bool:
        """Whether readers go first, texts last, by the multiplications that each order takes."""
        tower = self.model.tower
        if not self.centred or any(isinstance(places, Tensor) for places in self._places.values()):
            return False
        weights = tower.readers[-1].weights().value
        heads, dim, width = weights.shape
        images, tokens = rows
        pairs = sum(len(tower.readers_of(layer)) for layer in self.layers)
        once = len(self.readers) * heads * dim * (tower.embed_dim + width)
        looks = targets * images // sets
        early = targets * once + looks * pairs * heads * tokens * width
        late = tokens * width * (images * 2 * pairs * heads * dim + looks * len(self.layers))
        return late < early

    def _of_all(
        self, shared: SharedPass, layer: int, sets: Float[Tensor, "set target embed"]
    ) -> Float[Tensor, "image target token"]:
        written, weights = shared.trace.mlp_writes[layer], self.path_weights(shared, layer)
        reads = self._reads_of(layer, sets)
        rows = []
        for some in reads.split(max(1, BLOCK // weights.numel()), dim=1):
            flat = some.flatten(1, 2).mT
            read = (written @ (flat[0] if len(flat) == 1 else flat)).unflatten(2, some.shape[1:3])
            rows.append(torch.einsum("bitk,bki->bti", read, weights))
        return torch.cat(rows, dim=1)

    def _of_all_late(
        self, shared: SharedPass, sets: Float[Tensor, "set target embed"]
    ) -> dict[int, Float[Tensor, "image target token"]]:
        tower, trace = self.model.tower, shared.trace
        written = torch.stack([trace.mlp_writes[layer] for layer in self.layers])
        written = written - written.mean(dim=-1, keepdim=True)
        moved = torch.zeros_like(written)
        for index in self.readers:
            reader, seen = tower.readers[index], trace.readouts[index]
            weights = reader.weights()
            rows = [row for row, layer in enumerate(self.layers) if index in tower.readers_of(layer)]
            tokens = written[rows] * reader.norm.weight.detach().to(written)
            values = tokens @ weights.value.flatten(0, 1).to(tokens).T
            # b of this reader is the same for all layers.
            weighed = values.unflatten(-1, (tower.heads, -1)) * (seen.attention / seen.sigma[:, None]).mT[..., None]
            moved[rows] += weighed.flatten(-2) @ weights.output.to(tokens).transpose(0, 1).flatten(1).T
        reads = read_directions(tower, sets.to(moved).flatten(0, 1)).view(*sets.shape[:2], -1)
        scale = shared.scale[:, None, None]
        return {layer: (part @ reads.mT).mT * scale for layer, part in zip(self.layers, moved, strict=True)}

    def _of_chosen(
        self,
        shared: SharedPass,
        layer: int,
        sets: Float[Tensor, "set target embed"],
        mask: Bool[Tensor, "any target neuron"],
    ) -> Float[Tensor, "image target token"]:
        activations, weights = shared.trace.activations[layer], self.path_weights(shared, layer)
        reads = self._reads_of(layer, sets)
        # As many places for every target; those that a target does not fill count nothing.
        used, chosen = mask.to(weights.dtype).topk(int(mask.sum(dim=-1).max()), dim=-1)
        alike = len(sets) == len(mask) == 1
        # Where every image has its own neurons or texts, images are the rows that go together, else texts are.
        count = reads.shape[1] if alike else shared.images
        block = max(1, BLOCK // max(1, chosen.shape[-1] * reads.shape[3] * (1 if alike else reads.shape[1])))
        parts = []
        for start in range(0, count, block):
            some = slice(start, start + block)
            texts, images = (some, slice(None)) if alike else (slice(None), some)
            pick, on, read = (_rows(whole, images)[:, texts] for whole in (chosen, used, reads))
            if self._along:
                along = _rows(self._along[layer].view(len(sets), -1, *self._along[layer].shape[1:]), images)[:, texts]
                pick = pick.expand(max(len(pick), len(along)), -1, -1)
                along = along.expand(len(pick), -1, -1, -1)
                along = along.gather(3, pick[:, :, None].expand(-1, -1, along.shape[2], -1)).mT
            else:
                along = self._columns[layer][pick] @ read.mT
            along = along * on[..., None]
            seen = activations[images]
            flat = pick.flatten(1)[:, None].expand(len(seen), seen.shape[1], -1)
            active = seen.gather(2, flat).unflatten(2, pick.shape[1:]).transpose(1, 2)
            parts.append(torch.einsum("btik,bki->bti", active @ along, weights[images]))
        return torch.cat(parts, dim=1 if alike else 0)

    def neurons(
        self, shared: SharedPass, sets: Float[Tensor, "set target embed"]
    ) -> dict[int, Float[Tensor, "image target neuron"]]:
        """<phi[n], t> a layer: each neuron's contribution to <z/|z|, t>."""
        found = {}
        for layer, along in self.along(sets).items():
            each = along.view(*sets.shape[:2], *along.shape[1:])
            of_neurons = coefficients(self.path_weights(shared, layer), shared.trace.activations[layer])
            if len(of_neurons) == 1:
                # One image: a pass over `along` as it lies in memory; the product below would copy it.
                found[layer] = (each[0] * of_neurons[0].T).sum(dim=1)[None]
            else:
                found[layer] = torch.einsum("bnk,btkn->btn", of_neurons, each.expand(len(of_neurons), -1, -1, -1))
        return found


def _rows(whole: Tensor, images: slice) -> Tensor:
    """Of those images, or the only row that all share."""
    return whole if len(whole) == 1 else whole[images]
