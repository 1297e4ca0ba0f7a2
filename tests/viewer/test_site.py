"""The site's files hold what the atlas holds."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import SHARED
from secondlens.atlas import Atlas
from secondlens.descriptions import Descriptions
from secondlens.errors import AtlasError, SecondLensError
from secondlens.images.sources import open_source
from secondlens.pools import open_pool
from secondlens.text.sparse import sparse_decompose
from secondlens.viewer.beside import compare_atlases
from secondlens.viewer.export import export
from secondlens.viewer.exported import ExportedSite
from secondlens.viewer.heat import surveyed_images
from secondlens.viewer.layout import Field, pack, slices
from secondlens.viewer.site import Site, content_type

from .conftest import HOSTILE_TEXTS, World


def facts(site: Path) -> dict[str, Any]:
    return json.loads((site / "data/site.json").read_text())


def row(site: Path, base: str, fields: list[dict[str, Any]], neuron: int, neurons: int) -> dict[str, np.ndarray]:
    """A neuron's row as a reader of docs/viewer.md would get it, without any of our code."""
    size = 32
    number = neuron // size
    rows = min(size, neurons - number * size)
    content, start, found = (site / f"{base}-{number:04d}.bin").read_bytes(), 0, {}
    for field in fields:
        kind = np.dtype(field["type"]).newbyteorder("<")
        count = rows * int(np.prod(field["shape"]))
        values = np.frombuffer(content, kind, count, start).reshape(rows, *field["shape"])
        found[field["name"]] = values[neuron % size]
        start += count * kind.itemsize
    assert start == len(content)
    return found
