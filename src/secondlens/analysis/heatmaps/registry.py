"""All methods by name: the one place where a method is registered."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast, get_args

from jaxtyping import Float
from torch import Tensor

from secondlens.analysis.heatmaps.attention import MaskCLIP, RawAttention, Rollout, TextSpan
from secondlens.analysis.heatmaps.base import HeatMapMethod
from secondlens.analysis.heatmaps.gradcam import GradCam, LeGrad
from secondlens.analysis.heatmaps.mixing import Mixing
from secondlens.analysis.heatmaps.neurons import Activation, Contribution, NeuronChoice, Rule
from secondlens.analysis.heatmaps.relevance import LRP, GenericAttribution, PartialLRP, TransformerAttribution
from secondlens.analysis.heatmaps.writes import Writes
from secondlens.atlas.store import Atlas
from secondlens.errors import SecondLensError, closest
from secondlens.lens.model import LensModel

NEURONS = 200
"""Neurons of the paper's heat maps."""
TRACED_READERS = 4
"""Last readers of "traced-direct": best of 4, 6 and all of 12 on development photographs."""


@dataclass(frozen=True)
class Options:
    """What a method may be told; each ignores what does not concern it.

    layers: of the neurons; None: all of the atlas, or the last three that have a later reader.
    rule: how neurons are chosen: the largest |<r, t>| ("paper"), the largest <r, t> ("signed"), those that carry
    `share` of the positive contributions to this image's score ("share"), or all ("all", contributions only).
    None: each method's own: "paper" for activations, "all" for contributions, for traced ones "paper" with an atlas.
    neurons: how many, for the rules "paper" and "signed".
    mixing: how traced methods follow tokens back (`mixing`): "norms", "attention" or "block".
    paths: contributions only through these (reader, head) pairs; None: all.
    """

    layers: tuple[int, ...] | None = None
    rule: str | None = None
    neurons: int = NEURONS
    share: float = 0.5
    mixing: str = "norms"
    paths: tuple[tuple[int, int], ...] | None = None


class Build:
    """One model, atlas and options, and what several methods share."""

    def __init__(self, model: LensModel, atlas: Atlas | None, options: Options) -> None:
        if options.mixing not in get_args(Mixing):
            raise SecondLensError(f"unknown mixing {options.mixing!r}{closest(options.mixing, get_args(Mixing))}")
        self.mixing = cast(Mixing, options.mixing)
        self.model = model
        self.atlas = atlas
        self.options = options

    @cached_property
    def layers(self) -> tuple[int, ...]:
        """The layers of the neurons."""
        if self.options.layers is not None:
            return self.options.layers
        return tuple(self.atlas.layers) if self.atlas is not None else tuple(self.model.tower.lens_layers)[-3:]

    @property
    def before(self) -> int:
        """How many layers come before the last reader."""
        return self.model.tower.readers[-1].layers_before

    @cached_property
    def writes(self) -> Writes:
        """Write directions, made once."""
        return Writes(self.model, self.layers, paths=self.options.paths)

    def choice(self, default: Rule) -> NeuronChoice:
        """The choice of neurons by the rule asked for, or a method's own."""
        options, rule = self.options, self.options.rule or default
        if rule == "all":
            raise SecondLensError("the rule 'all' is for contributions; activations need a choice of neurons")
        if rule not in get_args(Rule):
            raise SecondLensError(f"unknown rule to choose neurons {rule!r}{closest(rule, [*get_args(Rule), 'all'])}")
        if rule != "share" and self.atlas is None:
            raise SecondLensError(f"the rule {rule!r} needs an atlas with the neurons' directions; give one")
        writes = self.writes if rule == "share" else None
        return NeuronChoice(self.directions, cast(Rule, rule), options.neurons, options.share, writes)

    @cached_property
    def directions(self) -> dict[int, Float[Tensor, "neuron embed"]]:
        """Of the atlas; empty without one."""
        if self.atlas is None:
            return {}
        return {layer: self.atlas.layer(layer).directions.to(self.model.device) for layer in self.layers}

    def activation(self, signed: bool = False) -> HeatMapMethod:
        """Of the paper's neurons, unless others are asked for."""
        return Activation(self.choice("paper"), signed, "signed-activation" if signed else "activation")

    def contribution(self) -> HeatMapMethod:
        """Of all neurons, unless some are asked for."""
        every = self.options.rule in (None, "all")
        return Contribution(self.writes, None if every else self.choice("share"))

    def traced(self) -> HeatMapMethod:
        """Of the paper's neurons where an atlas has directions, else of all, unless others are asked for."""
        rule = self.options.rule or ("all" if self.atlas is None else "paper")
        choice = None if rule == "all" else self.choice("paper")
        return Contribution(self.writes, choice, traced=True, mixing=self.mixing, name="traced-contribution")

    def traced_share(self) -> HeatMapMethod:
        """Of the neurons that carry `share` of the score, whatever rule is asked for."""
        choice = NeuronChoice(self.directions, "share", share=self.options.share, writes=self.writes)
        return Contribution(self.writes, choice, traced=True, mixing=self.mixing, name="traced-fraction")


Factory = Callable[[Build], HeatMapMethod]


@dataclass(frozen=True)
class Entry:
    """A registered method. ours: of this project or its paper, not a baseline. atlas: whether it needs directions.
    units: whether its values for different texts can be compared, as parts of the score <z/|z|, t> or cosines can.
    class_token: whether it is defined for towers with a class token only.
    """

    make: Factory
    summary: str
    ours: bool = False
    atlas: bool = False
    units: bool = False
    class_token: bool = False


METHODS: dict[str, Entry] = {
    "activation": Entry(
        Build.activation,
        "mean activation of the text's neurons (the paper)",
        ours=True,
        atlas=True,
    ),
    "signed-activation": Entry(
        lambda build: build.activation(signed=True),
        "activation weighted by the neurons' alignment with the text",
        ours=True,
        atlas=True,
    ),
    "contribution": Entry(Build.contribution, "second-order contribution of each patch, exact", ours=True, units=True),
    "traced-contribution": Entry(
        Build.traced, "contributions of the text's neurons, followed back to the input patches", ours=True, units=True
    ),
    "traced-fraction": Entry(
        Build.traced_share, "the same for the neurons that carry the score: nearly one map for all texts", ours=True
    ),
    "traced-direct": Entry(
        lambda build: TextSpan(build.before, TRACED_READERS, True, build.mixing, "traced-direct"),
        "direct contributions of the last four readers' heads, followed back to the input patches",
        ours=True,
        units=True,
    ),
    "mask-clip": Entry(lambda *_: MaskCLIP(), "similarity of each token's value alone (Zhou et al. 2022)", units=True),
    "raw-attention": Entry(lambda *_: RawAttention(), "last attention of the pooled token"),
    "rollout": Entry(
        lambda build: Rollout(len(build.model.tower.attentions)),
        "attention through all layers (Abnar and Zuidema 2020)",
    ),
    "lrp": Entry(lambda *_: LRP(), "relevance of the input tokens (Binder et al. 2016)", class_token=True),
    "partial-lrp": Entry(
        lambda *_: PartialLRP(), "relevance of the last attention (Voita et al. 2019)", class_token=True
    ),
    "grad-cam": Entry(lambda *_: GradCam(), "gradient times last attention (Selvaraju et al. 2017)"),
    "chefer": Entry(
        lambda *_: TransformerAttribution(), "transformer attribution (Chefer et al., CVPR 2021)", class_token=True
    ),
    "chefer-generic": Entry(
        lambda *_: GenericAttribution(), "attention times gradient (Chefer et al., ICCV 2021)", class_token=True
    ),
    "legrad": Entry(
        lambda *_: LeGrad(), "attention gradients of all layers (Bousselham et al. 2024)", class_token=True
    ),
    "text-span": Entry(
        lambda build: TextSpan(build.before), "heads' direct contributions (Gandelsman et al. 2024)", units=True
    ),
}


def make_methods(
    model: LensModel,
    names: Sequence[str] | None = None,
    atlas: Atlas | None = None,
    options: Options | None = None,
) -> list[HeatMapMethod]:
    """Methods by name, ready for `SharedPass`; None: all that this model and atlas allow.

    Raises `SecondLensError` for an unknown name and for a method that does not apply to this model, `AtlasError` for
    an atlas of another model.
    """
    if atlas is not None:
        atlas.require_model(model)
    build = Build(model, atlas, options or Options())
    made = []
    for name in METHODS if names is None else names:
        if name not in METHODS:
            raise SecondLensError(f"unknown heat map method {name!r}{closest(name, METHODS)}")
        entry = METHODS[name]
        if names is None and entry.class_token and model.tower.pool_mlp is not None:
            continue
        if entry.atlas and atlas is None:
            if names is None:
                continue
            raise SecondLensError(f"the method {name!r} needs an atlas with the neurons' directions; give one")
        made.append(entry.make(build))
    return made
