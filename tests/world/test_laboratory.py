"""The laboratory on synthetic neurons whose truth is known, and on a tiny model from end to end."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from secondlens.analysis.audit import Auditor
from secondlens.atlas import Atlas
from secondlens.descriptions import Descriptions
from secondlens.errors import WorldError
from secondlens.lens import LensModel
from secondlens.studies.laboratory.agreement import agreement, word_weights
from secondlens.studies.laboratory.cues import FIRST, cue_ranks, pairs_of, recall
from secondlens.studies.laboratory.run import laboratory, summary
from secondlens.studies.laboratory.seeds import SeedSettings, intervals, study_seeds
from secondlens.studies.laboratory.selectivity import Selectivity, presence, projections, selectivity
from secondlens.studies.projections import Projector
from secondlens.viewer.reports.laboratory import write_laboratory
from secondlens.world import NOUNS, Biases, scene_at
from secondlens.world.phrases import CONCEPTS, concepts_of, phrases, single_phrases

SCENES = [scene_at(5, index, kind="unbiased") for index in range(400)]
SHOWN = presence(SCENES)


def planted(concepts: list[int], noise: float, seed: int = 0) -> torch.Tensor:
    """[scene, neuron]: each neuron responds to one concept, with noise."""
    drawn = torch.randn(len(SCENES), len(concepts), generator=torch.Generator().manual_seed(seed))
    return SHOWN[:, concepts].float() + noise * drawn


def test_presence_is_what_scenes_hold() -> None:
    for scene, row in zip(SCENES[:20], SHOWN[:20], strict=True):
        expected = {("background", scene.background)}
        for thing in scene.objects:
            expected |= {("noun", thing.noun), ("colour", thing.colour), ("texture", thing.texture)}
        assert {concept for concept, there in zip(CONCEPTS, row.tolist(), strict=True) if there} == expected


def test_every_concept_has_phrases_that_name_it() -> None:
    texts = phrases()
    assert len(set(texts)) == len(texts) > 900
    assert set(single_phrases()) < set(texts)
    for kind, value in CONCEPTS:
        alone = [text for text in single_phrases() if concepts_of(text) == {(kind, value)}]
        assert len(alone) == 1
        assert sum((kind, value) in concepts_of(text) for text in texts) >= 8


def test_auc_and_correlation_are_those_of_their_definitions() -> None:
    x = planted([0, 33, 50], noise=0.7).round(decimals=1)  # rounded: ties
    found = selectivity(x, SHOWN, permutations=2)
    for neuron in range(3):
        for concept in (0, 33, 50):
            with_it, without = x[SHOWN[:, concept], neuron], x[~SHOWN[:, concept], neuron]
            wins = (with_it[:, None] > without).double() + 0.5 * (with_it[:, None] == without).double()
            assert float(found.auc[neuron, concept]) == pytest.approx(float(wins.mean()), abs=1e-6)
            expected = np.corrcoef(x[:, neuron].double(), SHOWN[:, concept].double())[0, 1]
            assert float(found.correlation[neuron, concept]) == pytest.approx(expected, abs=1e-6)


def test_planted_neurons_are_selective_for_their_concepts_and_noise_is_not() -> None:
    concepts = [3, 20, 33, 38, 44, 50]
    x = torch.cat([planted(concepts, noise=0.2), torch.randn(400, 200, generator=torch.manual_seed(1))], dim=1)
    found = selectivity(x, SHOWN)
    assert found.auc[: len(concepts)].argmax(dim=1).tolist() == concepts
    assert found.selective[: len(concepts)].all()
    # Noise passes with probability 0.05: of 200 neurons at most 22 with probability 0.9995 (binomial).
    assert int(found.selective[len(concepts) :].sum()) <= 22


def test_a_concept_that_nearly_no_scene_shows_has_no_figure() -> None:
    found = selectivity(planted([0], 1.0)[:60], SHOWN[:60], permutations=2)
    rare = SHOWN[:60].sum(dim=0) < 5
    assert rare.any()
    assert (found.auc[0].isnan() == rare).all()
    with pytest.raises(WorldError, match="10 scenes or more"):
        selectivity(planted([0], 1.0)[:8], SHOWN[:8])


def test_true_words_agree_and_those_of_others_do_not() -> None:
    concepts = list(range(0, 54, 2))
    truth = selectivity(planted(concepts, noise=0.3), SHOWN)
    said = torch.nn.functional.one_hot(torch.tensor(concepts), len(CONCEPTS)).float()
    right = agreement(said, truth)
    assert right["precision@1"].observed == 1.0
    assert right["precision@1"].chance == pytest.approx(1 / len(concepts), abs=0.02)
    assert right["precision@1"].p_value == pytest.approx(1 / 201)
    wrong = agreement(said.roll(1, dims=0), truth)
    assert wrong["precision@1"].observed == 0.0
    assert wrong["precision@1"].p_value > 0.05
    perfect = agreement(truth.auc.clone(), truth)
    assert perfect["rank_correlation"].observed == pytest.approx(1.0)


def test_neurons_that_tell_nothing_are_left_out_of_the_agreement() -> None:
    flat = Selectivity(0, torch.full((4, len(CONCEPTS)), 0.5), torch.zeros(4, len(CONCEPTS)), 0.1)
    assert agreement(torch.rand(4, len(CONCEPTS)), flat) == {}


def test_weights_of_words_are_sums_over_the_texts_that_name_a_concept(world_cache: Path) -> None:
    described = Descriptions.open(Atlas.open(world_cache / "atlas"))
    weights = word_weights(described, 1, len(described.figures(1)["senses"]))
    rows = described.table(1, 7).to_pylist()
    length = sum(row["coefficient"] ** 2 for row in rows) ** 0.5
    for index, concept in enumerate(CONCEPTS):
        expected = sum(row["coefficient"] for row in rows if concept in concepts_of(row["text"])) / length
        assert float(weights[7, index]) == pytest.approx(expected, abs=1e-5)


def test_projections_do_not_depend_on_the_batch(world_cache: Path, world_model: LensModel) -> None:
    atlas = Atlas.open(world_cache / "atlas")
    whole = projections(world_model, atlas, SCENES[:10], layers=[1])[1]
    parts = projections(world_model, atlas, SCENES[:10], layers=[1], batch_size=3)[1]
    assert torch.allclose(whole, parts, atol=1e-5 * float(whole.abs().max()))  # float32, sums of another order
    assert whole.shape == (10, world_model.neurons)
    assert Projector(world_model, atlas.layer(1)).along.shape[0] == whole.shape[1]


class SameCues(Auditor):
    """An audit that always lists the same phrases."""

    def __init__(self, texts: list[str]) -> None:
        self.scoring, self.texts = "scripted", texts

    def pair(self, shown: str, predicted: str) -> Any:
        return shown, predicted

    def audit(self, pair: Any, **options: Any) -> Any:
        return SimpleNamespace(cues=[SimpleNamespace(text=text) for text in self.texts])


def test_ranks_of_planted_cues() -> None:
    table = Biases("two", {"boat": {"background": {"sea": 0.9}}, "cactus": {"colour": {"green": 0.9}}})
    pairs = [("cat", "boat"), ("cat", "cactus"), ("boat", "cactus")]
    ranks = cue_ranks(SameCues(["a red thing", "a cat at sea", "a thing in the ocean"]), table, pairs)
    assert [(rank.target_class, rank.word, rank.rank) for rank in ranks] == [
        ("boat", "sea", 2),
        ("cactus", "green", None),
        ("cactus", "green", None),
    ]
    # The same lists everywhere: where the sea was not planted it is found as often.
    assert ranks[0].chance == tuple(float(size >= 2) for size in FIRST)
    found = recall(ranks)
    assert found["all"]["recall@3"] == pytest.approx(1 / 3)
    assert found["background"]["recall@1"] == 0.0
    assert found["background"]["recall@3"] == 1.0


def test_pairs_have_planted_cues() -> None:
    table = Biases.load()
    pairs = pairs_of(table, 2)
    assert len(set(pairs)) == len(pairs)
    assert all(table.planted_cues(shown, predicted) for shown, predicted in pairs)
    assert {predicted for _, predicted in pairs} == {noun for noun in NOUNS if table.planted(noun)}


def test_laboratory_of_an_atlas(world_cache: Path, world_model: LensModel, tmp_path: Path) -> None:
    atlas = Atlas.open(world_cache / "atlas")
    found = laboratory(world_model, atlas, Descriptions.open(atlas), scenes=60, shown_each=1, layers=[1])
    written = write_laboratory(found, tmp_path / "lab")
    assert all(path.stat().st_size for path in written)
    facts = json.loads(written[0].read_text())
    assert facts == json.loads(json.dumps(summary(found)))
    assert set(facts["cues"]) == {"paper", "images"}
    assert pq.read_table(written[1]).num_rows == world_model.neurons * len(CONCEPTS)


def test_interval_of_seeds_is_students() -> None:
    found = intervals([{"a": 1.0, "b": 2.0}, {"a": 2.0, "b": float("nan")}, {"a": 3.0, "b": 2.0}])
    assert list(found) == ["a"]
    # t(0.975, 2) = 4.30265 from a table; s = 1.
    assert found["a"]["high"] - found["a"]["mean"] == pytest.approx(4.30265 / 3**0.5, abs=1e-4)


def test_seeds_are_kept_and_measured_once(world_cache: Path, world_model: LensModel, tmp_path: Path) -> None:
    settings = SeedSettings(scenes=60, labelled=30, labels=("noun",), top=0.1, texts=4, neurons=4, truth=60)
    first = study_seeds(world_model, tmp_path / "seeds", 2, settings)
    assert {layer["layer"] for layer in first["layers"]} == set(world_model.tower.lens_layers)
    kept = (tmp_path / "seeds" / "seed-01" / "metrics.json").stat().st_mtime_ns
    again = study_seeds(world_model, tmp_path / "seeds", 2, settings)
    assert (tmp_path / "seeds" / "seed-01" / "metrics.json").stat().st_mtime_ns == kept
    assert again == first
