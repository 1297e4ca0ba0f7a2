"""Imported before transformers and open_clip where torchvision lies beside a CPU build of torch.

torchvision's compiled operators, built for CUDA, do not load there, and its import fails on the missing names. What
needs it here (open_clip's transforms) is plain Python: declaring the names is enough.
"""

import importlib.util

import torch

if importlib.util.find_spec("torchvision") is not None and torch.version.cuda is None:
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
