"""ImageNet's classes: WNIDs ("n01440764"), their order and their names.

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

from secondlens.errors import ImageError, MissingExtra

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
