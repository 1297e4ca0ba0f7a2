"""What neurons write is that of the texts asked for, whatever was asked for before."""

import torch

from builders import pixels
from secondlens.analysis.heatmaps import SharedPass
from secondlens.analysis.heatmaps.writes import Writes
from secondlens.lens import LensModel


def texts_of(model: LensModel, seed: int) -> torch.Tensor:
    found = torch.randn(1, 3, model.embed_dim, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(found, dim=-1)


def test_neurons_and_tokens_of_other_texts(clip: LensModel) -> None:
    layers = tuple(clip.tower.lens_layers)
    writes, shared = Writes(clip, layers), SharedPass(clip, pixels(2, 64), layers)
    for seed in (0, 1, 1, 0):
        texts = texts_of(clip, seed)
        anew = Writes(clip, layers)
        for found, expected in (
            (writes.neurons(shared, texts), anew.neurons(shared, texts)),
            (writes.tokens(shared, texts), anew.tokens(shared, texts)),
        ):
            for layer in layers:
                torch.testing.assert_close(found[layer], expected[layer])
    # Texts that change in place are other texts.
    texts = texts_of(clip, 2)
    before = writes.neurons(shared, texts)[layers[0]].clone()
    texts.neg_()
    torch.testing.assert_close(writes.neurons(shared, texts)[layers[0]], -before)
