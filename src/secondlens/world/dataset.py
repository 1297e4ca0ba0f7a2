"""Scenes as files: pictures, labels, captions, masks, in the tables that the commands read.

images/000000.png   the picture
masks/000000-0.png  the visible pixels of its first object, white
labels.csv          file,label,name      the subject (first object); label: its number in NOUNS
labels-K-L.csv      file,label,name      asked for: properties K and L of the subject ("red boat"), its number in ...
classes-K-L.txt     ... all their combinations, one a line
captions.csv        file,caption
pairs.csv           image,mask,name      a row an object of which anything is seen
scenes.jsonl        the scenes, one a line, in the order of the pictures
"""

import csv
import shutil
from collections.abc import Callable, Iterable, Sequence
from itertools import product, tee
from pathlib import Path

import numpy as np
from PIL import Image

from secondlens.errors import WorldError, closest
from secondlens.world.captions import caption
from secondlens.world.render import render_many
from secondlens.world.scene import Scene, property_of
from secondlens.world.vocabulary import NOUNS, PROPERTIES

SCENES = "scenes.jsonl"


def write_dataset(
    folder: str | Path,
    scenes: Iterable[Scene],
    *,
    size: int = 64,
    detail: str = "full",
    masks: bool = True,
    labels: Sequence[Sequence[str]] = (),
    workers: int = 1,
    progress: Callable[[int], object] | None = None,
) -> Path:
    """Draw scenes into a new folder, which is whole or absent.

    detail: of the captions. labels: further tables of labels, each by some properties of the subject, such as
    ("colour", "noun"). progress: called with the number of pictures finished. Raises WorldError where the folder
    exists with something in it, cannot be written, or there are no scenes.
    """
    target = Path(folder)
    for name in (name for table in labels for name in table):
        if name not in PROPERTIES:
            raise WorldError(f"unknown property {name!r} for labels{closest(name, PROPERTIES)}")
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
        for table in labels:
            write_labels(partial, read_scenes(partial), table)
        if target.exists():
            target.rmdir()
        partial.replace(target)
    except OSError as error:
        raise WorldError(f"cannot write pictures to {target}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def read_scenes(folder: str | Path) -> list[Scene]:
    """The scenes of a folder, in the order of its pictures; raises WorldError where there are none."""
    path = Path(folder) / SCENES
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise WorldError(f"{folder} holds no scenes: cannot read {SCENES} ({error.strerror})") from error
    return [Scene.from_json(line) for line in lines]


def write_labels(folder: Path, scenes: Sequence[Scene], names: Sequence[str]) -> None:
    """Write a table of labels by some properties of the subject, and the list of classes, beside a folder's scenes."""
    for name in names:
        if name not in PROPERTIES:
            raise WorldError(f"unknown property {name!r} for labels{closest(name, PROPERTIES)}")
    classes = [" ".join(values) for values in product(*(PROPERTIES[name] for name in names))]
    number = {name: index for index, name in enumerate(classes)}
    with (folder / f"labels-{'-'.join(names)}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("file", "label", "name"))
        for index, scene in enumerate(scenes):
            label = " ".join(property_of(scene, name) for name in names)
            writer.writerow((f"images/{index:06}.png", number[label], label))
    (folder / f"classes-{'-'.join(names)}.txt").write_text("\n".join(classes) + "\n", encoding="utf-8")


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
    (folder / SCENES).write_text("".join(lines), encoding="utf-8")
    return len(lines)
