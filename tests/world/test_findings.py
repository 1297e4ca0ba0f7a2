"""The paper's findings hold for the model that comes with the project (figure 3), in a small form."""

from pathlib import Path

import secondlens as sl
from secondlens.data.labelled import open_labelled
from secondlens.lens import LensModel
from secondlens.progress import Running
from secondlens.studies.ablation import ablate
from secondlens.world import scene_at, write_dataset


def test_a_late_layer_matters_through_its_large_effects_in_one_direction_a_neuron(
    embedded: LensModel, tmp_path: Path
) -> None:
    write_dataset(tmp_path / "survey", [scene_at(80_001, index) for index in range(600)], masks=False)
    evaluated = [scene_at(80_002, index, objects=1, kind="unbiased") for index in range(400)]
    write_dataset(tmp_path / "labelled", evaluated, masks=False)
    atlas = sl.survey(
        embedded, tmp_path / "survey" / "images", tmp_path / "atlas", layers=[3, 4], top=30, batch_size=64
    )
    images = open_labelled(tmp_path / "labelled" / "labels.csv", embedded)
    study = ablate(embedded, atlas, images, running=Running(64))
    shares = {
        layer.layer: {name: float(study.right(layer, name).float().mean()) for name in layer.predicted}
        for layer in study.layers
    }
    late, before = shares[4], shares[3]
    lost = late["baseline"] - late["without_all"]
    # Over 1,000 scenes 56.7 points are lost, 92 % of it kept, and none lost at rank one; of 400 scenes 2.5 points are
    # one standard deviation of a difference of that size at the most.
    assert lost >= 0.40
    assert late["without_small"] - late["without_all"] >= 0.8 * lost
    assert late["baseline"] - late["rank_one"] <= 0.02
    assert before["baseline"] - before["without_all"] <= 0.03
