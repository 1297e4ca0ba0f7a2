"""ImageNet and data sets of the same classes: pictures with a WNID each, from any of the usual layouts.

training      train/n01440764/*.JPEG, or ILSVRC2012_img_train.tar (a tar of one tar a class)
validation    val/n01440764/*.JPEG; or ILSVRC2012_val_00000001.JPEG ... in one folder, or ILSVRC2012_img_val.tar, with
              the devkit or Kaggle's LOC_val_solution.csv beside or above them
ImageNet-R    imagenet-r/n01443537/*.jpg, and any other folder with a sub-folder a WNID

A root that holds train and val, or the tars, does too, and Kaggle's ILSVRC/Data/CLS-LOC below it. Pictures are put in
the order of class and file name, so that "every 250th" is the same one in every layout.

ImageNet's classes: WNIDs ("n01440764"), their order and their names.

The order of classes is that of sorted WNIDs, as every model with an ImageNet head has it. Tables of names:

- a file with a line a class, the WNID first: "n01440764 tench, Tinca tinca" (Kaggle's LOC_synset_mapping.txt), or a CSV
  with the columns wnid,name;
- the devkit, `ILSVRC2012_devkit_t12` unpacked or as its .tar.gz, whose meta.mat has WNIDs and names;
- OpenAI's names, which open_clip carries, with the WNIDs that timm, which it installs, carries.

Of a name with synonyms ("tench, Tinca tinca") the first stands in prompts.
"""

import csv
import io
import re
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from secondlens.data.sources import FolderSource, ImageSource, NestedTarSource, TarSource, subset
from secondlens.errors import ImageError, MissingExtra

Split = Literal["train", "val"]
ARCHIVES = {"train": "ILSVRC2012_img_train.tar", "val": "ILSVRC2012_img_val.tar"}
SOLUTION = "LOC_val_solution.csv"
_VALIDATION = re.compile(r"ILSVRC2012_val_(\d{8})")


@dataclass(frozen=True)
class WnidImages:
    """Pictures and the WNID of each."""

    source: ImageSource
    wnids: tuple[str, ...]


def open_wnid_images(path: Path, split: Split) -> WnidImages | None:
    """The pictures of a path in one of the layouts; None where it has none of them.

    Raises `ImageError` for one that lacks a part, such as validation images without their classes.
    """
    place = _place(path, split)
    if place.is_file():
        if place.name == ARCHIVES["train"]:
            return _by_folder(NestedTarSource(place))
        if place.name == ARCHIVES["val"]:
            return _validation(TarSource((place,)), place.parent)
        return None
    if not place.is_dir():
        return None
    folders = [entry.name for entry in place.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    if folders and all(WNID.fullmatch(name) for name in folders):
        return _by_folder(FolderSource(place))
    if not folders and any(_VALIDATION.match(entry.name) for entry in place.iterdir()):
        return _validation(FolderSource(place), place)
    return None


def _place(path: Path, split: Split) -> Path:
    """The folder or archive of a split: what the path names, or what lies below a root."""
    for root in (path, path / "Data" / "CLS-LOC", path / "ILSVRC" / "Data" / "CLS-LOC"):
        if (root / split).is_dir():
            return root / split
        if (root / ARCHIVES[split]).is_file():
            return root / ARCHIVES[split]
    return path


def _by_folder(source: ImageSource) -> WnidImages:
    """Classes from the first part of the ids, which are sorted."""
    wnids = tuple(identifier.partition("/")[0] for identifier in source.ids)
    wrong = next((row for row, wnid in enumerate(wnids) if not WNID.fullmatch(wnid)), None)
    if wrong is not None:
        raise ImageError(f"expected every picture in a folder named by a WNID, got {source.ids[wrong]}; move it away")
    return WnidImages(source, wnids)


def _validation(source: ImageSource, folder: Path) -> WnidImages:
    truth = _ground_truth(folder)
    wnids = []
    for identifier in source.ids:
        name = identifier.rpartition("/")[2]
        stem = name.partition(".")[0]
        if stem not in truth:
            raise ImageError(f"{name} has no class in the ground truth, which has {len(truth)} images")
        wnids.append(truth[stem])
    order = sorted(range(len(wnids)), key=lambda row: (wnids[row], source.ids[row]))
    ordered = subset(source, order, "sorted by class")
    return WnidImages(ordered, tuple(wnids[row] for row in order))


def _ground_truth(folder: Path) -> dict[str, str]:
    """Name of a validation image, without its extension, to its WNID."""
    places = [folder, *list(folder.resolve().parents)[:4]]
    for place in places:
        if (place / SOLUTION).is_file():
            rows = csv.DictReader(io.StringIO((place / SOLUTION).read_text(encoding="utf-8-sig")))
            return {row["ImageId"]: row["PredictionString"].split()[0] for row in rows}
        # A data folder of any name may be an ancestor: only a devkit by its own name counts.
        if find_devkit(place) is not None:
            wnids = Devkit(place).validation()
            return {f"ILSVRC2012_val_{number:08d}": wnid for number, wnid in enumerate(wnids, start=1)}
    raise ImageError(
        f"the validation images of {folder} come without their classes; put ILSVRC2012_devkit_t12.tar.gz, or it "
        f"unpacked, or Kaggle's {SOLUTION}, beside them, or sort them into a folder a WNID"
    )


WNID = re.compile(r"n\d{8}")
OPENCLIP = "openai-imagenet"
"""What stands for open_clip's names where a table is asked for."""
DEVKIT = "ILSVRC2012_devkit_t12"


@dataclass(frozen=True)
class ClassTable:
    """Classes in the order of their numbers. origin: where they come from, for messages."""

    wnids: tuple[str, ...]
    names: tuple[str, ...]
    origin: str

    def __post_init__(self) -> None:
        if len(set(self.wnids)) < len(self.wnids) or len(self.wnids) < 2:
            raise ImageError(f"expected two WNIDs or more, each once, in {self.origin}, got {len(self.wnids)}")

    def rows(self, wnids: Sequence[str]) -> list[int]:
        """The number of each WNID; raises `ImageError` for one that the table lacks."""
        row = {wnid: number for number, wnid in enumerate(self.wnids)}
        unknown = sorted({wnid for wnid in wnids if wnid not in row})
        if unknown:
            raise ImageError(
                f"{len(unknown)} classes of the images (first: {unknown[0]}) are not among the {len(self.wnids)} of "
                f"{self.origin}; give a table that has them"
            )
        return [row[wnid] for wnid in wnids]


def read_class_table(reference: str | Path) -> ClassTable:
    """A table by reference: a file, a devkit (folder or .tar.gz), or "openai-imagenet".

    Raises `ImageError` for anything else, `MissingExtra` for open_clip's names without it.
    """
    if str(reference) == OPENCLIP:
        return openclip_classes()
    path = Path(reference)
    if find_devkit(path) is not None:
        return Devkit(path).table()
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ImageError(
            f"cannot read the class table {path}: {error}; expected lines such as 'n01440764 tench', "
            f"the ImageNet devkit, or {OPENCLIP!r}"
        ) from error
    if path.suffix.lower() == ".csv":
        rows = list(csv.DictReader(io.StringIO(text)))
        if not rows or not {"wnid", "name"} <= set(rows[0]):
            raise ImageError(f"expected the columns wnid and name in {path}")
        pairs = [((row["wnid"] or "").strip(), (row["name"] or "").strip()) for row in rows]
    else:
        split = [re.split(r"[\s,]+", line.strip(), maxsplit=1) for line in text.splitlines() if line.strip()]
        pairs = [(parts[0], parts[1] if len(parts) > 1 else "") for parts in split]
    for number, (wnid, name) in enumerate(pairs, start=1):
        if not WNID.fullmatch(wnid) or not name:
            raise ImageError(f"expected a WNID and a name such as 'n01440764 tench' in {path}, row {number}: {wnid!r}")
    pairs.sort()
    return ClassTable(tuple(wnid for wnid, _ in pairs), tuple(first_name(name) for _, name in pairs), str(path))


def first_name(name: str) -> str:
    """The first of synonyms."""
    return name.split(",")[0].strip()


def openclip_classes() -> ClassTable:
    """OpenAI's 1,000 names (open_clip) with their WNIDs (timm, a dependency of it)."""
    try:
        from open_clip import IMAGENET_CLASSNAMES
    except ImportError as error:
        raise MissingExtra(
            "open_clip", "openclip", "OpenAI's names of ImageNet's classes (a table needs none)"
        ) from error
    # Not imported: that would load torchvision.
    found = find_spec("timm")
    folders = [] if found is None else list(found.submodule_search_locations or [])
    lists = [Path(folder) / "data" / "_info" / "imagenet_synsets.txt" for folder in folders]
    if not any(path.is_file() for path in lists):
        raise MissingExtra("timm", "openclip", "the WNIDs of ImageNet's classes (a table needs none)")
    wnids = tuple(next(path for path in lists if path.is_file()).read_text(encoding="ascii").split())
    if len(wnids) != len(IMAGENET_CLASSNAMES):
        raise ImageError(f"timm has {len(wnids)} WNIDs and open_clip {len(IMAGENET_CLASSNAMES)} names: give a table")
    return ClassTable(wnids, tuple(IMAGENET_CLASSNAMES), "open_clip's class names")


def find_devkit(path: Path) -> Path | None:
    """The devkit that a path is, or that lies in it: a folder with data/meta.mat or the archive."""
    for place in (path, path / DEVKIT):
        if (place / "data" / "meta.mat").is_file():
            return place
    for place in (path, path / f"{DEVKIT}.tar.gz"):
        if place.is_file() and place.name.endswith(".tar.gz"):
            return place
    return None


class Devkit:
    """ILSVRC2012_devkit_t12: the classes, and those of the validation images, numbered as nowhere else (from 1)."""

    def __init__(self, path: Path) -> None:
        found = find_devkit(path)
        if found is None:
            raise ImageError(f"expected ImageNet's devkit ({DEVKIT}, a folder or .tar.gz) in {path}")
        self.path = found

    def _read(self, name: str) -> bytes:
        try:
            if self.path.is_dir():
                return (self.path / "data" / name).read_bytes()
            with tarfile.open(self.path, mode="r:gz") as archive:
                for member in archive:
                    if member.isreg() and member.name.endswith(f"/data/{name}"):
                        stream = archive.extractfile(member)
                        assert stream is not None
                        return stream.read()
        except (OSError, tarfile.TarError, EOFError) as error:
            raise ImageError(f"cannot read {name} of {self.path}: {error}") from error
        raise ImageError(f"{self.path} has no data/{name}; expected {DEVKIT} as it was published")

    def classes(self) -> dict[int, tuple[str, str]]:
        """Number in the devkit to WNID and name, of the classes that images have."""
        from scipy.io import loadmat

        try:
            synsets = loadmat(io.BytesIO(self._read("meta.mat")), squeeze_me=True)["synsets"]
            return {
                int(row["ILSVRC2012_ID"]): (str(row["WNID"]), str(row["words"]))
                for row in synsets
                if int(row["num_children"]) == 0
            }
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise ImageError(f"meta.mat of {self.path} is not that of ImageNet's devkit: {error}") from error

    def table(self) -> ClassTable:
        """The classes, sorted by WNID."""
        pairs = sorted(self.classes().values())
        return ClassTable(tuple(w for w, _ in pairs), tuple(first_name(n) for _, n in pairs), str(self.path))

    def validation(self) -> list[str]:
        """The WNID of each validation image, from ILSVRC2012_val_00000001 on."""
        classes = self.classes()
        numbers = self._read("ILSVRC2012_validation_ground_truth.txt").decode("ascii").split()
        try:
            return [classes[int(number)][0] for number in numbers]
        except (KeyError, ValueError) as error:
            raise ImageError(
                f"the ground truth of {self.path} has the class {error}, which its meta.mat lacks"
            ) from error
