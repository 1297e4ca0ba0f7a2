"""Tiny data sets in the layouts that they are published in: real tars, a real meta.mat, real CIFAR records."""

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

# In the order of their WNIDs. The devkit numbers them otherwise (from 1), and has a parent class without images.
WNIDS = ("n01440764", "n01514668", "n02012849", "n03345487")
NAMES = ("tench, Tinca tinca", "cock", "crane", "fire engine, fire truck")
DEVKIT_NUMBERS = (3, 1, 4, 2)


def picture(number: int) -> Image.Image:
    """One that no other number has."""
    return Image.new("RGB", (40, 36), ((37 * number) % 256, (101 * number + 5) % 256, (59 * number + 90) % 256))


def jpeg(number: int) -> bytes:
    buffer = io.BytesIO()
    picture(number).save(buffer, "PNG" if number < 0 else "JPEG")
    return buffer.getvalue()


def train_names() -> dict[str, int]:
    """Path in the folder tree to the picture's number: five images a class."""
    return {f"{wnid}/{wnid}_{7 * n + 2}.JPEG": 10 * row + n for row, wnid in enumerate(WNIDS) for n in range(5)}


def validation() -> dict[str, tuple[int, str]]:
    """Stem to picture and WNID: eight images, classes mixed."""
    return {f"ILSVRC2012_val_{n + 1:08d}": (100 + n, WNIDS[(3 * n + n // 4) % 4]) for n in range(8)}


def write_file(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def write_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def tar_bytes(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def write_trees(root: Path) -> Path:
    """train/ and val/ with a folder a WNID."""
    for name, number in train_names().items():
        write_file(root / "train" / name, jpeg(number))
    for stem, (number, wnid) in validation().items():
        write_file(root / "val" / wnid / f"{stem}.JPEG", jpeg(number))
    return root


def write_archives(root: Path) -> Path:
    """Both tars as downloaded, members in no order, and the devkit's archive."""
    inner: dict[str, dict[str, bytes]] = {}
    for name, number in reversed(train_names().items()):
        wnid, _, file = name.partition("/")
        inner.setdefault(wnid, {})[file] = jpeg(number)
    write_tar(root / "ILSVRC2012_img_train.tar", {f"{wnid}.tar": tar_bytes(members) for wnid, members in inner.items()})
    write_tar(
        root / "ILSVRC2012_img_val.tar",
        {f"{stem}.JPEG": jpeg(number) for stem, (number, _) in reversed(validation().items())},
    )
    write_tar(
        root / "ILSVRC2012_devkit_t12.tar.gz",
        {f"ILSVRC2012_devkit_t12/data/{name}": content for name, content in devkit_files().items()},
        "w:gz",
    )
    return root


def write_flat(root: Path, kaggle: bool = False) -> Path:
    """Validation images in one folder, with the devkit unpacked or Kaggle's table above them."""
    place = root / "ILSVRC" / "Data" / "CLS-LOC" / "val" if kaggle else root / "val"
    for stem, (number, _) in validation().items():
        write_file(place / f"{stem}.JPEG", jpeg(number))
    if kaggle:
        rows = [f"{stem},{wnid} 1 2 30 40 {wnid} 5 6 7 8 " for stem, (_, wnid) in reversed(validation().items())]
        (root / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *rows]) + "\n")
    else:
        for name, content in devkit_files().items():
            write_file(root / "ILSVRC2012_devkit_t12" / "data" / name, content)
    return root


def devkit_files() -> dict[str, bytes]:
    number = dict(zip(WNIDS, DEVKIT_NUMBERS, strict=True))
    rows = [*sorted(zip(DEVKIT_NUMBERS, WNIDS, NAMES, [0.0] * 4, strict=True)), (5, "n00001740", "entity", 4.0)]
    fields = [("ILSVRC2012_ID", float), ("WNID", object), ("words", object), ("num_children", float)]
    buffer = io.BytesIO()
    savemat(buffer, {"synsets": np.array(rows, dtype=fields)})
    truth = "".join(f"{number[wnid]}\n" for _, wnid in validation().values())
    return {"meta.mat": buffer.getvalue(), "ILSVRC2012_validation_ground_truth.txt": truth.encode()}


def write_cifar(folder: Path, hundred: bool, count: int = 6) -> np.ndarray:
    """Binary records; the pixels of the test file, [image, height, width, colour]. Label of image n: n % 4."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    names = ["tench", "sea_cock", "crane", "fire_engine"]
    (folder / ("fine_label_names.txt" if hundred else "batches.meta.txt")).write_text("\n".join(names) + "\n\n")
    test = np.zeros(0)
    files = ["train.bin", "test.bin"] if hundred else [f"data_batch_{n}.bin" for n in range(1, 6)] + ["test_batch.bin"]
    for name in files:
        pixels = rng.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
        labels = (np.arange(count) % 4).astype(np.uint8)
        heads = np.stack([labels * 0 + 9, labels], axis=1) if hundred else labels[:, None]
        np.concatenate([heads, pixels.reshape(count, -1)], axis=1).tofile(folder / name)
        test = pixels.transpose(0, 2, 3, 1)
    return test
