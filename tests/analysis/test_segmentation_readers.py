"""Readers of masked images on tiny real files of each format."""

import csv
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from scipy.io import savemat

from secondlens.data import UnreadableImage
from secondlens.data.masks import (
    UnusableMask,
    open_masked,
    read_coco,
    read_imagenet_segmentation,
    read_pairs,
    read_voc,
)
from secondlens.errors import ImageError

SIZE = (7, 10)
"""Height, width."""


def picture(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), dtype=np.uint8))


def square() -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    mask[2:5, 3:9] = 1
    return mask


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Masks in every usual coding, and four rows that cannot be used."""
    (tmp_path / "sub").mkdir()
    picture().save(tmp_path / "sub" / "a.png")
    mask = square()
    palette = Image.fromarray(mask * 7, "P")
    palette.putpalette([0, 0, 0] * 256)
    palette.save(tmp_path / "palette.png")
    Image.fromarray(mask * 255).save(tmp_path / "grey.png")
    Image.fromarray(mask).save(tmp_path / "ones.png")
    Image.fromarray(mask * 255).convert("1").save(tmp_path / "bits.png")
    Image.fromarray(mask * 255).convert("RGBA").save(tmp_path / "colour.png")
    Image.fromarray((mask * 255).repeat(8, 0).repeat(8, 1)).resize(SIZE[::-1], 0).save(
        tmp_path / "soft.jpg", quality=95
    )
    void = mask.copy()
    void[0] = 255
    Image.fromarray(void).save(tmp_path / "void.png")
    Image.fromarray(mask[:, :-1]).save(tmp_path / "narrow.png")
    (tmp_path / "damaged.png").write_bytes(b"no picture")
    Image.fromarray(np.full(SIZE, 255, np.uint8)).save(tmp_path / "allvoid.png")
    names = ["palette", "grey", "ones", "bits", "colour", "void", "narrow", "damaged", "missing", "allvoid"]
    for name in names:
        picture().save(tmp_path / f"{name}-image.png")
    with (tmp_path / "pairs.csv").open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "mask", "name"])
        writer.writerows([f"{name}-image.png", f"{name}.png", "thing" if name != "grey" else ""] for name in names)
    return tmp_path / "pairs.csv"


def test_pairs(pairs: Path) -> None:
    found = read_pairs(pairs, void=255)
    assert len(found) == 10
    assert found.names[:3] == ("thing", None, "thing")
    plain = read_pairs(pairs)
    for index in range(5):
        item = plain.read(index)
        np.testing.assert_array_equal(item.mask, square() == 1)
        assert item.valid.all()
        np.testing.assert_array_equal(np.asarray(item.image), np.asarray(picture()))
    item = found.read(5)
    np.testing.assert_array_equal(item.mask, square() == 1)
    assert (~item.valid).sum() == SIZE[1]
    for index, message in (
        (6, "9 x 7 pixels, the image 10 x 7"),
        (7, "unreadable mask"),
        (8, "no mask"),
        (9, "every pixel"),
    ):
        with pytest.raises(UnusableMask, match=message):
            found.read(index)


def test_an_image_may_come_with_several_masks(pairs: Path) -> None:
    (pairs.parent / "two.csv").write_text(
        "image,mask,name\nbits-image.png,bits.png,a\nbits-image.png,ones.png,b\ngrey-image.png,grey.png,c\n"
    )
    found = read_pairs(pairs.parent / "two.csv")
    assert found.ids == ("bits-image.png bits.png", "bits-image.png ones.png", "grey-image.png")
    assert found.names == ("a", "b", "c")


def test_pairs_with_a_soft_mask(pairs: Path) -> None:
    (pairs.parent / "soft.csv").write_text("image,mask\nsub/a.png,soft.jpg\nsub/none.png,soft.jpg\n")
    found = read_pairs(pairs.parent / "soft.csv")
    assert found.names == (None, None)
    # JPEG's ringing stays far from 128 in a mask of two values.
    np.testing.assert_array_equal(found.read(0).mask, square() == 1)
    with pytest.raises(UnreadableImage, match="missing file"):
        found.read(1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file,label\na.png,1\n", "columns image, mask and perhaps name; .* has file, label"),
        ("image,mask\na.png,\n", "line 2"),
        ("image,mask\n", "at least one image"),
        ("image,mask\na.png,b.png\na.png,b.png\n", "every image once"),
    ],
)
def test_tables_that_are_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "pairs.csv").write_text(content)
    with pytest.raises(ImageError, match=message):
        read_pairs(tmp_path / "pairs.csv")


def write_v73(path: Path, count: int = 3) -> None:
    """The structure that MATLAB gives gtsegs_ijcv.mat: references, axes the other way round, cells in cells."""
    with h5py.File(path, "w", userblock_size=512) as file:
        refs = file.create_group("#refs#")
        images, masks = [], []
        for number in range(count):
            image = refs.create_dataset(f"i{number}", data=np.asarray(picture(number)).transpose(2, 1, 0))
            mask = refs.create_dataset(f"m{number}", data=(square() if number != 2 else square()[:, :-1]).T)
            cell = refs.create_dataset(f"c{number}", (1, 1), dtype=h5py.ref_dtype)
            cell[0, 0] = mask.ref
            images.append(image.ref)
            masks.append(cell.ref)
        value = file.create_group("value")
        for name, found in (("img", images), ("gt", masks)):
            value.create_dataset(name, (count, 1), dtype=h5py.ref_dtype)[:, 0] = found
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512, b" "))


def test_imagenet_segmentation_as_matlab_v73(tmp_path: Path) -> None:
    write_v73(tmp_path / "gtsegs_ijcv.mat")
    found = read_imagenet_segmentation(tmp_path)
    assert found.ids == ("0", "1", "2")
    assert set(found.names) == {None}
    item = found.read(1)
    np.testing.assert_array_equal(np.asarray(item.image), np.asarray(picture(1)))
    np.testing.assert_array_equal(item.mask, square() == 1)
    with pytest.raises(UnusableMask, match="9 x 7"):
        found.read(2)


def test_imagenet_segmentation_as_matlab_v5(tmp_path: Path) -> None:
    images, masks = np.empty((2, 1), object), np.empty((2, 1), object)
    for number in range(2):
        images[number, 0], masks[number, 0] = np.asarray(picture(number)), square()
    savemat(tmp_path / "gtsegs_ijcv.mat", {"value": {"img": images, "gt": masks}})
    item = read_imagenet_segmentation(tmp_path / "gtsegs_ijcv.mat").read(1)
    np.testing.assert_array_equal(np.asarray(item.image), np.asarray(picture(1)))
    np.testing.assert_array_equal(item.mask, square() == 1)


def test_files_that_are_no_imagenet_segmentation(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="there is no file"):
        read_imagenet_segmentation(tmp_path)
    (tmp_path / "gtsegs_ijcv.mat").write_bytes(b"nothing")
    with pytest.raises(ImageError, match="cannot read"):
        read_imagenet_segmentation(tmp_path)
    with h5py.File(tmp_path / "gtsegs_ijcv.mat", "w") as file:
        file["other"] = 1
    with pytest.raises(ImageError, match="/value/img"):
        read_imagenet_segmentation(tmp_path)


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    base = tmp_path / "VOCdevkit" / "VOC2012"
    for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (base / part).mkdir(parents=True)
    for number, name in enumerate(["2007_000001", "2007_000002", "2007_000003"]):
        picture(number).save(base / "JPEGImages" / f"{name}.jpg")
        labels = square() * 8
        labels[6] = 12
        labels[0] = 255 if number != 2 else 99
        image = Image.fromarray(labels, "P")
        image.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
        image.save(base / "SegmentationClass" / f"{name}.png")
    (base / "ImageSets" / "Segmentation" / "val.txt").write_text("2007_000001\n2007_000003\n")
    return tmp_path


def test_voc(voc: Path) -> None:
    found = read_voc(voc)
    assert found.ids == ("2007_000001", "2007_000003")
    item = found.read(0)
    assert item.mask.sum() == square().sum() + SIZE[1]
    assert not item.valid[0].any()
    with pytest.raises(UnusableMask, match="label 99"):
        found.read(1)
    by_class = read_voc(voc / "VOCdevkit", by_class=True)
    assert by_class.ids == ("2007_000001/cat", "2007_000001/dog", "2007_000003")
    assert by_class.names == ("cat", "dog", None)
    np.testing.assert_array_equal(by_class.read(0).mask, square() == 1)
    with pytest.raises(ImageError, match=r"no split 'vla'.*did you mean 'val'"):
        read_voc(voc, "vla")
    with pytest.raises(ImageError, match="JPEGImages"):
        read_voc(voc / "VOCdevkit" / "VOC2012" / "ImageSets")


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val2017").mkdir()
    for number in (1, 2, 3):
        picture(number).save(tmp_path / "val2017" / f"{number}.png")
    crowd = np.zeros(SIZE, np.uint8)
    crowd[:, 0] = 1
    counts = [0, SIZE[0], SIZE[0] * (SIZE[1] - 1)]
    compressed = coco_mask.encode(np.asfortranarray(square()))
    compressed["counts"] = compressed["counts"].decode()
    content = {
        "images": [{"id": n, "file_name": f"{n}.png", "height": SIZE[0], "width": SIZE[1]} for n in (2, 1, 3)],
        "categories": [{"id": 17, "name": "cat"}, {"id": 18, "name": "dog"}],
        "annotations": [
            {"image_id": 1, "category_id": 18, "segmentation": [[3, 2, 9, 2, 9, 5, 3, 5]], "iscrowd": 0},
            {"image_id": 1, "category_id": 17, "segmentation": compressed, "iscrowd": 0},
            {"image_id": 1, "category_id": 17, "segmentation": {"counts": counts, "size": list(SIZE)}, "iscrowd": 1},
            {"image_id": 2, "category_id": 17, "segmentation": {"counts": "@@", "size": [3, 3]}, "iscrowd": 0},
        ],
    }
    (tmp_path / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    return tmp_path


def test_coco(coco: Path) -> None:
    found = read_coco(coco)
    assert found.ids == ("1.png", "2.png")
    item = found.read(0)
    np.testing.assert_array_equal(item.mask, square() == 1)
    assert not item.valid[:, 0].any()
    assert item.valid[:, 1:].all()
    with pytest.raises(UnusableMask, match="annotation"):
        found.read(1)
    by_class = read_coco(coco, by_class=True)
    assert by_class.names == ("cat", "dog", "cat")
    dog = by_class.read(1)
    # The polygon is the square's outline; crowds of another category are no void here.
    np.testing.assert_array_equal(dog.mask, square() == 1)
    assert dog.valid.all()
    with pytest.raises(ImageError, match="did you mean 'val2017'"):
        read_coco(coco, "val2071")
    (coco / "annotations" / "instances_val2017.json").write_text("[]")
    with pytest.raises(ImageError, match="COCO's instances JSON"):
        read_coco(coco)


def test_opening(voc: Path, coco: Path, pairs: Path) -> None:
    assert open_masked(dataset="voc", root=voc).description["kind"] == "voc"
    assert open_masked(dataset="coco", root=coco, by_class=True).description["by_class"]
    assert open_masked(pairs=pairs).description["kind"] == "pairs"
    for arguments, message in (
        ({}, "either a table"),
        ({"pairs": pairs, "dataset": "voc"}, "either a table"),
        ({"dataset": "voc"}, "--root"),
        ({"dataset": "vocc", "root": voc}, "did you mean 'voc'"),
    ):
        with pytest.raises(ImageError, match=message):
            open_masked(**arguments)
