"""A tiny random model of the embedded world's words, its atlas and description; made once."""

from collections.abc import Callable
from pathlib import Path

import pytest

import secondlens as sl
from builders import save_worded
from secondlens.analysis.audit import Auditor
from secondlens.analysis.audit.similarity import NameSimilarity
from secondlens.atlas import Atlas
from secondlens.descriptions import Descriptions, describe
from secondlens.descriptions.pools import open_pool
from secondlens.lens import LensModel, load_model
from secondlens.lens.classifier import WORLD_TEMPLATES
from secondlens.world import NOUNS, all_words, scene_at, write_dataset
from secondlens.world.vocabulary import MEANINGS


@pytest.fixture(scope="session")
def world_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """model/, scenes/, atlas/ with the description "world-words", and the cache they were made with."""
    folder = tmp_path_factory.mktemp("world")
    save_worded(folder / "model", words=all_words())
    write_dataset(folder / "scenes", [scene_at(0, index) for index in range(60)], masks=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECONDLENS_CACHE", str(folder / "cache"))
        model = load_model(f"hf:{folder / 'model'}")
        atlas = sl.survey(model, folder / "scenes" / "labels.csv", folder / "atlas", layers=[0, 1], top=10)
        describe(atlas, open_pool(list(MEANINGS), model, name="world-words"), 8, null_draws=0)
    return folder


@pytest.fixture
def world_cache(world_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SECONDLENS_CACHE", str(world_folder / "cache"))
    return world_folder


@pytest.fixture
def world_model(world_cache: Path, shared_model: Callable[..., LensModel]) -> LensModel:
    return shared_model(f"hf:{world_cache / 'model'}")


@pytest.fixture
def auditor(world_cache: Path, world_model: LensModel) -> Auditor:
    atlas = Atlas.open(world_cache / "atlas")
    return Auditor(
        world_model, atlas, Descriptions.open(atlas), NameSimilarity(), WORLD_TEMPLATES, "paper", list(NOUNS)
    )
