"""Surveys by workers that are there already, and the comparison of atlases."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

import secondlens as sl
from secondlens.atlas.manifest import layer_file
from secondlens.data.sources import open_source
from secondlens.lens import LensModel
from secondlens.surveys.cluster.costs import Costs, NodeCost
from secondlens.surveys.cluster.crew import Crew
from secondlens.surveys.cluster.survey import by_crew, part_count
from secondlens.surveys.job import Job
from secondlens.surveys.plan import make_plan
from secondlens.surveys.progress import SurveyBar
from secondlens.surveys.run import Run

# Parts of eight images or more evict some of them: the capacity is four.
SETTINGS: dict[str, Any] = {"layers": [0, 1], "top": 2, "batch_size": 4}

EXACT = ("top_positions", "top_norms", "directions", "mean_effects", "mean_coefficients", "explained_variance")


def survey(
    crew: Crew, model: LensModel, pictures: Path, out: Path, shard_images: int | None = None
) -> tuple[sl.Atlas, NodeCost]:
    """`cluster_survey` with workers that are there already."""
    source = open_source(pictures)
    plan = make_plan(model, SETTINGS["layers"], len(source.ids), SETTINGS["top"], SETTINGS["batch_size"])
    job = Job(model, source, plan, SETTINGS["top"], "centred", SETTINGS["batch_size"])
    costs = Costs(["node"])
    with SurveyBar(False) as bar:
        parts = part_count(job, crew.share.workers, shard_images)
        atlas = Run(job, out, by_crew(crew, costs, crew.ray.put(source))).conduct(bar, parts)
    return atlas, costs.nodes()[-1]


def require_same(one: sl.Atlas, other: sl.Atlas) -> None:
    """Compare two atlases bit by bit, for neurons that are certified in both."""
    for layer in one.layers:
        here, there = load_file(one.folder / layer_file(layer)), load_file(other.folder / layer_file(layer))
        assert here.keys() == there.keys()
        both = here["certified"] & there["certified"]
        assert float(both.float().mean()) > 0.9
        differing = [name for name in EXACT if not torch.equal(here[name][both], there[name][both])]
        assert not differing, f"layer {layer}: {differing}"
        # Sums of squared float32 norms around other references.
        torch.testing.assert_close(here["variance"], there["variance"], rtol=1e-5, atol=0)
    for field in ("images", "capacity", "top", "model", "convention", "batch_size"):
        assert getattr(one.manifest, field) == getattr(other.manifest, field), field
    assert one.image_ids == other.image_ids
    assert one.skipped == other.skipped
    assert torch.equal(one.image_embeddings, other.image_embeddings)
    assert one.thumbnails(one.image_ids) == other.thumbnails(one.image_ids)
    assert other.check() == []
    assert not (other.folder / "progress").exists()


def pictures_of(atlas: sl.Atlas) -> Path:
    return Path(atlas.manifest.images.source["location"])
