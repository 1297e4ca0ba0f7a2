"""What is stored of each neuron, in layers with more neurons than are worked on at once."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import secondlens as sl
from builders import WORDS, Spec, build, save_worded
from secondlens.descriptions import Descriptions, describe
from secondlens.descriptions.pools import open_pool
from secondlens.descriptions.senses import image_senses
from secondlens.descriptions.store import QUALITY

NEURONS, TOP, NONZERO = 150, 5, 6


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """model/, atlas/ of one layer with 150 neurons, cache/ with the pool, and a description."""
    folder = tmp_path_factory.mktemp("many")
    save_worded(folder / "model")
    build(Spec("clip", layers=2, heads=2, size=32, neurons=NEURONS), vocabulary=64).save_pretrained(folder / "model")
    (folder / "images").mkdir()
    for number, image in enumerate(np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)):
        Image.fromarray(image).save(folder / "images" / f"{number:02d}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECONDLENS_CACHE", str(folder / "cache"))
        patch.setattr("secondlens.descriptions.senses.DRAWS", 10)
        model = sl.load_model(f"hf:{folder / 'model'}")
        atlas = sl.survey(model, folder / "images", folder / "atlas", layers=[0], top=TOP)
        describe(atlas, open_pool(WORDS, model, name="words"), NONZERO, null_draws=0)
    return folder


def opened(made: Path) -> tuple[sl.Atlas, Descriptions]:
    atlas = sl.Atlas.open(made / "atlas")
    return atlas, Descriptions.open(atlas)


def test_senses_of_top_images_are_those_of_all_neurons_at_once(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECONDLENS_CACHE", str(made / "cache"))
    atlas, descriptions = opened(made)
    layer = atlas.layer(0)
    rows = descriptions.table(0).to_pylist()
    senses, indices = (torch.tensor([row[name] for row in rows]).view(NEURONS, NONZERO) for name in ("sense", "row"))
    pool = open_pool("words", sl.load_model(f"hf:{made / 'model'}"))
    codes = sl.sparse_decompose(layer.directions, pool.embeddings, NONZERO)
    assert torch.equal(codes.indices, indices)
    embeddings = atlas.image_embeddings
    images = embeddings[layer.top_positions] - embeddings.sum(dim=0) / 20
    expected = image_senses(
        senses, indices, codes.coefficients, codes.dictionary.float(), images, layer.top_projections
    )
    found = descriptions.figures(0)["top_senses"]
    assert found.shape == (NEURONS, TOP)
    # A tie of two senses goes to either by rounding.
    assert float((found == expected).double().mean()) > 0.99
    assert len(found.unique()) > 1


def test_figures_on_held_out_images_are_the_neurons_own(made: Path, tmp_path: Path) -> None:
    atlas = sl.Atlas.open(shutil.copytree(made / "atlas", tmp_path / "atlas"))
    descriptions = Descriptions.open(atlas)
    assert descriptions.neuron(0, 3)["held_out"] is None
    written = pa.table({"layer": [0, 0, 3], "neuron": [0, 3, 0], "auc": [0.1, 0.9, float("nan")]})
    pq.write_table(written, descriptions.folder / QUALITY)
    assert descriptions.neuron(0, 0)["held_out"] == {"auc": 0.1}
    assert descriptions.neuron(0, 3)["held_out"] == {"auc": 0.9}
    assert descriptions.neuron(0, 4)["held_out"] is None
