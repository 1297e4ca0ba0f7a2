"""The functions of the public page, one after the other, in the embedded world."""

from pathlib import Path

import pytest
from PIL import Image

import secondlens as sl
from secondlens.descriptions import search_neurons
from secondlens.errors import TextError
from secondlens.lens.model import LensModel

TEXTS = ["a boat", "a cactus", "a dog", "a cat", "a tree", "the sea", "a house"]


def test_the_public_functions(embedded: LensModel, pictures: Path, tmp_path: Path) -> None:
    atlas = sl.survey(embedded, pictures, tmp_path / "atlas", layers=[4], top=10)
    with pytest.raises(TextError, match="expected a model to encode"):
        sl.describe(atlas, TEXTS)
    described = sl.describe(atlas, TEXTS, 4, model=embedded, null_draws=5)
    path = pictures / "picture-03.png"
    assert repr(atlas).endswith("world:, layers 4, 40 images)")
    assert repr(described) == "Descriptions(texts: layers 4, at most 4 texts per neuron)"
    assert sl.search(embedded, atlas, "a boat", limit=2) == search_neurons(atlas, embedded, "a boat", limit=2)
    with Image.open(path) as image:
        maps = [sl.heat_map(embedded, form, ["a boat"], atlas) for form in (path, str(path), image)]
        scores = [sl.explain(embedded, form, "a boat", "a cactus").score for form in (path, str(path), image)]
        concepts = [sl.find_concepts(embedded, atlas, form, limit=3) for form in (path, str(path), image)]
    assert repr(maps[0]) == "HeatMap(traced-contribution: 'a boat', 80 by 70 pixels)"
    assert all(each.maps.equal(maps[0].maps) for each in maps)
    assert len(set(scores)) == 1
    assert repr(sl.explain(embedded, path, "a boat")).startswith("Attribution(score ")
    assert len({repr(each) for each in concepts}) == 1
    assert repr(concepts[0]).startswith("ImageConcepts(")
    audit = sl.audit(embedded, atlas, "boat", "cactus", similarity="tower", draws=10, cues=3)
    assert repr(audit).startswith("PairAudit(boat -> cactus: ")
    assert all(cue.text not in audit.synonyms for cue in audit.cues)
