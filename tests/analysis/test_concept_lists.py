"""Lists of an image's concepts and active neurons: their length and order."""

from pathlib import Path

import pytest
import torch
from PIL import Image

import secondlens as sl
from secondlens.analysis.concepts import ConceptFinder
from secondlens.descriptions import describe
from secondlens.descriptions.pools import open_pool
from secondlens.lens import LensModel

LABELS = ("a bat", "a den", "fip", "photo of a gol", "hum", "jat", "ken", "lip", "mol", "num", "bip")


@pytest.fixture
def finder(worded: LensModel, pictures: Path, tmp_path: Path, cache: Path) -> ConceptFinder:
    atlas = sl.survey(worded, pictures, tmp_path / "atlas", layers=[0, 1], top=14)
    descriptions = describe(atlas, open_pool(LABELS, worded, name="few"), 4, null_draws=0)
    return ConceptFinder(worded, atlas, descriptions, percentile=70.0)


def test_lists_have_the_length_and_order_asked_for(finder: ConceptFinder, pictures: Path) -> None:
    image = Image.open(min(pictures.iterdir())).convert("RGB")
    pixels = finder.model.preprocess([image])
    found = finder.find(pixels, limit=len(LABELS))
    assert len(found.concepts) > 2
    for limit in (1, 2):
        assert [one.text for one in finder.find(pixels, limit).concepts] == [one.text for one in found.concepts][:limit]
    # Neurons go by how far above their own threshold they are, not by how large their effect is.
    ratios = [one.norm / one.threshold for one in found.neurons]
    assert len(ratios) > 3
    assert ratios == sorted(ratios, reverse=True)
    norms = [one.norm for one in found.neurons]
    assert norms != sorted(norms, reverse=True)
    # Of the activity that a batch shows.
    seen = finder.measure(pixels)
    for one in found.neurons:
        torch.testing.assert_close(float(seen[one.layer].norms[0, one.neuron]), one.norm, rtol=1e-4, atol=0)
