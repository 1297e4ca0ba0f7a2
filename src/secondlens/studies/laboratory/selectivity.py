"""True selectivity: how well does a neuron's effect tell scenes with a concept from scenes without it?

With x[n](I), the projection of the centred effect on the neuron's direction (`studies.projections`), and the presence
of concept c in scene I, known from the scene itself:

    auc[n,c]         = P(x of a scene with c > x of a scene without)     ties count half; 0.5 is chance
    correlation[n,c] = correlation of x[n] with the presence of c        (point-biserial)

All pairs at once: sums of ranks are one product [concept, scene] x [scene, neuron].
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from scipy.stats import rankdata
from torch import Tensor

from secondlens.atlas.store import Atlas
from secondlens.errors import WorldError
from secondlens.lens.capture import capture
from secondlens.lens.model import LensModel
from secondlens.progress import Progress
from secondlens.studies.projections import Projector
from secondlens.world.phrases import CONCEPTS
from secondlens.world.render import render
from secondlens.world.scene import Scene

FEWEST = 5
"""Scenes with a concept, and without it, that its figures need."""


@dataclass(frozen=True)
class Selectivity:
    """auc, correlation: NaN for a concept that too few scenes show. null: for each neuron the 95 % quantile, over
    permutations of the scenes, of the largest |auc - 0.5| over concepts.
    """

    layer: int
    auc: Float[Tensor, "neuron concept"]
    correlation: Float[Tensor, "neuron concept"]
    null: float

    @property
    def selective(self) -> Bool[Tensor, " neuron"]:
        """Neurons that tell some concept better than any of them would be told by chance (p < 0.05)."""
        return (self.auc - 0.5).abs().nan_to_num(0.0).amax(dim=1) > self.null


def presence(scenes: Sequence[Scene]) -> Bool[Tensor, "scene concept"]:
    """Which concepts (`CONCEPTS`) each scene shows: those of any of its objects, and its background."""
    found = torch.zeros(len(scenes), len(CONCEPTS), dtype=torch.bool)
    place = {concept: index for index, concept in enumerate(CONCEPTS)}
    for row, scene in enumerate(scenes):
        found[row, place["background", scene.background]] = True
        for thing in scene.objects:
            for kind in ("noun", "colour", "texture"):
                found[row, place[kind, getattr(thing, kind)]] = True
    return found


@torch.no_grad()
def projections(
    model: LensModel,
    atlas: Atlas,
    scenes: Sequence[Scene],
    *,
    layers: Sequence[int] | None = None,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> dict[int, Float[Tensor, "scene neuron"]]:
    """x of every neuron on every scene, by layer, in one pass. Raises `AtlasError` for an atlas of another model."""
    atlas.require_model(model)
    chosen = [atlas.layer(index).index for index in (atlas.layers if layers is None else layers)]
    projectors = {index: Projector(model, atlas.layer(index)) for index in chosen}
    parts: dict[int, list[Tensor]] = {index: [] for index in chosen}
    for start in range(0, len(scenes), batch_size):
        images = [Image.fromarray(render(scene).image) for scene in scenes[start : start + batch_size]]
        trace = capture(model.tower, model.preprocess(images), chosen)
        for index, projector in projectors.items():
            parts[index].append(projector.part(trace).x.cpu())
        if progress is not None:
            progress("scenes", min(start + batch_size, len(scenes)), len(scenes))
    return {index: torch.cat(found) for index, found in parts.items()}


def selectivity(
    x: Float[Tensor, "scene neuron"],
    shown: Bool[Tensor, "scene concept"],
    layer: int = 0,
    *,
    permutations: int = 20,
    seed: int = 0,
) -> Selectivity:
    """Figures of all neurons for all concepts; raises `WorldError` for fewer than ten scenes.

    permutations: of the scenes, for the null: each gives one draw a neuron, and all neurons share its quantile.
    """
    if len(x) < 2 * FEWEST:
        raise WorldError(f"expected {2 * FEWEST} scenes or more, got {len(x)}")
    present = shown.double().numpy()
    ranks = rankdata(x.double().numpy(), axis=0)
    auc = _auc(ranks, present)
    centred = x.double().numpy() - x.double().numpy().mean(axis=0)
    there = present - present.mean(axis=0)
    scale = np.sqrt((centred**2).sum(axis=0))[:, None] * np.sqrt((there**2).sum(axis=0))[None]
    correlation = np.where(scale > 0, centred.T @ there / np.where(scale > 0, scale, 1), np.nan)
    correlation[np.isnan(auc)] = np.nan
    rng = np.random.default_rng(seed)
    draws = [
        np.nanmax(np.abs(_auc(ranks, present[rng.permutation(len(x))]) - 0.5), axis=1) for _ in range(permutations)
    ]
    null = float(np.quantile(np.concatenate(draws), 0.95)) if draws else float("nan")
    return Selectivity(layer, torch.from_numpy(auc).float(), torch.from_numpy(correlation).float(), null)


def _auc(ranks: np.ndarray, present: np.ndarray) -> np.ndarray:
    """[neuron, concept] from ranks within columns [scene, neuron], midranks for ties."""
    with_it = present.sum(axis=0)
    without = len(present) - with_it
    usable = (with_it >= FEWEST) & (without >= FEWEST)
    pairs = np.where(usable, with_it * without, 1)
    return np.where(usable, (ranks.T @ present - with_it * (with_it + 1) / 2) / pairs, np.nan)
