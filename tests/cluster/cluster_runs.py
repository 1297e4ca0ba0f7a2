"""Surveys by workers that are there already, and the comparison of atlases bit by bit."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

import secondlens as sl
from secondlens.atlas.manifest import layer_file
from secondlens.cluster import NodeCost
from secondlens.cluster.costs import Costs
from secondlens.cluster.crew import Crew
from secondlens.cluster.survey import ClusterRun
from secondlens.images.sources import open_source
from secondlens.models import LensModel
from secondlens.surveys import make_plan

# Twelve candidates are full within the third batch of five, and some neurons need a second look.
SETTINGS: dict[str, Any] = {"layers": [0, 1], "top": 3, "batch_size": 5}


def survey(
    crew: Crew, model: LensModel, pictures: Path, out: Path, shard_images: int | None = None
) -> tuple[sl.Atlas, NodeCost]:
    """`cluster_survey` with workers that are there already."""
    source = open_source(pictures)
    plan = make_plan(model, SETTINGS["layers"], len(source.ids), SETTINGS["top"], SETTINGS["batch_size"])
    settings = (model, source, out, plan, SETTINGS["top"], "centred", SETTINGS["batch_size"], 0, True)
    costs = Costs(["node"])
    run = ClusterRun(*settings, crew=crew, costs=costs, sent=crew.ray.put(source), shard_images=shard_images)
    atlas = run.conduct(False)
    return atlas, costs.nodes()[-1]


def same(one: sl.Atlas, other: sl.Atlas) -> None:
    """Every array and every file of two atlases, bit by bit."""
    mine, theirs = one.manifest, other.manifest
    for layer in one.layers:
        here, there = load_file(one.folder / layer_file(layer)), load_file(other.folder / layer_file(layer))
        assert here.keys() == there.keys()
        differing = [name for name, tensor in here.items() if not torch.equal(tensor, there[name])]
        assert not differing, f"layer {layer}: {differing}"
    assert mine.files == theirs.files
    for field in ("images", "layers", "candidates", "top", "model", "convention", "batch_size"):
        assert getattr(mine, field) == getattr(theirs, field), field
    assert other.check() == []
    assert not (other.folder / "progress").exists()


def pictures_of(atlas: sl.Atlas) -> Path:
    return Path(atlas.manifest.images.source["location"])
