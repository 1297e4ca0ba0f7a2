"""Presets: a table or figure of the paper as a YAML file: what to run, on what, and what the paper says.

`presets/NAME.yaml` holds a `Preset`. A file of your own in the same form does too.
"""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from secondlens.errors import ReproductionError, closest

SUFFIX = ".yaml"


class _Card(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataCard(_Card):
    """A set of images: a name of `presets.DATASETS`; every step-th of it; how many images that should make."""

    dataset: str
    every: int | None = Field(default=None, ge=1)
    images: int | None = Field(default=None, ge=1)


class Expectation(_Card):
    """What the paper says of one figure, in the paper's units.

    key: the figure's name among the study's values. text: the same for people. Printed digits: `value`, and the
    `tolerance` with its reason in `note`. Claims without digits: bounds `low` and `high`, which are our reading of the
    text. Words: `words` as printed ("+snowy"), of which `low` must be found.
    """

    key: str
    text: str
    value: float | None = None
    tolerance: float | None = Field(default=None, gt=0)
    low: float | None = None
    high: float | None = None
    words: tuple[str, ...] | None = None
    note: str = ""

    @model_validator(mode="after")
    def _one_kind(self) -> "Expectation":
        if (self.value is None) != (self.tolerance is None):
            raise ValueError("a value needs a tolerance, and a tolerance a value")
        if (self.value is None) == (self.low is None and self.high is None):
            raise ValueError("give either a value with a tolerance, or a bound (low, high)")
        return self

    @property
    def printed(self) -> bool:
        """Whether the paper prints digits, or words."""
        return self.value is not None or self.words is not None


class Preset(_Card):
    """One table or figure. study: a name of `measures.STUDIES`, whose settings are `settings`.

    layers: of the survey; None for all that a later attention reads. templates, classes: of the zero-shot classifier.
    """

    name: str
    title: str
    paper: str
    study: str
    model: str
    survey: DataCard | None = None
    evaluation: DataCard | None = None
    layers: tuple[int, ...] | None = None
    top: int = Field(default=100, ge=1)
    convention: Literal["centred", "released"] = "centred"
    templates: str | None = None
    classes: str | None = None
    settings: dict[str, Any] = {}
    expected: tuple[Expectation, ...] = ()
    notes: tuple[str, ...] = ()


def preset_names() -> list[str]:
    """The presets that come with this package."""
    folder = files("secondlens.studies.reproduction") / "presets"
    names = [entry.name.removesuffix(SUFFIX) for entry in folder.iterdir() if entry.name.endswith(SUFFIX)]
    return sorted(names, key=lambda name: (name.split("-")[0], int(name.rpartition("-")[2]) if "-" in name else 0))


def load_preset(reference: str) -> Preset:
    """A preset by name, or from a file; raises `ReproductionError` for an unknown one and for one that does not fit."""
    if reference.endswith((SUFFIX, ".yml")):
        try:
            text = Path(reference).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ReproductionError(f"cannot read the preset {reference}: {error}") from error
    elif reference in preset_names():
        text = (files("secondlens.studies.reproduction") / "presets" / f"{reference}{SUFFIX}").read_text(
            encoding="utf-8"
        )
    else:
        raise ReproductionError(f"unknown preset {reference!r}{closest(reference, preset_names())}; or a .yaml file")
    return parse_preset(text, reference)


def parse_preset(text: str, origin: str) -> Preset:
    """A preset from YAML; raises `ReproductionError` that names the first thing that does not fit."""
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ReproductionError(f"the preset {origin} is no YAML: {error}") from error
    if not isinstance(content, dict):
        raise ReproductionError(f"expected names and values in the preset {origin}, got {type(content).__name__}")
    try:
        return Preset.model_validate(content)
    except ValidationError as error:
        raise ReproductionError(f"the preset {origin} does not fit: {first_problem(error)}") from error


def first_problem(error: ValidationError) -> str:
    """Where and what, of the first thing that pydantic found."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']} (got {first['input']!r:.60})"


ROLES = ("survey", "evaluation", "classes")
"""What stands for a part of any preset, whatever data it asks for."""


@dataclass(frozen=True)
class KnownData:
    """A data set. layouts: what its path may hold. root: a name that stands for it together with others."""

    title: str
    layouts: str
    root: str = ""


DATASETS = {
    "imagenet-train": KnownData(
        "ImageNet's training images (ILSVRC 2012)",
        "the folder train/ with a sub-folder a WNID, or ILSVRC2012_img_train.tar as downloaded",
        "imagenet",
    ),
    "imagenet-val": KnownData(
        "ImageNet's validation images",
        "the folder val/ with a sub-folder a WNID, or ILSVRC2012_img_val.tar with ILSVRC2012_devkit_t12.tar.gz beside "
        "it",
        "imagenet",
    ),
    "imagenet-r": KnownData("ImageNet-R", "the folder imagenet-r/ with a sub-folder a WNID, as unpacked"),
    "cifar-10": KnownData("CIFAR-10", "the folder cifar-10-batches-bin/ of the binary version"),
    "cifar-100": KnownData("CIFAR-100", "the folder cifar-100-binary/ of the binary version"),
}


ROOTS = {"imagenet": "a folder with train/ and val/, or both tars and the devkit: imagenet-train and imagenet-val"}


POOLS = {
    "class-descriptions": "descriptions of ImageNet's classes by a language model, a text file with one a line "
    "(`secondlens pool generate` writes one); left out where it is not given"
}
