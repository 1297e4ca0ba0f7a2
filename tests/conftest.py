"""Fixtures: saved random models of every family; the shared real weights and photographs where they are.

Loaded models are shared by all tests of a process (`shared_model`). A test that changes its model asks for one of its
own: `own_model`, `own_clip`, `own_worded`.
"""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

# One thread a process, also in the commands that tests start: two processes of tests share two cores.
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pytest
import torch
from PIL import Image

if not torch.cuda.is_available():
    # Kernels run in Triton's interpreter. It is asked when they are defined.
    os.environ.setdefault("TRITON_INTERPRET", "1")

sys.path.insert(0, str(Path(__file__).parent))

import torchvision_names  # noqa: F401  (before anything that imports torchvision)
from builders import SHARED, SPECS, VIT, Spec, build, save_worded
from commands import Result, secondlens
from secondlens.lens import LensModel, load_model

torch.set_num_threads(1)


MARKED = {"browser": pytest.mark.browser, "ray": pytest.mark.cluster}
"""Fixture to the mark of tests that ask for it, or for a fixture that does."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for fixture in MARKED.keys() & set(getattr(item, "fixturenames", ())):
            item.add_marker(MARKED[fixture])


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


@dataclass(frozen=True)
class Loaded:
    """A model and the weights that it was loaded with."""

    model: LensModel
    weights: torch.Tensor

    @classmethod
    def of(cls, reference: str, dtype: str) -> "Loaded":
        model = load_model(reference, dtype=dtype)
        return cls(model, weights_of(model))

    def is_unchanged(self) -> bool:
        now = weights_of(self.model)
        return now.dtype == self.weights.dtype and torch.equal(now, self.weights)


def weights_of(model: LensModel) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.module.parameters()])


@pytest.fixture(scope="session")
def loaded_models() -> dict[tuple[str, str], Loaded]:
    """Reference and precision to what was loaded."""
    return {}


@pytest.fixture
def shared_model(loaded_models: dict[tuple[str, str], Loaded]) -> Iterator[Callable[..., LensModel]]:
    """Return the model of a reference, loaded once; a test that changes its weights fails."""
    used = set()

    def load(reference: str, dtype: str = "float32") -> LensModel:
        key = (reference, dtype)
        used.add(key)
        if key not in loaded_models:
            loaded_models[key] = Loaded.of(reference, dtype)
        return loaded_models[key].model

    yield load
    changed = {key for key in used if not loaded_models[key].is_unchanged()}
    for key in changed:
        del loaded_models[key]
    assert not changed, "a shared model was changed; ask for a model of the test's own (own_model, load_model)"


@pytest.fixture
def model(spec: Spec, model_folders: dict[str, Path], shared_model: Callable[..., LensModel]) -> LensModel:
    """A loaded model of each spec."""
    return shared_model(f"hf:{model_folders[spec.name]}")


@pytest.fixture
def double_model(spec: Spec, model_folders: dict[str, Path], shared_model: Callable[..., LensModel]) -> LensModel:
    """A loaded model of each spec in float64."""
    return shared_model(f"hf:{model_folders[spec.name]}", "float64")


@pytest.fixture
def own_model(spec: Spec, model_folders: dict[str, Path]) -> LensModel:
    """A model of each spec that the test may change."""
    return load_model(f"hf:{model_folders[spec.name]}")


@pytest.fixture
def clip(model_folders: dict[str, Path], shared_model: Callable[..., LensModel]) -> LensModel:
    """One CLIP model, for tests that need no more."""
    return shared_model(f"hf:{model_folders[SPECS[0].name]}")


@pytest.fixture
def own_clip(model_folders: dict[str, Path]) -> LensModel:
    """One CLIP model that the test may change."""
    return load_model(f"hf:{model_folders[SPECS[0].name]}")


@pytest.fixture
def vit(model_folders: dict[str, Path], shared_model: Callable[..., LensModel]) -> LensModel:
    """One classifier."""
    return shared_model(f"hf:{model_folders[VIT.name]}")


@pytest.fixture(scope="session")
def worded_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIP that encodes texts."""
    return save_worded(tmp_path_factory.mktemp("models") / "worded")


@pytest.fixture
def worded(worded_folder: Path, shared_model: Callable[..., LensModel]) -> LensModel:
    return shared_model(f"hf:{worded_folder}")


@pytest.fixture
def own_worded(worded_folder: Path) -> LensModel:
    """A tiny CLIP that encodes texts and that the test may change."""
    return load_model(f"hf:{worded_folder}")


@pytest.fixture
def embedded(shared_model: Callable[..., LensModel]) -> LensModel:
    """The embedded world's model."""
    return shared_model("world:")


@pytest.fixture(scope="session", autouse=True)
def _no_cache_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is read from the user's cache or written to it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECONDLENS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in the place of the user's cache."""
    monkeypatch.setenv("SECONDLENS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Run a command in this process and return its exit code and what it printed."""
    return partial(secondlens, monkeypatch, capsys)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real weights, photographs and golden outputs that lie beside a checkout for development."""
    if not SHARED.is_dir():
        pytest.skip("no ../shared folder with real weights and photographs beside this checkout")
    return SHARED.resolve()


@pytest.fixture(scope="session")
def drawn_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(40):
        coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        coarse.resize((70, 80), Image.Resampling.BICUBIC).save(folder / f"picture-{number:02d}.png")
    return folder


@pytest.fixture
def pictures(drawn_pictures: Path, tmp_path: Path) -> Path:
    """A folder of 40 small pictures with smooth random content, which the test may change."""
    return shutil.copytree(drawn_pictures, tmp_path / "pictures")
