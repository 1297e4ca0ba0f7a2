"""Published data sets: the same images, order and labels from every layout; what is refused."""

import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from layouts import (
    NAMES,
    WNIDS,
    picture,
    tar_bytes,
    train_names,
    validation,
    write_archives,
    write_cifar,
    write_file,
    write_flat,
    write_tar,
    write_trees,
)

from secondlens.data.decode import decode
from secondlens.data.imagenet import read_class_table
from secondlens.data.labelled import open_evaluation, open_survey
from secondlens.data.sources import CifarSource, FolderSource, ImageSource, NestedTarSource, SubsetSource, every
from secondlens.errors import ImageError, MissingExtra
from secondlens.lens import LensModel

FIRST_NAMES = ["tench", "cock", "crane", "fire engine"]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "classes.txt"
    # In no order: classes are numbered by their sorted WNIDs.
    path.write_text("".join(f"{wnid} {name}\n" for wnid, name in reversed(list(zip(WNIDS, NAMES, strict=True)))))
    return path


def colours(source: ImageSource) -> list[tuple[int, ...]]:
    """The pixel in the middle of each picture, which tells them apart."""
    return [decode(source.read(index)).getpixel((20, 18)) for index in range(len(source.ids))]


def near(found: list[tuple[int, ...]], numbers: list[int]) -> None:
    expected = [picture(number).getpixel((20, 18)) for number in numbers]
    # JPEG moves a flat colour by a step or two (YCbCr rounding).
    assert np.abs(np.array(found, dtype=int) - np.array(expected, dtype=int)).max() <= 3


def test_training_images_are_the_same_in_a_tree_and_in_a_tar_of_tars(tmp_path: Path) -> None:
    tree, archives = write_trees(tmp_path / "tree"), write_archives(tmp_path / "archives")
    names = sorted(train_names())
    for place in (tree, tree / "train", archives, archives / "ILSVRC2012_img_train.tar"):
        source = open_survey(place)
        assert list(source.ids) == names
        near(colours(source), [train_names()[name] for name in names])
    assert isinstance(open_survey(archives), NestedTarSource)
    for place in (tree, archives):
        # 20 // 6 = 3 images, at 0, 6 and 12, as the paper's rule gives 5,124 of 1,281,167.
        source = open_survey(place, step=6)
        assert list(source.ids) == [names[0], names[6], names[12]]
        near(colours(source), [train_names()[name] for name in source.ids])
        assert source.description["rule"] == "every 6th"
        assert pickle.loads(pickle.dumps(source)).read(1) == source.read(1)


def test_every_250th_training_image_makes_5124() -> None:
    found = every(1_281_167, 250)
    assert (len(found), found[:2], found[-1]) == (5124, [0, 250], 5123 * 250)
    with pytest.raises(ImageError, match="every 0th"):
        every(5, 0)
    with pytest.raises(ImageError, match="every 6th"):
        every(5, 6)


def test_validation_images_are_the_same_in_every_layout(tmp_path: Path, worded: LensModel, table: Path) -> None:
    tree, archives = write_trees(tmp_path / "tree"), write_archives(tmp_path / "archives")
    flat, kaggle = write_flat(tmp_path / "flat"), write_flat(tmp_path / "kaggle", kaggle=True)
    stems = sorted(validation(), key=lambda stem: (validation()[stem][1], stem))
    for place in (tree, tree / "val", archives, archives / "ILSVRC2012_img_val.tar", flat, flat / "val", kaggle):
        images = open_evaluation(place, worded, classes=table)
        assert images.classes == FIRST_NAMES
        assert [identifier.rpartition("/")[2] for identifier in images.source.ids] == [f"{s}.JPEG" for s in stems]
        assert images.labels.tolist() == [WNIDS.index(validation()[stem][1]) for stem in stems]
        near(colours(images.source), [validation()[stem][0] for stem in stems])
    part = open_evaluation(archives, worded, classes=table, step=3)
    assert part.labels.tolist() == [images.labels[0], images.labels[3]]
    assert list(part.source.ids) == [f"ILSVRC2012_img_val.tar/{stems[row]}.JPEG" for row in (0, 3)]


def test_a_classifier_has_the_sorted_wnids(tmp_path: Path, vit: LensModel, table: Path) -> None:
    tree = write_trees(tmp_path / "tree")
    images = open_evaluation(tree, vit)
    assert images.classes == list(vit.classifier.labels)
    truth = sorted(wnid for _, wnid in validation().values())
    assert [WNIDS[row] for row in images.labels.tolist()] == truth
    # Fewer classes than the model has: only a table tells their numbers.
    for file in (tree / "val" / WNIDS[1]).iterdir():
        file.unlink()
    (tree / "val" / WNIDS[1]).rmdir()
    with pytest.raises(ImageError, match=r"has 4 classes, .* has 3 WNIDs"):
        open_evaluation(tree, vit)
    kept = open_evaluation(tree, vit, classes=table)
    assert [WNIDS[row] for row in kept.labels.tolist()] == [wnid for wnid in truth if wnid != WNIDS[1]]


def test_class_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: Path) -> None:
    rows = "".join(f'"{name}",{wnid}\n' for wnid, name in zip(WNIDS, NAMES, strict=True))
    (tmp_path / "table.csv").write_text(f"name,wnid\n{rows}")
    archives, flat = write_archives(tmp_path / "a"), write_flat(tmp_path / "f")
    devkits = (archives, archives / "ILSVRC2012_devkit_t12.tar.gz", flat, flat / "ILSVRC2012_devkit_t12")
    for reference in (table, tmp_path / "table.csv", *devkits):
        found = read_class_table(reference)
        assert (found.wnids, list(found.names)) == (WNIDS, FIRST_NAMES)
    with pytest.raises(ImageError, match=r"1 classes of the images \(first: n99999999\)"):
        found.rows([WNIDS[0], "n99999999"])
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(MissingExtra, match="openclip"):
        read_class_table("openai-imagenet")
    # What open_clip and timm look like when installed.
    fake = types.ModuleType("open_clip")
    fake.IMAGENET_CLASSNAMES = FIRST_NAMES
    monkeypatch.setitem(sys.modules, "open_clip", fake)
    write_file(tmp_path / "timm" / "data" / "_info" / "imagenet_synsets.txt", "\n".join(WNIDS).encode() + b"\n")
    write_file(tmp_path / "timm" / "__init__.py", b"raise RuntimeError('timm need not be imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert read_class_table("openai-imagenet").names == tuple(FIRST_NAMES)
    fake.IMAGENET_CLASSNAMES = FIRST_NAMES[:3]
    with pytest.raises(ImageError, match="4 WNIDs and open_clip 3 names"):
        read_class_table("openai-imagenet")


@pytest.mark.parametrize(
    ("text", "message"),
    [("tench\n", "expected a WNID and"), ("n01440764\n", "expected a WNID and"), ("", "two WNIDs or more")],
)
def test_tables_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bad.txt").write_text(text)
    with pytest.raises(ImageError, match=message):
        read_class_table(tmp_path / "bad.txt")
    with pytest.raises(ImageError, match="cannot read the class table"):
        read_class_table(tmp_path / "none.txt")


def test_what_lacks_a_part_is_refused(tmp_path: Path, worded: LensModel, table: Path) -> None:
    flat = write_flat(tmp_path / "flat")
    with pytest.raises(ImageError, match="WNIDs for class names"):
        open_evaluation(write_trees(tmp_path / "tree"), worded)
    # With the devkit there, its names do.
    assert open_evaluation(flat, worded).classes == FIRST_NAMES
    write_file(flat / "val" / "ILSVRC2012_val_00000099.JPEG", b"x")
    with pytest.raises(ImageError, match=r"ILSVRC2012_val_00000099.JPEG has no class"):
        open_evaluation(flat, worded, classes=table)
    (flat / "ILSVRC2012_devkit_t12" / "data" / "meta.mat").unlink()
    with pytest.raises(ImageError, match="come without their classes"):
        open_evaluation(flat, worded, classes=table)
    write_file(tmp_path / "tree" / "val" / "stray.JPEG", b"x")
    with pytest.raises(ImageError, match=r"in a folder named by a WNID, got stray.JPEG"):
        open_evaluation(tmp_path / "tree", worded, classes=table)


def test_damaged_archives_are_named(tmp_path: Path) -> None:
    root = write_archives(tmp_path / "a")
    archive = root / "ILSVRC2012_img_train.tar"
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError, match="is truncated, damaged"):
        open_survey(archive)
    # An inner tar that was cut before it was packed.
    inner = tar_bytes({"n01440764_1.JPEG": b"x" * 3000})
    write_tar(archive, {"n01440764.tar": inner[:2048]})
    with pytest.raises(ImageError, match=r"n01440764.tar in .* is truncated"):
        open_survey(archive)
    write_tar(archive, {"readme.txt": b"nothing"})
    with pytest.raises(ImageError, match="found none"):
        open_survey(archive)
    (root / "ILSVRC2012_devkit_t12.tar.gz").write_bytes(b"no archive")
    with pytest.raises(ImageError, match="cannot read"):
        read_class_table(root / "ILSVRC2012_devkit_t12.tar.gz")


@pytest.mark.parametrize("hundred", [False, True])
def test_cifar_records(tmp_path: Path, worded: LensModel, hundred: bool) -> None:
    folder = tmp_path / ("cifar-100-binary" if hundred else "cifar-10-batches-bin")
    pixels = write_cifar(folder, hundred)
    for place in (folder, tmp_path):
        images = open_evaluation(place, worded)
        assert images.classes == ["tench", "sea cock", "crane", "fire engine"]
        assert images.labels.tolist() == [0, 1, 2, 3, 0, 1]
        for index in range(6):
            assert np.array_equal(np.asarray(decode(images.source.read(index))), pixels[index])
    assert len(open_survey(folder).ids) == (6 if hundred else 30)
    assert len(set(open_survey(folder).ids)) == len(open_survey(folder).ids)


def test_cifar_that_is_refused(tmp_path: Path, vit: LensModel) -> None:
    folder = tmp_path / "cifar-10-batches-bin"
    write_cifar(folder, hundred=False)
    with pytest.raises(ImageError, match="without CIFAR's class 'tench'"):
        open_evaluation(folder, vit)
    whole = (folder / "test_batch.bin").read_bytes()
    (folder / "test_batch.bin").write_bytes(whole[:-1])
    with pytest.raises(ImageError, match="records of 3073 bytes"):
        CifarSource(folder, "test")
    (folder / "test_batch.bin").write_bytes(b"\x04" + whole[1:])
    with pytest.raises(ImageError, match=r"the label 4, but batches.meta.txt has 4 names"):
        CifarSource(folder, "test")
    (folder / "data_batch_3.bin").unlink()
    with pytest.raises(ImageError, match=r"data_batch_3.bin of CIFAR-10, it is missing"):
        CifarSource(folder, "train")
    python = tmp_path / "python" / "cifar-10-batches-py"
    write_file(python / "data_batch_1", pickle.dumps("anything"))
    for place in (python, python.parent):
        with pytest.raises(ImageError, match="pickles"):
            open_survey(place)


def test_other_images_stay_as_they_were(tmp_path: Path, worded: LensModel, pictures: Path) -> None:
    assert isinstance(open_survey(pictures), FolderSource)
    rows = [f"{file},{('dog', 'cat')[n % 2]}" for n, file in enumerate(sorted(pictures.iterdir())[:6])]
    (tmp_path / "labels.csv").write_text("file,name\n" + "\n".join(rows) + "\n")
    images = open_evaluation(tmp_path / "labels.csv", worded, step=2)
    assert images.classes == ["cat", "dog"]
    assert torch.equal(images.labels, torch.tensor([1, 1, 1]))
    with pytest.raises(ImageError, match="more than once"):
        SubsetSource(images.source, (0, 0), "twice")
