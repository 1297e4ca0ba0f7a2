"""Which cues and neurons an audit names, what the tower's similarity compares, and images that were skipped."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from secondlens.analysis.audit import Auditor, class_head
from secondlens.analysis.audit.carrying import CarriedCues
from secondlens.analysis.audit.images import FEWEST, within_classes
from secondlens.analysis.audit.matrix import NAMED, audit_matrix
from secondlens.analysis.audit.similarity import NameSimilarity, TowerSimilarity, mentions
from secondlens.descriptions.pools import described_pool
from secondlens.lens.classifier import WORLD_TEMPLATES
from secondlens.world import NOUNS


def test_a_pair_names_its_best_cues(auditor: Auditor) -> None:
    names = ["cat", "boat", "cactus"]
    _, head = class_head(auditor.model, names, WORLD_TEMPLATES)
    found = audit_matrix(auditor.table, names, head, NameSimilarity(), neurons=20, count=3 * NAMED)
    lengths = set()
    for (shown, predicted), cues in found.cues.items():
        expected = auditor.audit(auditor.pair(names[shown], names[predicted]), neurons=20, cues=NAMED, draws=0).cues
        assert [text for text, _ in cues] == [cue.text for cue in expected]
        lengths.add(len(cues))
    assert max(lengths) == NAMED


@pytest.mark.parametrize("centred", [False, True])
def test_similarity_of_the_tower_is_the_larger_of_two_cosines(auditor: Auditor, centred: bool) -> None:
    """Of a text with the class's bare name and with its name in the templates."""
    model, pool = auditor.model, described_pool(auditor.model, auditor.descriptions)
    centre = pool.embeddings.mean(dim=0) if centred else torch.zeros(model.embed_dim)
    texts = ["sea", "sailboat", "blue sea", "cactus", "cat"]
    found = TowerSimilarity(model, centre, WORLD_TEMPLATES)(texts, "boat")

    def encoded(*forms: str) -> torch.Tensor:
        mean = normalize(model.encode_texts(list(forms)).double(), dim=1).mean(dim=0)
        return normalize(normalize(mean, dim=0) - centre.double(), dim=0)

    bare, templated = encoded("boat"), encoded(*(template.format("boat") for template in WORLD_TEMPLATES))
    larger = []
    for text, value in zip(texts, found, strict=True):
        assert not mentions(text, "boat")
        cosines = [float(encoded(text) @ name) for name in (bare, templated)]
        assert value == pytest.approx(max(cosines), abs=1e-5)
        larger.append(cosines[0] > cosines[1])
    assert set(larger) == {True, False}, "neither form alone would do"


def test_images_that_were_skipped_are_of_no_class(auditor: Auditor, world_cache: Path) -> None:
    _, head = class_head(auditor.model, list(NOUNS), WORLD_TEMPLATES)
    pool = described_pool(auditor.model, auditor.descriptions)
    whole = auditor.atlas.image_embeddings.clone()
    kept = torch.ones(len(whole), dtype=torch.bool)
    kept[[0, 7, 8, 30]] = False

    def within(embeddings: torch.Tensor) -> object:
        auditor.atlas.__dict__["image_embeddings"] = embeddings
        return within_classes(auditor.atlas, pool, list(NOUNS), head)

    skipped, without = within(whole * kept[:, None]), within(whole[kept])
    assert torch.equal(skipped.positions, kept.nonzero()[:, 0][without.positions])
    for name in ("rows", "groups", "nearest", "means"):
        assert torch.equal(torch.nan_to_num(getattr(skipped, name)), torch.nan_to_num(getattr(without, name))), name
    assert np.array_equal(skipped.shows.toarray(), without.shows.toarray())
    assert int(torch.bincount(skipped.groups).min()) >= FEWEST


def test_neurons_that_carry_the_same_come_by_layer_and_number() -> None:
    layers = torch.arange(4).repeat_interleave(25)
    neurons = torch.arange(25).repeat(4)
    carried = torch.tensor([1.0, 3.0, 2.0, 3.0, 0.0]).repeat(20)[None].double()
    found = CarriedCues(layers, neurons, carried, torch.zeros(100, dtype=torch.float64)).strongest(100)
    place = [(layer, neuron) for layer in range(4) for neuron in range(25)]
    assert found == [place[column] for size in (3.0, 2.0, 1.0) for column in range(100) if carried[0, column] == size]
