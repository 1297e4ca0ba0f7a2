"""The audit of a pair, against slow sums from the formulas."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from secondlens.analysis.audit import Auditor, NeuronTable, class_head, class_pair, table_of_directions
from secondlens.analysis.audit.images import image_scores
from secondlens.analysis.audit.matrix import audit_matrix, image_matrix
from secondlens.analysis.audit.scores import (
    benjamini_hochberg,
    neuron_weights,
    score_phrases,
    significance,
    strongest,
)
from secondlens.analysis.audit.similarity import NameSimilarity, mentions, open_similarity
from secondlens.descriptions.pools import described_pool
from secondlens.errors import AuditError, OutputError
from secondlens.lens import LensModel
from secondlens.lens.classifier import WORLD_TEMPLATES, default_templates
from secondlens.viewer.reports.matrix import write_matrix
from secondlens.world import NOUNS


def small_table(neurons: int = 30, texts: int = 12, seed: int = 0) -> NeuronTable:
    rng = np.random.default_rng(seed)
    codes = np.where(rng.random((neurons, texts)) < 0.3, rng.normal(size=(neurons, texts)), 0.0)
    directions = torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(neurons, 6))).float(), dim=1)
    return NeuronTable(
        "second order", torch.zeros(neurons, dtype=torch.int64), torch.arange(neurons), directions,
        torch.from_numpy(rng.random(neurons)).float() + 0.1, csr_matrix(codes), [f"text {row}" for row in range(texts)],
    )  # fmt: skip


@pytest.mark.parametrize("scoring", ["paper", "effect"])
def test_scores_are_the_papers_sum(auditor: Auditor, scoring: str) -> None:
    auditor.scoring = scoring
    pair = auditor.pair("cat", "boat")
    found = auditor.audit(pair, neurons=20, cues=200, draws=0)
    # From the atlas and the description's table, in float64, neuron by neuron.
    texts = [template.replace("{}", name) for name in ("boat", "cat") for template in WORLD_TEMPLATES]
    encoded = auditor.model.encode_texts(texts).double().view(2, 3, -1).mean(dim=1)
    encoded = encoded / encoded.norm(dim=1, keepdim=True)
    v = encoded[0] - encoded[1]
    weights = {}
    for layer in auditor.atlas.layers:
        opened = auditor.atlas.layer(layer)
        for neuron, direction in enumerate(opened.directions.double()):
            strength = float(opened.top_projections[neuron].abs().mean()) if scoring == "effect" else 1.0
            weights[layer, neuron] = float(direction @ v) * strength
    chosen = sorted(weights, key=lambda key: -abs(weights[key]))[:20]
    assert [(layer, neuron) for layer, neuron, _ in found.chosen] == chosen
    scores: dict[str, float] = {}
    for layer, neuron in chosen:
        for row in auditor.descriptions.table(layer, neuron).to_pylist():
            scores[row["text"]] = scores.get(row["text"], 0) + row["coefficient"] * weights[layer, neuron]
    expected = {text: score for text, score in scores.items() if score > 1e-9 and text != "boat"}
    got = {cue.text: cue.score for cue in found.cues}
    assert set(got) == set(expected)
    for text, score in got.items():
        # Float32 embeddings and directions of unit norm: products differ by a few 1e-7.
        assert math.isclose(score, expected[text], rel_tol=1e-4, abs_tol=1e-6)
    assert list(got.values()) == sorted(got.values(), reverse=True)
    assert found.synonyms.keys() <= {"boat"}


def test_evidence_sums_to_the_score(auditor: Auditor) -> None:
    pair = auditor.pair("cat", "boat")
    found = auditor.audit(pair, neurons=20, cues=5, draws=0)
    for cue in found.cues:
        assert 1 <= cue.neurons <= 20
        parts = [seen.contribution for seen in cue.evidence]
        assert parts == sorted(parts, reverse=True)
        for seen in cue.evidence:
            assert math.isclose(seen.contribution, seen.coefficient * seen.weight)
            assert len(seen.images) == 5
            words = [text.removeprefix("-") for text in seen.sense]
            texts = [row["text"] for row in auditor.descriptions.table(seen.layer, seen.neuron).to_pylist()]
            assert set(words) <= set(texts)


def test_p_values_count_random_neurons() -> None:
    table = small_table()
    weights = neuron_weights(table, torch.ones(6))
    found = score_phrases(table, strongest(weights, 8), weights)
    tests = significance(table, found, draws=300, seed=3)
    # The same draws one by one, from the words of the formula.
    rng = np.random.default_rng(3)
    dense = np.asarray(table.codes.todense())
    beaten, family = np.zeros(len(found.phrases)), np.zeros(len(found.phrases))
    for _ in range(300):
        rows = rng.choice(30, 8, replace=False)
        drawn = dense[rows][:, found.phrases].T @ found.weights
        beaten += drawn >= found.scores - 1e-9
        family += drawn.max() >= found.scores - 1e-9
    assert np.allclose(tests.p, (1 + beaten) / 301)
    assert np.allclose(tests.p_family, (1 + family) / 301)
    assert (tests.p_family >= tests.p).all()
    assert (tests.q >= tests.p - 1e-12).all()


def test_p_values_are_uniform_where_words_mean_nothing() -> None:
    ps = []
    for seed in range(60):
        table = small_table(seed=seed)
        rows = np.arange(8)
        weights = np.random.default_rng(1000 + seed).normal(size=30)
        ps.append(significance(table, score_phrases(table, rows, weights), draws=200, seed=seed).p)
    # Ties (phrases that nobody in a draw uses) only make p larger: never more than its share of small ones.
    joined = np.concatenate(ps)
    for level in (0.05, 0.2, 0.5):
        assert (joined <= level).mean() < level + 0.04


def test_benjamini_hochberg_by_hand() -> None:
    assert np.allclose(benjamini_hochberg(np.array([0.01, 0.04, 0.03, 0.5])), [0.04, 0.16 / 3, 0.16 / 3, 0.5])
    assert len(benjamini_hochberg(np.array([]))) == 0


def test_matrix_agrees_with_the_audit(auditor: Auditor, tmp_path: Path) -> None:
    names = ["cat", "boat", "cactus"]
    _, head = class_head(auditor.model, names, WORLD_TEMPLATES)
    found = audit_matrix(auditor.table, names, head, NameSimilarity(), neurons=20, count=4)
    for shown in names:
        for predicted in names:
            if shown == predicted:
                assert np.isnan(found.values[names.index(shown), names.index(predicted)])
                continue
            pair = auditor.audit(auditor.pair(shown, predicted), neurons=20, cues=4, draws=0)
            expected = sum(cue.score for cue in pair.cues) / 4 / pair.length
            place = names.index(shown), names.index(predicted)
            assert math.isclose(found.values[place], expected, rel_tol=1e-5)
            assert [text for text, _ in found.cues[place]] == [cue.text for cue in pair.cues]
    write_matrix(found, tmp_path / "pairs.csv", tmp_path / "pairs.png")
    assert (tmp_path / "pairs.csv").read_text().startswith("source_class,target_class,exploitability")
    assert len((tmp_path / "pairs.csv").read_text().splitlines()) == 7
    write_matrix(found, tmp_path / "pairs.parquet")
    with pytest.raises(OutputError, match=r"\.csv or \.parquet"):
        write_matrix(found, tmp_path / "pairs.txt")
    by_images = image_matrix(auditor.within, list(NOUNS), class_head(auditor.model, NOUNS, WORLD_TEMPLATES)[1],
                             NameSimilarity())  # fmt: skip
    best = by_images.ranked(1)[0]
    pair = auditor.pair(best["source_class"], best["target_class"])
    scores = dict(zip(auditor.within.texts, image_scores(auditor.within, pair.vector), strict=True))
    assert best["cues"]
    for cue in best["cues"]:
        assert math.isclose(cue["score"], max(0.0, scores[cue["text"]]), rel_tol=1e-4, abs_tol=1e-9)
    means = torch.nn.functional.normalize(torch.randn(32, auditor.model.embed_dim), dim=1)
    head = class_head(auditor.model, NOUNS, WORLD_TEMPLATES)[1]
    other = image_matrix(auditor.within, list(NOUNS), head, NameSimilarity(), means=means)
    margin = float(means[0].double() @ (head.weight[0] - head.weight[1]).double())
    pushes = sum(score for _, score in other.cues[0, 1])
    assert (
        math.isclose(other.values[0, 1], pushes / margin, rel_tol=1e-5) if margin > 0 else np.isnan(other.values[0, 1])
    )
    assert by_images.ranked(3)[0]["exploitability"] >= by_images.ranked(3)[2]["exploitability"]


def test_directions_of_another_kind(auditor: Auditor) -> None:
    pool = described_pool(auditor.model, auditor.descriptions)
    directions = {layer: auditor.atlas.layer(layer).directions for layer in (0, 1)}
    table = table_of_directions("indirect", directions, pool, 8)
    own = auditor.table
    assert len(table) == len(own) == 96
    assert abs(table.codes - own.codes).max() < 1e-5
    with pytest.raises(AuditError, match="in the joint space of the pool"):
        table_of_directions("indirect", {0: torch.ones(3, 5)}, pool)


@pytest.mark.parametrize(
    ("shown", "predicted", "expected"),
    [
        ("cat", "cat", "expected different classes, got 'cat' twice"),
        ("Cat.", "cat", "'Cat.' and 'cat' twice"),
        (" ", "cat", "got an empty one"),
        ("cat", "deer", "knows no word 'deer'"),
    ],
)
def test_classes_that_cannot_be_audited(world_model: LensModel, shown: str, predicted: str, expected: str) -> None:
    with pytest.raises(AuditError, match=expected):
        class_pair(world_model, shown, predicted, WORLD_TEMPLATES)


def test_classes_of_a_classifier(vit: LensModel) -> None:
    pair = class_pair(vit, "house cat", "Dog")
    assert (pair.source_class, pair.target_class) == ("cat, house cat", "dog")
    assert vit.classifier is not None
    rows = vit.classifier.weight()
    names, head = class_head(vit, vit.classifier.labels)
    assert names == list(vit.classifier.labels)
    assert torch.equal(head.weight, rows)
    assert torch.allclose(pair.vector, rows[1] - rows[0])
    with pytest.raises(AuditError, match=r"no class 'dig'.*did you mean 'dog'"):
        class_pair(vit, "cat", "dig")
    with pytest.raises(AuditError, match="'cat' and 'house cat' twice"):
        class_pair(vit, "cat", "house cat")


def test_similarity(auditor: Auditor) -> None:
    assert mentions("two Boats", "boat")
    assert mentions("a lion", "lion, king of beasts")
    assert not mentions("a houseboat", "boat")
    tower = open_similarity("tower", auditor.model, auditor.descriptions, WORLD_TEMPLATES)
    likeness = tower(["boat", "sea", "sailboat"], "boat")
    assert likeness[0] == 1
    assert (likeness <= 1 + 1e-6).all()
    assert open_similarity("name", auditor.model, auditor.descriptions)(["boat", "sea"], "boat").tolist() == [1, 0]
    with pytest.raises(AuditError, match="did you mean 'tower'"):
        open_similarity("towr", auditor.model, auditor.descriptions)


def test_similarity_of_sentences(auditor: Auditor) -> None:
    pytest.importorskip("sentence_transformers")
    from secondlens.analysis.audit.similarity import local_sentence_model

    if local_sentence_model() is None:
        pytest.skip("no sentence model on this machine")
    measure = open_similarity("auto", auditor.model, auditor.descriptions)
    found = measure(["sofa", "banana", "a couch, settee"], "couch")
    assert found[0] >= 0.6 > found[1]
    assert found[2] == 1
    with pytest.raises(AuditError, match="cannot load the sentence model"):
        open_similarity("sentence:/no/such/folder", auditor.model, auditor.descriptions)


def test_templates_fit_the_model(world_model: LensModel, worded: LensModel) -> None:
    assert default_templates(world_model) == WORLD_TEMPLATES
    assert default_templates(worded) == ("a photo of a {}.",)


def test_options_out_of_range(auditor: Auditor) -> None:
    pair = auditor.pair("cat", "boat")
    for options, expected in (
        ({"cues": 0}, "1 cue or more"),
        ({"synonym": 0.0}, "similarity in"),
        ({"draws": -1}, "draws"),
        ({"neurons": 0}, "1 neuron or more"),
    ):
        with pytest.raises(AuditError, match=expected):
            auditor.audit(pair, **options)
    with pytest.raises(AuditError, match="did you mean 'images'"):
        Auditor(auditor.model, auditor.atlas, auditor.descriptions, auditor.similarity, WORLD_TEMPLATES, "image")
    lacking = Auditor(auditor.model, auditor.atlas, auditor.descriptions, auditor.similarity, WORLD_TEMPLATES, "images")
    with pytest.raises(AuditError, match="--classes FILE"):
        lacking.audit(pair)


def test_facts_are_json(auditor: Auditor) -> None:
    facts = json.loads(json.dumps(auditor.audit(auditor.pair("cat", "boat"), draws=50, cues=3).facts()))
    assert {"text", "score", "p_value", "q_value", "p_family", "evidence"} <= set(facts["cues"][0])
