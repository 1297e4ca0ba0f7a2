"""Fixtures: saved random models of every family; the shared real weights and photographs where they are."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

if not torch.cuda.is_available():
    # Kernels run in Triton's interpreter. It is asked when they are defined.
    os.environ.setdefault("TRITON_INTERPRET", "1")

sys.path.insert(0, str(Path(__file__).parent))

import torchvision_names  # noqa: F401, I001  (before anything that imports torchvision)

from builders import SHARED, SPECS, Spec, build, save_worded
from secondlens.models import LensModel, load_model


@pytest.fixture(scope="session")
def model_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Spec name to a saved model folder."""
    folders = {}
    for spec in SPECS:
        folder = tmp_path_factory.mktemp("models") / spec.name
        build(spec).save_pretrained(folder)
        folders[spec.name] = folder
    return folders


@pytest.fixture(params=SPECS, ids=lambda spec: spec.name)
def spec(request: pytest.FixtureRequest) -> Spec:
    return request.param


@pytest.fixture
def model(spec: Spec, model_folders: dict[str, Path]) -> LensModel:
    """A loaded model of each spec."""
    return load_model(f"hf:{model_folders[spec.name]}")


@pytest.fixture
def clip(model_folders: dict[str, Path]) -> LensModel:
    """One CLIP model, for tests that need no more."""
    return load_model(f"hf:{model_folders[SPECS[0].name]}")


@pytest.fixture(scope="session")
def worded_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIP that encodes texts."""
    return save_worded(tmp_path_factory.mktemp("models") / "worded")


@pytest.fixture
def worded(worded_folder: Path) -> LensModel:
    return load_model(f"hf:{worded_folder}")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in the place of the user's cache."""
    monkeypatch.setenv("SECONDLENS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real weights, photographs and golden outputs that lie beside a checkout for development."""
    if not SHARED.is_dir():
        pytest.skip("no ../shared folder with real weights and photographs beside this checkout")
    return SHARED.resolve()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of 40 small pictures with smooth random content."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(40):
        coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        coarse.resize((70, 80), Image.Resampling.BICUBIC).save(folder / f"picture-{number:02d}.png")
    return folder
