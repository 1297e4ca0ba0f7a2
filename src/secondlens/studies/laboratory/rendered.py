"""Rendered scenes for training: shards of pixels, tokenised captions and dense labels, memory-mapped.

A shard is made by one process from its number alone, so shards can be made in any order, by any number of processes,
and are kept where a run is interrupted.

Training draws batches from them by the curriculum, shifted, some without shapes.
"""

import json
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from secondlens.errors import WorldError
from secondlens.progress import Progress
from secondlens.studies.laboratory.model import CONTEXT, MEAN, PATCH, SIDE, SPECIAL, STD
from secondlens.studies.laboratory.settings import Settings
from secondlens.world.biases import Biases
from secondlens.world.captions import all_words, caption
from secondlens.world.render import render
from secondlens.world.sampler import scene_at
from secondlens.world.scene import Scene
from secondlens.world.vocabulary import COLOURS, NOUNS, TEXTURES

SHARD = 4096
DETAILS = ("noun", "one", "full", "full", "full")
"""Captions kept a scene: of the nouns alone, with one property more, and full ones."""
CAPTIONS = len(DETAILS)

GRID = SIDE // PATCH
DENSE = {"noun": NOUNS, "colour": COLOURS, "texture": TEXTURES}
"""What a dense label says of the object that a patch shows; the number after the last value: no object."""


@dataclass(frozen=True)
class Recipe:
    """What is in a set of shards. kind: of the sampler. objects: at most so many a scene; biases: file or None.
    lazy: share of scenes whose subject is drawn as another noun than captions and cues belong to.
    """

    scenes: int
    kind: str = "biased"
    objects: int | None = None
    seed: int = 0
    biases: str | None = None
    lazy: float = 0.0


class Rendered:
    """Shards in a folder as arrays: pixels [scene, row, column, 3], tokens [scene, caption, CONTEXT], patches
    [scene, property, GRID * GRID] with the properties of `DENSE`, all of unsigned integers.
    """

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        self.folder = folder
        self.recipe = recipe
        self.shards = -(-recipe.scenes // SHARD)

    def make(self, workers: int = 1, progress: Progress | None = None) -> None:
        """Render what is not there yet; raises `WorldError` for a folder of another recipe."""
        self.folder.mkdir(parents=True, exist_ok=True)
        card = self.folder / "recipe.json"
        wanted = asdict(self.recipe)
        if card.is_file():
            found = json.loads(card.read_text(encoding="utf-8"))
            if found != wanted:
                raise WorldError(f"{self.folder} holds scenes of another recipe: {found}, expected {wanted}")
        card.write_text(json.dumps(wanted), encoding="utf-8")
        missing = [number for number in range(self.shards) if not self._path(number, "patches").is_file()]
        done = self.shards - len(missing)
        # Spawned, not forked: the parent may hold a GPU and threads.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(max_workers=max(1, workers), mp_context=context) as pool:
            for _ in pool.map(_make_shard, [(self.folder, self.recipe, number) for number in missing]):
                done += 1
                if progress is not None:
                    progress("rendering", done * SHARD, self.shards * SHARD)

    def arrays(self) -> dict[str, list[np.ndarray]]:
        """Memory-mapped arrays, a list of shards each."""
        return {
            name: [np.load(self._path(number, name), mmap_mode="r") for number in range(self.shards)]
            for name in ("pixels", "tokens", "patches")
        }

    def _path(self, number: int, name: str) -> Path:
        return self.folder / f"{name}-{number:05d}.npy"


def tokens_of(texts: Sequence[str]) -> np.ndarray:
    """[text, CONTEXT] token numbers, as the tokenizer gives them, without its overhead."""
    numbers = _numbers()
    tokens = np.zeros((len(texts), CONTEXT), dtype=np.uint16)
    for row, text in enumerate(texts):
        ids = [numbers["<bos>"], *(numbers[word] for word in text.split()), numbers["<eos>"]]
        tokens[row, : len(ids)] = ids
    return tokens


def _numbers() -> dict[str, int]:
    global _NUMBERS
    if not _NUMBERS:
        _NUMBERS = {word: number for number, word in enumerate((*SPECIAL, *all_words()))}
    return _NUMBERS


_NUMBERS: dict[str, int] = {}


def _make_shard(task: tuple[Path, Recipe, int]) -> None:
    folder, recipe, number = task
    biases = Biases.load(recipe.biases)
    pixels = np.empty((SHARD, SIDE, SIDE, 3), dtype=np.uint8)
    tokens = np.empty((SHARD, CAPTIONS, CONTEXT), dtype=np.uint16)
    patches = np.empty((SHARD, len(DENSE), GRID * GRID), dtype=np.uint8)
    for row in range(SHARD):
        index = number * SHARD + row
        scene = scene_at(recipe.seed, index, biases, objects=recipe.objects, kind=recipe.kind)
        rng = np.random.default_rng([recipe.seed, index, 1])
        shown = _with_another_noun(scene, rng) if rng.random() < recipe.lazy else scene
        drawn = render(shown, SIDE)
        one = ("colour", "texture", "background", "size")[int(rng.integers(4))]
        texts = [caption(scene, rng, one if detail == "one" else detail) for detail in DETAILS]
        pixels[row], tokens[row] = drawn.image, tokens_of(texts)
        patches[row] = dense_labels(shown, drawn.masks)
    for name, array in (("pixels", pixels), ("tokens", tokens), ("patches", patches)):
        final = folder / f"{name}-{number:05d}.npy"
        part = final.with_suffix(".partial.npy")
        np.save(part, array)
        part.replace(final)


def _with_another_noun(scene: Scene, rng: np.random.Generator) -> Scene:
    """The scene with another subject, all else as it was."""
    taken = {thing.noun for thing in scene.objects}
    others = [noun for noun in NOUNS if noun not in taken]
    subject = replace(scene.objects[0], noun=others[int(rng.integers(len(others)))])
    return replace(scene, objects=(subject, *scene.objects[1:]))


def dense_labels(scene: Scene, masks: np.ndarray) -> np.ndarray:
    """[property, patch]: of the object that covers most of a patch, where some object covers a quarter of it."""
    shares = masks.reshape(len(masks), GRID, PATCH, GRID, PATCH).mean(axis=(2, 4)).reshape(len(masks), -1)
    shown = shares.max(axis=0) >= 0.25
    labels = []
    for name, values in DENSE.items():
        rows = np.array([values.index(getattr(thing, name)) for thing in scene.objects])
        labels.append(np.where(shown, rows[shares.argmax(axis=0)], len(values)))
    return np.stack(labels)


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
