"""The data that presets ask for by name: what each is, and what to put where."""

from dataclasses import dataclass

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
