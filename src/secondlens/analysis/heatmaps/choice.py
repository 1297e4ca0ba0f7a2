"""Which neurons a heat map is made of."""

from collections.abc import Mapping
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from secondlens.analysis.heatmaps.base import SharedPass
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
