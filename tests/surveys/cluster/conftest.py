"""One small Ray of this machine for all tests here, its workers, and a model and pictures to survey with them."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from cluster_runs import SETTINGS

import secondlens as sl
from builders import save_worded
from secondlens.lens import LensModel, load_model
from secondlens.surveys.cluster.crew import Crew, Share, connected
from secondlens.surveys.cluster.worker import Setup, SurveyWorker


@pytest.fixture(scope="session")
def ray() -> Iterator[Any]:
    # Bits depend on the number of threads: one here, as in each worker.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    with connected(cpus=4) as library:
        yield library
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny CLIP that encodes images and texts: 3 layers, 48 neurons."""
    return f"hf:{save_worded(tmp_path_factory.mktemp('models') / 'worded')}"


@pytest.fixture(scope="session")
def loaded(reference: str) -> LensModel:
    return load_model(reference)


@pytest.fixture(scope="session")
def crew(ray: Any, reference: str) -> Iterator[Crew]:
    """Two workers that all tests share: to start them takes longer than what they do."""
    setup = Setup(reference, "cpu", "float32", SETTINGS["batch_size"], 1, 0, str(Path.cwd()))
    with Crew(ray, SurveyWorker, (setup,), Share(2, 1, 0, False)) as made:
        yield made


@pytest.fixture
def plain(ray: Any, loaded: LensModel, pictures: Path, tmp_path: Path) -> sl.Atlas:
    """One machine's atlas, of pictures of which two are the same and two cannot be read."""
    shutil.copy(pictures / "picture-03.png", pictures / "picture-31.png")
    (pictures / "picture-00b.png").write_text("no picture")
    (pictures / "picture-20b.png").write_bytes(b"")
    return sl.survey(loaded, pictures, tmp_path / "plain", **SETTINGS)
