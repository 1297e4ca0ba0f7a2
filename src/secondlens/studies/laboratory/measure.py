"""What a model of the embedded world can do, in figures: zero-shot accuracies and retrieval, on scenes it has not seen.

Scenes come from `scene_at` with a seed of their own. *Unbiased* scenes draw every property alone; in *counter-biased*
ones a noun never comes with what the table plants for it, in *swapped* ones it comes with what is planted for another
one; *biased* ones are like those of the training.
"""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from secondlens.lens.model import LensModel
from secondlens.progress import Progress, silent
from secondlens.world.biases import Biases
from secondlens.world.captions import caption, class_prompts
from secondlens.world.render import render
from secondlens.world.sampler import KINDS, scene_at
from secondlens.world.scene import Scene, property_of
from secondlens.world.vocabulary import PROPERTIES

UNSEEN = 90_001
"""Seed of the scenes that figures are measured on; the training's are 0 and 1."""

ASKED = ("noun", "colour", "texture", "background")


def measure(
    model: LensModel,
    *,
    scenes: int = 2000,
    groups: int = 20,
    biases: Biases | None = None,
    seed: int = UNSEEN,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Accuracies as fractions, by name.

    noun, colour, texture, background: zero-shot, one object, unbiased. noun_biased, noun_counter, noun_swapped: of
    nouns in such scenes. retrieval: the caption of an image among those of 100 images of two objects, over `groups`.
    """
    biases = biases or Biases.load(None)
    tell = progress or silent
    figures: dict[str, float] = {}
    for number, kind in enumerate(KINDS):
        tell("measuring", number, len(KINDS) + 1)
        drawn = [scene_at(seed, index, biases, objects=1, kind=kind) for index in range(scenes)]
        embeddings = embed(model, drawn)
        for name in ASKED if kind == "unbiased" else ("noun",):
            found = embeddings @ class_texts(model, name).T
            truth = torch.tensor([PROPERTIES[name].index(property_of(scene, name)) for scene in drawn])
            suffix = "" if kind == "unbiased" else f"_{kind}"
            figures[f"{name}{suffix}"] = float((found.argmax(dim=1).cpu() == truth).float().mean())
    tell("measuring", len(KINDS), len(KINDS) + 1)
    figures["retrieval"] = _retrieval(model, groups, biases, seed + 1)
    tell("measuring", len(KINDS) + 1, len(KINDS) + 1)
    return figures


def class_texts(model: LensModel, name: str) -> Tensor:
    """[class, embed] zero-shot classifier of a property: the mean over the grammar's prompts for each of its values."""
    means = [model.encode_texts(prompts).mean(dim=0) for prompts in class_prompts(name).values()]
    return torch.nn.functional.normalize(torch.stack(means), dim=1)


@torch.no_grad()
def embed(model: LensModel, scenes: Sequence[Scene], batch: int = 256) -> Tensor:
    """[scene, embed] of unit norm."""
    parts = []
    for start in range(0, len(scenes), batch):
        images = [Image.fromarray(render(scene).image) for scene in scenes[start : start + batch]]
        parts.append(torch.nn.functional.normalize(model.encode_images(model.preprocess(images)), dim=1))
    return torch.cat(parts)


def _retrieval(model: LensModel, groups: int, biases: Biases, seed: int, size: int = 100) -> float:
    shares = []
    for group in range(groups):
        drawn = [scene_at(seed, group * size + row, biases, objects=2, kind="unbiased") for row in range(size)]
        texts = [caption(scene, np.random.default_rng([seed, group, row])) for row, scene in enumerate(drawn)]
        scores = embed(model, drawn) @ model.encode_texts(texts).T
        shares.append(float((scores.argmax(dim=1).cpu() == torch.arange(size)).float().mean()))
    return float(np.mean(shares))
