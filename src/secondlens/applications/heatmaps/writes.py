"""What neurons write along texts, kept for as long as the texts stay the same."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from secondlens.applications.heatmaps.base import SharedPass
from secondlens.effects.patches import project_writes
from secondlens.effects.paths import Convention, Path, coefficients, path_weights, paths_of, write_maps
from secondlens.errors import SecondLensError
from secondlens.models.model import LensModel

# Numbers of [image, token, target, path] at a time.
BLOCK = 2**23


class Writes:
    """<u[n,k], t> of some layers' neurons through some paths; the input-independent factors are made once.

    paths: only these (reader, head) pairs; None for all that come after each layer.
    """

    def __init__(
        self,
        model: LensModel,
        layers: Sequence[int],
        convention: Convention = "centred",
        paths: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        self.model = model
        self.layers = tuple(layers)
        self._maps = {layer: write_maps(model.tower, layer, convention) for layer in layers}
        self._kept: dict[int, Tensor | None] = dict.fromkeys(layers)
        if paths is not None:
            self._restrict([Path(*path) for path in paths])
        self._targets: Tensor | None = None
        self._along: dict[int, Tensor] = {}

    def _restrict(self, paths: list[Path]) -> None:
        tower = self.model.tower
        known = {path for layer in self.layers for path in paths_of(tower, layer)}
        if not paths or not known.issuperset(paths):
            wrong = sorted(set(paths) - known)
            first = min(path.reader for path in known)
            raise SecondLensError(
                f"expected paths (reader, head) with readers from {first} to {len(tower.readers) - 1} and heads from 0 "
                f"to {tower.heads - 1} for neurons of layers {', '.join(map(str, self.layers))}, got "
                f"{', '.join(str(tuple(path)) for path in wrong) or 'none'}"
            )
        for layer in self.layers:
            places = [place for place, path in enumerate(paths_of(tower, layer)) if path in set(paths)]
            kept = torch.tensor(places, device=self.model.device, dtype=torch.long)
            maps = self._maps[layer]
            self._maps[layer] = type(maps)(maps.values[kept], maps.outputs[kept])
            self._kept[layer] = kept

    def along(self, targets: Float[Tensor, "target embed"]) -> dict[int, Float[Tensor, "target path neuron"]]:
        """<u[n,k], t> a layer."""
        if self._targets is None or not torch.equal(self._targets, targets):
            self._targets = targets.clone()
            self._along = {layer: project_writes(maps, targets) for layer, maps in self._maps.items()}
        return self._along

    def path_weights(self, shared: SharedPass, layer: int) -> Float[Tensor, "image path token"]:
        """a / (sigma sigma_post |z|) of the paths that count."""
        weights = path_weights(shared.trace, self.model.tower, layer)
        kept = self._kept[layer]
        return weights if kept is None else weights[:, kept]

    def tokens(
        self,
        shared: SharedPass,
        sets: Float[Tensor, "set target embed"],
        masks: Mapping[int, Bool[Tensor, "any target neuron"]] | None = None,
    ) -> dict[int, Float[Tensor, "image target token"]]:
        """c[t,i] = sum over paths and (masked) neurons of b[k,i] p[n,i] <u[n,k], t>, a layer."""
        masks = masks or {}
        if len(sets) == 1 and all(len(mask) == 1 for mask in masks.values()):
            return self._tokens(shared, sets[0], slice(None), {layer: mask[0] for layer, mask in masks.items()})
        parts = []
        for image in range(shared.images):
            own = {layer: mask[min(image, len(mask) - 1)] for layer, mask in masks.items()}
            parts.append(self._tokens(shared, sets[min(image, len(sets) - 1)], slice(image, image + 1), own))
        return {layer: torch.cat([part[layer] for part in parts]) for layer in self.layers}

    def _tokens(
        self,
        shared: SharedPass,
        targets: Float[Tensor, "target embed"],
        images: slice,
        masks: Mapping[int, Bool[Tensor, "target neuron"]],
    ) -> dict[int, Float[Tensor, "image target token"]]:
        found = {}
        for layer, along in self.along(targets).items():
            activations = shared.trace.activations[layer][images]
            weights = self.path_weights(shared, layer)[images].transpose(1, 2)
            block = max(1, BLOCK // weights.numel())
            rows = []
            for start in range(0, len(targets), block):
                chosen = along[start : start + block]
                if layer in masks:
                    chosen = chosen * masks[layer][start : start + block, None]
                read = activations @ chosen.flatten(0, 1).T
                rows.append(torch.einsum("bitk,bik->bti", read.unflatten(2, chosen.shape[:2]), weights))
            found[layer] = torch.cat(rows, dim=1)
        return found

    def neurons(
        self, shared: SharedPass, sets: Float[Tensor, "set target embed"]
    ) -> dict[int, Float[Tensor, "image target neuron"]]:
        """<phi[n], t> a layer: each neuron's contribution to <z/|z|, t>."""
        found: dict[int, list[Tensor]] = {layer: [] for layer in self.layers}
        for row, targets in enumerate(sets):
            images = slice(None) if len(sets) == 1 else slice(row, row + 1)
            for layer, along in self.along(targets).items():
                seen = self.path_weights(shared, layer)[images]
                of_neurons = coefficients(seen, shared.trace.activations[layer][images])
                if len(of_neurons) == 1:
                    # One image: a pass over `along` as it lies in memory; the product below would copy it.
                    found[layer].append((along * of_neurons[0].T).sum(dim=1)[None])
                else:
                    found[layer].append(torch.einsum("bnk,tkn->btn", of_neurons, along))
        return {layer: torch.cat(parts) for layer, parts in found.items()}
