"""CLIP-Dissect's labels against soft WPMI written out in float64, text by text and image by image."""

import math

import numpy as np
import pytest
import torch

from secondlens.descriptions import dissect as module
from secondlens.descriptions.dissect import FIRST, LAST, SHARPNESS, dissect

IMAGES, NEURONS, TEXTS, EMBED = 60, 9, 40, 12


def example() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Activations, images and texts; all images share one large direction, and all texts another: the gap."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(IMAGES, EMBED, generator=generator) + 2 * torch.eye(EMBED)[0]
    texts = torch.randn(TEXTS, EMBED, generator=generator) * torch.linspace(0.3, 3, EMBED) - 3 * torch.eye(EMBED)[1]
    activations = torch.randn(IMAGES, NEURONS, generator=generator)
    return activations, *(torch.nn.functional.normalize(rows, dim=1) for rows in (images, texts))


def slow_scores(
    activations: torch.Tensor, images: torch.Tensor, texts: torch.Tensor, top: int, weight: float
) -> np.ndarray:
    """Soft WPMI [neuron, text], from the formula."""
    centred = []
    for rows in (images.double().numpy(), texts.double().numpy()):
        less_mean = rows - rows.mean(axis=0)
        centred.append([row / np.linalg.norm(row) for row in less_mean])
    chance = np.array([[math.exp(SHARPNESS * image @ text) for text in centred[1]] for image in centred[0]])
    chance /= chance.sum(axis=1, keepdims=True)
    sums = np.zeros((NEURONS, TEXTS))
    for neuron in range(NEURONS):
        highest = sorted(range(IMAGES), key=lambda image: -float(activations[image, neuron]))[:top]
        for place, image in enumerate(highest):
            p = FIRST + (LAST - FIRST) * place / (top - 1)
            sums[neuron] += np.log(1 + p * (chance[image] - 1))
    return sums - weight * np.log(np.exp(sums).mean(axis=0))


@pytest.mark.parametrize("weight", [0.0, 1.0])
@pytest.mark.parametrize("pieces", [False, True])
def test_labels_are_those_of_the_formula(weight: float, pieces: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if pieces:
        monkeypatch.setattr(module, "NEURONS", 2)
        monkeypatch.setattr(module, "TEXTS", 7)
    activations, images, texts = example()
    labels, scores = dissect(activations, images, texts, top=15, weight=weight)
    expected = slow_scores(activations, images, texts, 15, weight)
    assert labels.tolist() == expected.argmax(axis=1).tolist()
    np.testing.assert_allclose(scores.numpy(), expected.max(axis=1), rtol=1e-4, atol=1e-4)


def test_more_top_images_than_there_are_is_all_of_them() -> None:
    activations, images, texts = example()
    for found, all_images in zip(
        dissect(activations, images, texts, top=10 * IMAGES),
        dissect(activations, images, texts, top=IMAGES),
        strict=True,
    ):
        assert torch.equal(found, all_images)
