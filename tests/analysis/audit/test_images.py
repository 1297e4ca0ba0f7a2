"""Scoring by images: against slow means from the formulas, and the picking of cues one after another."""

import math

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from secondlens.analysis.audit import Auditor
from secondlens.analysis.audit.images import (
    PRESENT,
    STRONG,
    WithinClasses,
    image_scores,
    image_significance,
    pick_image_cues,
)
from secondlens.analysis.audit.similarity import NameSimilarity, mentions
from secondlens.descriptions.pools import described_pool
from secondlens.errors import AuditError
from secondlens.lens.classifier import WORLD_TEMPLATES
from secondlens.numerics.sparse.dictionary import text_atoms
from secondlens.world import NOUNS


def test_scores_are_means_over_the_images_that_show_a_phrase(auditor: Auditor) -> None:
    within = auditor.within
    vector = auditor.pair("cat", "boat").vector
    scores = image_scores(within, vector)
    z = auditor.atlas.image_embeddings.double()
    prompts = [[template.replace("{}", noun) for template in WORLD_TEMPLATES] for noun in NOUNS]
    means = torch.stack([auditor.model.encode_texts(texts).mean(dim=0) for texts in prompts])
    heads = torch.nn.functional.normalize(means, dim=1).double()
    nearest = (z @ heads.T).argmax(dim=1)
    atoms = text_atoms(described_pool(auditor.model, auditor.descriptions).embeddings, "unit")
    rows = []
    for row, group in zip(z, nearest, strict=True):
        mine = z[nearest == group]
        if len(mine) >= 3:
            rows.append(row - mine.mean(dim=0))
    stacked = torch.stack(rows)
    pushes = stacked @ vector.double()
    count = max(1, round(PRESENT * len(rows)))
    expected = [float(pushes[(stacked @ atom).topk(count).indices].mean()) for atom in atoms]
    # Embeddings are stored in half precision; the rest is float32 against float64.
    assert np.allclose(scores, expected, atol=1e-5 * np.abs(expected).max(), rtol=1e-3)


def test_p_values_shuffle_within_classes(auditor: Auditor) -> None:
    within = auditor.within
    vector = auditor.pair("cat", "boat").vector
    scores = image_scores(within, vector)
    tests = image_significance(within, vector, scores, draws=199, seed=0)
    assert (tests.p >= 0.005).all()
    assert (tests.p_family >= tests.p).all()
    # A phrase that is shown by the images that lie farthest towards the class, and only by them, beats every shuffle.
    y = within.rows.double() @ vector.double()
    dense = within.shows.toarray()
    dense[:, 0] = 0
    dense[y.topk(3).indices.numpy(), 0] = 1
    planted = WithinClasses(**{**vars(within), "shows": csr_matrix(dense)})
    found = image_scores(planted, vector)
    assert image_significance(planted, vector, found, draws=199).p[0] <= 0.01
    with pytest.raises(AuditError, match="0 or more draws"):
        image_significance(within, vector, scores, draws=-1)


TEXTS = ["sea", "blue sea", "a blue thing", "red", "boat", "a cat", "nothing"]


def planted_world() -> tuple[WithinClasses, torch.Tensor, np.ndarray]:
    """600 images of three classes. The push is 1.0 of the sea and 0.4 of red; blue mostly comes with the sea."""
    rng = np.random.default_rng(0)
    groups = np.arange(600) % 3
    sea, red = rng.random(600) < 0.2, rng.random(600) < 0.2
    blue = (sea & (rng.random(600) < 0.7)) | (rng.random(600) < 0.02)
    boat = rng.random(600) < 0.1
    y = 1.0 * sea + 0.4 * red + 2.0 * boat + 0.02 * rng.normal(size=600)
    y -= np.array([y[groups == group].mean() for group in range(3)])[groups]
    columns = [sea, sea ^ (rng.random(600) < 0.03), blue, red, boat, sea, np.arange(600) % 2 == 0]
    shows = csr_matrix(np.stack(columns, axis=1).astype(float))
    atoms = torch.eye(7)
    atoms[1] = torch.tensor([0.9, math.sqrt(1 - 0.81), 0, 0, 0, 0, 0])
    rows = torch.zeros(600, 7)
    rows[:, 0] = torch.from_numpy(y).float()
    directions = torch.zeros(3, 7)
    vector = torch.zeros(7)
    vector[0] = 1
    of_class = torch.from_numpy(groups)
    within = WithinClasses(
        rows, torch.arange(600), of_class, of_class, shows, atoms, TEXTS, ["cat", "boat", "dog"],
        torch.zeros(3, 7, dtype=torch.float64), directions, directions,
    )  # fmt: skip
    return within, vector, y


def test_cues_are_picked_beyond_those_before() -> None:
    within, vector, y = planted_world()
    picked, synonyms = pick_image_cues(within, vector, "cat", "boat", NameSimilarity(), 4, 0.6)
    found = [within.texts[cue.row] for cue in picked]
    # The boat itself and what names a cat are none; blue comes with the sea, whose phrase "blue sea" is folded into it.
    assert found[:2] == ["sea", "red"]
    assert picked[0].also == ["blue sea"]
    assert synonyms == {"boat": 1.0}
    sea = within.shows.toarray()[:, 0] > 0
    assert math.isclose(picked[0].score, y[sea].mean(), rel_tol=1e-5)
    # By itself blue has nearly the sea's score: more than red.
    scores = dict(zip(within.texts, image_scores(within, vector), strict=True))
    assert scores["a blue thing"] > scores["red"]
    others = dict(zip(found, (cue.score for cue in picked), strict=True))
    assert others.get("a blue thing", 0.0) < 0.1 * scores["a blue thing"]
    # The second score is what a least-squares fit of the first leaves, over the images that show red.
    centred = within.shows.toarray()[:, 0] - np.array([sea[g::3].mean() for g in range(3)])[np.arange(600) % 3]
    left = y - centred * (centred @ y) / (centred @ centred)
    red = within.shows.toarray()[:, 3] > 0
    assert math.isclose(picked[1].score, left[red].mean(), rel_tol=1e-4)
    # Red has less than half of the sea's score: it is no strong cue.
    strong, _ = pick_image_cues(within, vector, "cat", "boat", NameSimilarity(), 4, 0.6, STRONG)
    assert [within.texts[cue.row] for cue in strong] == ["sea"]


def test_the_audit_by_images_names_neither_class(auditor: Auditor) -> None:
    auditor.scoring = "images"
    found = auditor.audit(auditor.pair("cat", "boat"), cues=8, draws=20)
    assert found.scoring == "images"
    assert found.cues
    assert not any(mentions(cue.text, name) for cue in found.cues for name in ("cat", "boat"))
    texts = [cue.text for cue in found.cues]
    assert len(set(texts)) == len(texts)
