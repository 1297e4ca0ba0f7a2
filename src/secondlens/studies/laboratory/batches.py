"""Batches of rendered scenes for the training: by the curriculum, shifted, some without shapes."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from secondlens.studies.laboratory.model import MEAN, PATCH, STD
from secondlens.studies.laboratory.rendered import CAPTIONS, Rendered
from secondlens.studies.laboratory.settings import Settings


class Scenes:
    """Rendered scenes where the training can reach them fast: on the GPU as a whole, or memory-mapped."""

    def __init__(self, rendered: Rendered, device: torch.device) -> None:
        self.shards = rendered.arrays()
        self.size = len(self.shards["pixels"][0])
        self.count = self.size * len(self.shards["pixels"])
        self.device = device
        self.whole: dict[str, Tensor] | None = None
        if device.type == "cuda":
            self.whole = {
                name: torch.cat(
                    [torch.from_numpy(np.asarray(shard).astype(_KEPT[name])).to(device) for shard in shards]
                )
                for name, shards in self.shards.items()
            }

    def draw(self, rows: Tensor, captions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """uint8 pixels [image, row, column, 3], tokens [image, CONTEXT], dense labels [image, property, patch]."""
        if self.whole is not None:
            rows, captions = rows.to(self.device), captions.to(self.device)
            return (
                self.whole["pixels"][rows],
                self.whole["tokens"][rows, captions].long(),
                self.whole["patches"][rows].long(),
            )
        parts: dict[str, list[np.ndarray]] = {name: [] for name in self.shards}
        for row, number in zip(rows.tolist(), captions.tolist(), strict=True):
            shard, place = divmod(row, self.size)
            parts["pixels"].append(self.shards["pixels"][shard][place])
            parts["tokens"].append(self.shards["tokens"][shard][place, number])
            parts["patches"].append(self.shards["patches"][shard][place])
        stacked = {name: torch.from_numpy(np.stack(part).astype(_KEPT[name])) for name, part in parts.items()}
        return stacked["pixels"], stacked["tokens"].long(), stacked["patches"].long()


_KEPT = {"pixels": np.uint8, "tokens": np.int32, "patches": np.uint8}


def generator_of(settings: Settings, step: int, use: int) -> torch.Generator:
    """Of one use of chance in one step: a run that goes on draws what it would have drawn."""
    return torch.Generator().manual_seed((settings.seed * 1_000_003 + step) * 2 + use)


def draw_batch(
    sets: tuple[Scenes, Scenes], settings: Settings, step: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels [image, 3, row, column], tokens and dense labels of a step, by the curriculum."""
    generator = generator_of(settings, step, 0)
    left = max(0.0, 1 - step / max(1, settings.curriculum * settings.steps))
    easy = round(settings.batch * max(settings.least_easy, left))
    parts = []
    for scenes, count in zip(sets, (easy, settings.batch - easy), strict=True):
        if count:
            rows = torch.randint(scenes.count, (count,), generator=generator)
            alone = torch.rand(count, generator=generator) < max(settings.least_nouns, left)
            others = torch.randint(1, CAPTIONS, (count,), generator=generator)
            parts.append(scenes.draw(rows, torch.where(alone, 0, others)))
    pixels, tokens, labels = (torch.cat(column).to(device) for column in zip(*parts, strict=True))
    coarse = torch.rand(len(pixels), generator=generator) < settings.coarse
    return _coarsened(_shifted(pixels, settings.shift, generator), coarse.to(device)), tokens, labels


def _shifted(pixels: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Normalised [image, 3, row, column], each image moved by up to `most` pixels, its edge repeated."""
    count, side = pixels.shape[0], pixels.shape[1]
    moves = torch.randint(-most, most + 1, (2, count), generator=generator).to(pixels.device)
    line = torch.arange(side, device=pixels.device)
    rows, columns = ((line + move[:, None]).clamp(0, side - 1) for move in moves)
    picked = pixels[torch.arange(count, device=pixels.device)[:, None, None], rows[:, :, None], columns[:, None, :]]
    return (picked.permute(0, 3, 1, 2).float() / 255 - MEAN) / STD


def _coarsened(pixels: Tensor, which: Tensor) -> Tensor:
    """Some images with every patch at its mean colour."""
    means = functional.interpolate(functional.avg_pool2d(pixels, PATCH), scale_factor=PATCH)
    return torch.where(which[:, None, None, None], means, pixels)
