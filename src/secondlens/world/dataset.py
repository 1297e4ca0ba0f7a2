"""Scenes as files: pictures, labels, captions, masks, in the tables that the commands read.

images/000000.png   the picture
masks/000000-0.png  the visible pixels of its first object, white
labels.csv          file,label,name      the subject (first object); label: its number in NOUNS
captions.csv        file,caption
pairs.csv           image,mask,name      a row an object of which anything is seen
scenes.jsonl        the scenes, one a line, in the order of the pictures
"""

import csv
import shutil
from collections.abc import Callable, Iterable
from itertools import tee
from pathlib import Path

import numpy as np
from PIL import Image

from secondlens.errors import WorldError
from secondlens.world.captions import caption
from secondlens.world.render import render_many
from secondlens.world.scene import Scene
from secondlens.world.vocabulary import NOUNS


def write_dataset(
    folder: str | Path,
    scenes: Iterable[Scene],
    *,
    size: int = 64,
    detail: str = "full",
    masks: bool = True,
    workers: int = 1,
    progress: Callable[[int], object] | None = None,
) -> Path:
    """Draw scenes into a new folder, which is whole or absent.

    detail: of the captions. progress: called with the number of pictures finished. Raises WorldError where the folder
    exists with something in it, cannot be written, or there are no scenes.
    """
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise WorldError(f"{target} exists and is not empty; choose another folder or remove it")
    partial = target.with_name(f".{target.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        (partial / "images").mkdir(parents=True)
        if masks:
            (partial / "masks").mkdir()
        count = _write(partial, scenes, size, detail, masks, workers, progress)
        if count == 0:
            raise WorldError("expected at least one scene, got none")
        if target.exists():
            target.rmdir()
        partial.replace(target)
    except OSError as error:
        raise WorldError(f"cannot write pictures to {target}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _write(
    folder: Path,
    scenes: Iterable[Scene],
    size: int,
    detail: str,
    masks: bool,
    workers: int,
    progress: Callable[[int], object] | None,
) -> int:
    labels: list[tuple[object, ...]] = [("file", "label", "name")]
    captions: list[tuple[object, ...]] = [("file", "caption")]
    pairs: list[tuple[object, ...]] = [("image", "mask", "name")]
    lines = []
    described, drawn = tee(scenes)
    for index, (scene, picture) in enumerate(zip(described, render_many(drawn, size, workers), strict=True)):
        file = f"images/{index:06}.png"
        Image.fromarray(picture.image).save(folder / file)
        labels.append((file, NOUNS.index(scene.nouns[0]), scene.nouns[0]))
        captions.append((file, caption(scene, np.random.default_rng([scene.seed, index]), detail)))
        for number, (noun, mask) in enumerate(zip(scene.nouns, picture.masks, strict=True)):
            if masks and mask.any():
                name = f"masks/{index:06}-{number}.png"
                Image.fromarray(mask.astype(np.uint8) * np.uint8(255)).save(folder / name)
                pairs.append((file, name, noun))
        lines.append(scene.to_json() + "\n")
        if progress is not None:
            progress(index + 1)
    tables = {"labels.csv": labels, "captions.csv": captions, **({"pairs.csv": pairs} if masks else {})}
    for table, rows in tables.items():
        with (folder / table).open("w", newline="", encoding="utf-8") as file_:
            csv.writer(file_).writerows(rows)
    (folder / "scenes.jsonl").write_text("".join(lines), encoding="utf-8")
    return len(lines)
