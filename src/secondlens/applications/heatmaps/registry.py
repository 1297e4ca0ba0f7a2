"""All methods by name: the one place where a method is registered."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from secondlens.applications.heatmaps.attention import RawAttention, Rollout
from secondlens.applications.heatmaps.base import HeatMapMethod
from secondlens.applications.heatmaps.direct import TextSpan
from secondlens.applications.heatmaps.gradcam import GradCam, LeGrad
from secondlens.applications.heatmaps.lrp import LRP, GenericAttribution, PartialLRP, TransformerAttribution
from secondlens.atlas.store import Atlas
from secondlens.effects.paths import Path
from secondlens.errors import SecondLensError, closest
from secondlens.models.model import LensModel

Choice = Literal["paper", "signed", "share"]


@dataclass(frozen=True)
class Options:
    """What a method may be told; each ignores what does not concern it.

    layers: of the neurons; None: all of the atlas, or the last three that have a later reader.
    choice: how neurons are chosen: the paper's largest |<r, t>|, the largest <r, t>, or by explained share.
    neurons: how many; None: all. paths: only through these (reader, head) pairs.
    """

    layers: tuple[int, ...] | None = None
    choice: Choice = "paper"
    neurons: int | None = 200
    paths: tuple[Path, ...] | None = None


Factory = Callable[[LensModel, Atlas | None, Options], HeatMapMethod]


@dataclass(frozen=True)
class Entry:
    """A registered method. ours: of this project or its paper, not a baseline. atlas: whether it needs directions."""

    make: Factory
    summary: str
    ours: bool = False
    atlas: bool = False


METHODS: dict[str, Entry] = {
    "raw-attention": Entry(lambda *_: RawAttention(), "last attention of the pooled token"),
    "rollout": Entry(lambda *_: Rollout(), "attention through all layers (Abnar and Zuidema 2020)"),
    "lrp": Entry(lambda *_: LRP(), "relevance of the input tokens (Binder et al. 2016)"),
    "partial-lrp": Entry(lambda *_: PartialLRP(), "relevance of the last attention (Voita et al. 2019)"),
    "grad-cam": Entry(lambda *_: GradCam(), "gradient times last attention (Selvaraju et al. 2017)"),
    "chefer": Entry(lambda *_: TransformerAttribution(), "transformer attribution (Chefer et al., CVPR 2021)"),
    "chefer-generic": Entry(lambda *_: GenericAttribution(), "attention times gradient (Chefer et al., ICCV 2021)"),
    "legrad": Entry(lambda *_: LeGrad(), "attention gradients of all layers (Bousselham et al. 2024)"),
    "text-span": Entry(lambda *_: TextSpan(), "heads' direct contributions (Gandelsman et al. 2024)"),
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
    made = []
    for name in METHODS if names is None else names:
        if name not in METHODS:
            raise SecondLensError(f"unknown heat map method {name!r}{closest(name, METHODS)}")
        entry = METHODS[name]
        if entry.atlas and atlas is None:
            if names is None:
                continue
            raise SecondLensError(f"the method {name!r} needs an atlas with the neurons' directions; give one")
        made.append(entry.make(model, atlas, options or Options()))
    return made
