"""Heat maps from neurons: which of them count, their activations, and their contributions to a text."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from secondlens.analysis.heatmaps.base import PlainMethod, SharedPass, distinct
from secondlens.analysis.heatmaps.mixing import Mixing, back_to_input
from secondlens.analysis.heatmaps.writes import Writes
from secondlens.errors import SecondLensError, closest

Rule = Literal["paper", "signed", "share"]
"""paper: the largest |<r, t>|. signed: the largest <r, t>. share: the neurons that carry the score of this image."""


class NeuronChoice:
    """Chooses neurons of some layers for each target.

    directions: layer to r [neuron, embed], of an atlas; "share" does without.
    count: how many, for the rules "paper" and "signed".
    share: of all positive contributions to the score, for the rule "share", which needs `writes`.
    """

    def __init__(
        self,
        directions: Mapping[int, Float[Tensor, "neuron embed"]],
        rule: Rule = "paper",
        count: int = 200,
        share: float = 0.5,
        writes: Writes | None = None,
    ) -> None:
        if rule not in get_args(Rule):
            raise SecondLensError(f"unknown rule to choose neurons {rule!r}{closest(rule, get_args(Rule))}")
        if count < 1:
            raise SecondLensError(f"expected at least one neuron, got {count}")
        if not 0 < share <= 1:
            raise SecondLensError(f"expected an explained share above 0 and at most 1, got {share}")
        if rule == "share" and writes is None:
            raise SecondLensError("the rule 'share' needs the neurons' write directions")
        self.directions = dict(directions)
        self.rule = rule
        self.count = count
        self.share = share
        self.writes = writes

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers to choose from."""
        return tuple(self.directions) if self.writes is None else self.writes.layers

    def alignment(self, sets: Float[Tensor, "set target embed"]) -> dict[int, Float[Tensor, "set target neuron"]]:
        """<r, t> a layer."""
        return {layer: sets.to(directions) @ directions.T for layer, directions in self.directions.items()}

    def masks(
        self, shared: SharedPass, sets: Float[Tensor, "set target embed"]
    ) -> dict[int, Bool[Tensor, "any target neuron"]]:
        """The chosen neurons, layer by layer; for "share" an image each, else a set each."""
        if self.rule == "share":
            assert self.writes is not None
            scores = self.writes.neurons(shared, sets)
        else:
            scores = self.alignment(sets)
        sizes = [part.shape[-1] for part in scores.values()]
        together = torch.cat(list(scores.values()), dim=-1)
        if self.rule == "share":
            mask = carrying(together, self.share)
        else:
            mask = largest(together.abs() if self.rule == "paper" else together, self.count)
        return dict(zip(scores, mask.split(sizes, dim=-1), strict=True))


def largest(scores: Float[Tensor, "*lead neuron"], count: int) -> Bool[Tensor, "*lead neuron"]:
    """The `count` largest, or all if they are fewer."""
    top = scores.topk(min(count, scores.shape[-1]), dim=-1).indices
    return torch.zeros_like(scores, dtype=torch.bool).scatter(-1, top, True)


def carrying(contributions: Float[Tensor, "*lead neuron"], share: float) -> Bool[Tensor, "*lead neuron"]:
    """The fewest neurons whose contributions to the score sum to `share` of all positive contributions."""
    ordered, order = contributions.clamp(min=0).sort(dim=-1, descending=True, stable=True)
    ordered = ordered.double()
    before = ordered.cumsum(dim=-1) - ordered
    # A neuron is taken while those before it fall short.
    taken = (before < share * ordered.sum(dim=-1, keepdim=True)) & (ordered > 0)
    return torch.zeros_like(taken).scatter(-1, order, taken)


@dataclass
class Activation(PlainMethod):
    """Mean activation of the neurons chosen for a text (Gandelsman et al. 2025, section 5.2).

    H[i] = 1/|N| sum_{n in N} p[n,i]                   N: the paper's 200 neurons with the largest |<r[n], t>|
    H[i] = 1/|N| sum_{n in N} <r[n], t> p[n,i]         with `signed`: what speaks against the text is taken off
    """

    choice: NeuronChoice = field(repr=False)
    signed: bool = False
    name: str = "activation"

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers of the neurons to choose from."""
        return self.choice.layers

    @torch.no_grad()
    def maps(
        self, shared: SharedPass, targets: Float[Tensor, "image target embed"]
    ) -> Float[Tensor, "image target row column"]:
        """One small product a layer."""
        shared.check_targets(targets)
        shared.check_layers(self.layers)
        sets = distinct(targets)
        masks = self.choice.masks(shared, sets)
        alignment = self.choice.alignment(sets) if self.signed else masks
        count = torch.stack([mask.sum(dim=-1) for mask in masks.values()]).sum(dim=0).clamp(min=1)
        rows = []
        for layer, mask in masks.items():
            activations = shared.trace.activations[layer]
            weights = mask * alignment[layer] / count[..., None]
            rows.append(weights.to(activations) @ activations.mT)
        return shared.to_grid(torch.stack(rows).sum(dim=0))


@dataclass
class Contribution(PlainMethod):
    """Second-order contribution of each patch to the text, through neurons.

    H[i] = sum_{n, k} b[k,i] p[n,i] <u[n,k], t>        b = a / (sigma sigma_post |z|)

    Summed over all tokens it is the neurons' share of <z/|z|, t> (see `lens.second_order`); the map holds the patches.
    choice: only the neurons chosen for the text; None for all of the layers.

    traced: by layer l of the neurons, followed back to the input through what mixed the tokens before:

        H = sum_l c[l] B[l] ... B[0]         B: `mixing`, how much of a token came from which

    A patch's token at layer 8 has gathered from other patches; this says from where. Rows of B sum to one, so the map
    (with the class token) still sums to the neurons' share of the score.
    """

    writes: Writes = field(repr=False)
    choice: NeuronChoice | None = field(default=None, repr=False)
    traced: bool = False
    mixing: Mixing = "norms"
    name: str = "contribution"

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers of the neurons."""
        return self.writes.layers

    @property
    def depths(self) -> Mapping[Mixing, int]:
        """Of the attentions before the last of the layers: neurons of layer l come after l + 1."""
        return {self.mixing: max(self.layers) + 1} if self.traced else {}

    @torch.no_grad()
    def maps(
        self, shared: SharedPass, targets: Float[Tensor, "image target embed"]
    ) -> Float[Tensor, "image target row column"]:
        """Signed, in units of the score."""
        shared.check_targets(targets)
        shared.check_layers(self.layers)
        sets = distinct(targets)
        masks = None if self.choice is None else self.choice.masks(shared, sets)
        found = self.writes.tokens(shared, sets, masks)
        if not self.traced:
            return shared.to_grid(torch.stack(list(found.values())).sum(dim=0))
        mixing = shared.mixing(self.mixing, max(self.layers) + 1)
        return shared.to_grid(back_to_input({layer + 1: part for layer, part in found.items()}, mixing))
