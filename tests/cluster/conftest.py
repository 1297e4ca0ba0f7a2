"""One small Ray of this machine for all tests here, and a model and pictures to survey on it."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from builders import save_worded
from secondlens.cluster.library import connected

TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def ray() -> Iterator[Any]:
    # One thread here, as in each of two workers on two cores.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    with connected(cpus=2) as library:
        yield library
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny CLIP that encodes images and texts: 3 layers, 48 neurons."""
    return f"hf:{save_worded(tmp_path_factory.mktemp('models') / 'worded')}"
