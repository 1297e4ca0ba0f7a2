"""Every heat map method against the masks of a set of images, in one pass.

1. Read a batch of images and masks; what cannot be used is counted with its reason.
2. One `SharedPass` for the batch: its embeddings give the targets, and every method reads from it.
3. Maps go to the pixels of the model's square, bilinearly (or on to the image's own size), and are scored.
4. The batch's scores go to disk; a run that was killed starts at the first batch that is not there.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from secondlens.analysis.heatmaps import HeatMapMethod, SharedPass
from secondlens.analysis.heatmaps.fit import fit_images
from secondlens.analysis.heatmaps.postprocess import upsample
from secondlens.analysis.segmentation.metrics import Scores, score_map
from secondlens.analysis.segmentation.progress import Done, Shards
from secondlens.analysis.segmentation.targets import Targets
from secondlens.analysis.segmentation.views import Size, fit_mask, pixel_maps, views_of
from secondlens.atlas.store import Atlas
from secondlens.data import UnreadableImage
from secondlens.data.masks import Masked, MaskedImages, UnusableMask
from secondlens.disk.lock import one_writer
from secondlens.errors import ImageError, SecondLensError, closest
from secondlens.lens.model import LensModel
from secondlens.progress import Progress


@dataclass(frozen=True)
class Plan:
    """How to evaluate.

    size: "model" scores on the model's square, the mask resized to it (the harnesses' way); "image" on the image.
    views: 1, 2 (and mirrored) or 8 (and moved by half a patch): the same for every method.
    first, limit: which images of the set.
    """

    size: str = "model"
    views: int = 1
    batch_size: int = 16
    first: int = 0
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.size not in get_args(Size):
            raise SecondLensError(f"unknown resolution {self.size!r}{closest(self.size, get_args(Size))}")

    def positions(self, count: int) -> range:
        """Of the images to evaluate."""
        if self.first < 0 or (self.limit is not None and self.limit < 1) or self.batch_size < 1:
            raise SecondLensError("expected a first image of 0 or more, and a limit and a batch size of 1 or more")
        if self.first >= count:
            raise SecondLensError(f"expected a first image below {count}, the number of images, got {self.first}")
        return range(self.first, count if self.limit is None else min(count, self.first + self.limit))


@dataclass(frozen=True)
class Evaluation:
    """The scores by method, in the order of the methods; `images` as in `progress.Done`."""

    done: Done
    settings: dict[str, Any]

    @property
    def scores(self) -> dict[str, Scores]:
        """By method."""
        return self.done.scores

    @property
    def counted(self) -> dict[str, int]:
        """How many images: evaluated, skipped, without a foreground, and the maps without contrast."""
        some = next(iter(self.scores.values()), Scores.empty())
        return {
            "images": len(some),
            "skipped": sum(image["skipped"] is not None for image in self.done.images),
            "without_foreground": int(np.count_nonzero(some.foreground.sum(axis=1) == 0)),
            "constant_maps": int(sum(np.count_nonzero(found.constant) for found in self.scores.values())),
        }

    @property
    def skipped(self) -> list[dict[str, str]]:
        """Ids of the images that were left out, with the reason."""
        return [{"id": i["id"], "reason": i["skipped"]} for i in self.done.images if i["skipped"] is not None]

    def rows_of(self, key: str) -> dict[str, np.ndarray]:
        """Rows of the scores by the images' `name` or `target`, most frequent first; without those that have none."""
        values = [image[key] for image in self.done.images if image["skipped"] is None]
        found = {value: np.flatnonzero([other == value for other in values]) for value in values if value is not None}
        return dict(sorted(found.items(), key=lambda item: (-len(item[1]), item[0])))


def evaluate_segmentation(
    model: LensModel,
    images: MaskedImages,
    methods: Sequence[HeatMapMethod],
    targets: Targets,
    plan: Plan | None = None,
    out: str | Path | None = None,
    atlas: Atlas | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Scores of every method on every image.

    out: a folder that keeps what is done; the same call goes on there. atlas: of the methods, for its settings.

    Raises `SecondLensError` for methods of one name, a folder of another evaluation, or where no image is usable.
    """
    plan = plan or Plan()
    names = [method.name for method in methods]
    if not names or len(set(names)) < len(names):
        raise SecondLensError(f"expected at least one method, each once, got {', '.join(names) or 'none'}")
    positions = plan.positions(len(images))
    settings = _settings(model, images, methods, targets, plan, atlas)
    runner = _Runner(model, images, methods, targets, plan)
    folder = None if out is None else Path(out)
    with one_writer(folder):
        shards = None if folder is None else Shards(folder, settings)
        whole = _evaluate(runner, positions, shards, progress)
    return Evaluation(whole, settings)


def _evaluate(runner: "_Runner", positions: range, shards: Shards | None, progress: Progress | None) -> Done:
    plan = runner.plan
    starts = range(0, len(positions), plan.batch_size)
    parts = []
    for batch, start in enumerate(starts):
        done = shards.read(batch) if shards is not None else None
        if done is None:
            done = runner.run(positions[start : start + plan.batch_size])
            if shards is not None:
                shards.write(batch, done)
        parts.append(done)
        if progress is not None:
            progress("images", min(start + plan.batch_size, len(positions)), len(positions))
    whole = Done.merge(parts)
    if all(image["skipped"] is not None for image in whole.images):
        raise ImageError(f"none of {len(whole.images)} images can be used; the first: {whole.images[0]['skipped']}")
    if shards is not None:
        shards.finish(whole)
    return whole


class _Runner:
    def __init__(
        self,
        model: LensModel,
        images: MaskedImages,
        methods: Sequence[HeatMapMethod],
        targets: Targets,
        plan: Plan,
    ) -> None:
        self.model, self.images, self.methods, self.targets, self.plan = model, images, methods, targets, plan
        self.views = views_of(plan.views, model.tower.patch)

    def run(self, positions: range) -> Done:
        rows: list[dict[str, Any]] = []
        used: list[tuple[int, Masked]] = []
        for position in positions:
            name, reason = self.images.names[position], None
            facts = {"position": position, "id": self.images.ids[position], "name": name, "target": None}
            if self.targets.kind == "name":
                reason = "no name" if name is None else self.targets.unknown.get(name)
            if reason is None:
                try:
                    used.append((len(rows), self.images.read(position)))
                except (UnreadableImage, UnusableMask) as error:
                    reason = str(error)
            rows.append({**facts, "skipped": reason})
        if not used:
            return Done(rows, {method.name: Scores.empty() for method in self.methods})
        pixels = fit_images(self.model, [item.image for _, item in used])
        shared = SharedPass.of(self.model, pixels, self.methods)
        texts, vectors = self.targets.of(shared.embeddings, [rows[row]["name"] for row, _ in used])
        for (row, _), text in zip(used, texts, strict=True):
            rows[row]["target"] = text
        maps = pixel_maps(self.model, self.methods, shared, vectors[:, None], self.views)
        truths = [fit_mask(item, self.model.tower.image_size, self.plan.size) for _, item in used]
        scores = {}
        for name, found in maps.items():
            parts = []
            for heat, (row, _), (mask, valid) in zip(found[:, 0].cpu(), used, truths, strict=True):
                sized = heat if self.plan.size == "model" else upsample(heat[None, None], mask.shape)[0, 0]
                parts.append(score_map(rows[row]["position"], sized.numpy(), mask, valid))
            scores[name] = Scores.merge(parts)
        return Done(rows, scores)


def _settings(
    model: LensModel,
    images: MaskedImages,
    methods: Sequence[HeatMapMethod],
    targets: Targets,
    plan: Plan,
    atlas: Atlas | None,
) -> dict[str, Any]:
    """Everything that changes the numbers."""
    positions = plan.positions(len(images))
    ids = hashlib.sha256("\n".join(images.ids[position] for position in positions).encode()).hexdigest()
    return {
        "model": model.reference,
        "weights": model.weights_hash,
        "dtype": str(model.dtype),
        "atlas": None if atlas is None else atlas.manifest.model_dump(mode="json")["files"],
        "images": {**images.description, "first": plan.first, "count": len(positions), "ids": ids},
        "methods": {method.name: repr_of(method) for method in methods},
        "target": targets.kind,
        "classes": hashlib.sha256("\n".join(targets.classes).encode()).hexdigest(),
        "resolution": plan.size,
        "views": plan.views,
        "batch size": plan.batch_size,
    }


def repr_of(method: HeatMapMethod) -> str:
    """What a method was told, as far as it shows: its layers, plain attributes, and those of its choice of neurons."""
    plain = (str, int, float, bool, tuple, type(None))
    choice = getattr(method, "choice", None)
    told = getattr(method, "__dict__", {}) | {
        f"choice.{key}": each for key, each in getattr(choice, "__dict__", {}).items()
    }
    shown = {key: value for key, value in sorted(told.items()) if isinstance(value, plain)}
    return f"{type(method).__name__} {shown | {'layers': method.layers}}"
