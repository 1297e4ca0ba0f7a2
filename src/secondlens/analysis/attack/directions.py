"""Directions of other effects than second-order ones, from a file: the pluggable source of a baseline."""

import re
from collections.abc import Sequence
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

from secondlens.disk.files import sha256
from secondlens.errors import AuditError

NAME = re.compile(r"layer-(\d+)")


def read_directions(path: Path, layers: Sequence[int] | None = None) -> tuple[dict[int, Tensor], str]:
    """Layer to directions [neuron, embed], of a safetensors file with tensors `layer-09` and so on; and its SHA-256.

    layers: only these. Raises `AuditError` for a file that cannot be read, or lacks a layer.
    """
    try:
        with safe_open(path, framework="pt") as file:
            found = {int(match[1]): file.get_tensor(name) for name in file.keys() if (match := NAME.fullmatch(name))}  # noqa: SIM118
    except Exception as error:
        raise AuditError(f"cannot read directions from {path}: {error}; expected safetensors") from error
    lacking = [layer for layer in layers or () if layer not in found]
    if lacking or not found:
        raise AuditError(
            f"{path} has directions of layers {', '.join(map(str, sorted(found))) or 'none'} (tensors 'layer-09' ...)"
            + (f", expected {', '.join(map(str, lacking))} too" if lacking else "")
        )
    return {layer: found[layer] for layer in sorted(found) if layers is None or layer in layers}, sha256(path)
