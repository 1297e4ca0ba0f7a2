"""Are the concepts that are found in a scene really there? Precision and recall against the scene's description.

For a scene that shows the concepts T (nouns, colours, textures of its things, and the background), and the first k
texts of a list that name any concept:

    precision@k = share of the texts of which every concept is in T
    recall@k    = share of T that such texts name

Every method of `analysis.concepts.evaluate` over the same scenes. Intervals are normal, over scenes.
"""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from secondlens.analysis.concepts.evaluate import TextLists
from secondlens.analysis.concepts.find import ConceptFinder
from secondlens.atlas.store import Atlas
from secondlens.descriptions.pool import Pool
from secondlens.descriptions.store import Descriptions
from secondlens.errors import WorldError
from secondlens.lens.capture import capture
from secondlens.lens.model import LensModel
from secondlens.progress import Progress
from secondlens.world.phrases import concepts_of
from secondlens.world.render import render
from secondlens.world.sampler import scene_at
from secondlens.world.scene import Scene

SIZES = (1, 4, 8)
SEED = 85_001
"""Of the scenes; no other part draws from it."""

Concept = tuple[str, str]


@torch.no_grad()
def scene_concepts(
    model: LensModel,
    atlas: Atlas,
    descriptions: Descriptions,
    pool: Pool,
    *,
    scenes: int = 500,
    objects: int | None = None,
    percentile: float = 98.0,
    seed: int = SEED,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> dict[str, list[dict[str, float | int]]]:
    """By method, for each k: precision and recall over unbiased scenes, and half the width of their 95 % intervals.

    objects: things a scene; None draws their number. percentile: of the norms above which a neuron is active.

    Raises `WorldError` for fewer than two scenes or a pool that names no concepts.
    """
    if scenes < 2:
        raise WorldError(f"expected two scenes or more, got {scenes}")
    named = [concepts_of(text) for text in pool.texts]
    if not any(named):
        raise WorldError(f"no text of the pool {pool.name!r} names anything of the world; describe over the pool world")
    drawn = [scene_at(seed, index, objects=objects, kind="unbiased") for index in range(scenes)]
    lists = TextLists(ConceptFinder(model, atlas, descriptions, pool, percentile=percentile), descriptions, pool, 30)
    found: dict[str, list[list[tuple[float, float]]]] = {}
    for start in range(0, scenes, batch_size):
        part = drawn[start : start + batch_size]
        pixels = model.preprocess([Image.fromarray(render(scene).image) for scene in part])
        for name, rows in lists.of(capture(model.tower, pixels, atlas.layers)).items():
            scores = [scored([named[row] for row in texts if row >= 0], truth_of(scene))
                      for texts, scene in zip(rows.tolist(), part, strict=True)]  # fmt: skip
            found.setdefault(name, []).extend(scores)
        if progress is not None:
            progress("scenes", start + len(part), scenes)
    return {name: _summary(np.array(scores)) for name, scores in found.items()}


def truth_of(scene: Scene) -> set[Concept]:
    """What a scene shows."""
    looks = {(kind, getattr(thing, kind)) for thing in scene.objects for kind in ("noun", "colour", "texture")}
    return {("background", scene.background), *looks}


def scored(texts: Sequence[set[Concept]], truth: set[Concept]) -> list[tuple[float, float]]:
    """(precision, recall) for each of `SIZES`; texts that name no concept count neither way."""
    kept = [concepts for concepts in texts if concepts]
    figures = []
    for size in SIZES:
        right = [concepts for concepts in kept[:size] if concepts <= truth]
        figures.append((len(right) / size, len(set().union(*right)) / len(truth)))
    return figures


def _summary(scores: np.ndarray) -> list[dict[str, float | int]]:
    """scores: [scene, size, 2]."""
    mean, spread = scores.mean(axis=0), 1.96 * scores.std(axis=0, ddof=1) / len(scores) ** 0.5
    return [
        {
            "k": size,
            "precision": float(mean[row, 0]),
            "precision_within": float(spread[row, 0]),
            "recall": float(mean[row, 1]),
            "recall_within": float(spread[row, 1]),
        }
        for row, size in enumerate(SIZES)
    ]
