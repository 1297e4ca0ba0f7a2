"""A survey in shards, on real workers, is the plain survey bit by bit; whatever happens to the workers on the way."""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from cluster_runs import SETTINGS, pictures_of, same, survey

import secondlens as sl
from secondlens.atlas.manifest import MANIFEST
from secondlens.cli import app
from secondlens.cli.cluster import ray_notes
from secondlens.cluster import cluster_survey
from secondlens.cluster import survey as module
from secondlens.cluster.crew import Crew
from secondlens.cluster.shards import ShardFiles
from secondlens.errors import ClusterError
from secondlens.images.sources import FolderSource
from secondlens.models import LensModel

Write = Callable[[ShardFiles, range, dict[str, torch.Tensor]], None]
WRITE: Write = ShardFiles.write


@pytest.mark.parametrize("shard_images", [5, 15, None])
def test_two_workers_give_the_bits_of_one_machine(
    crew: Crew, loaded: LensModel, plain: sl.Atlas, tmp_path: Path, shard_images: int | None
) -> None:
    assert sum(card.second_pass for card in plain.manifest.layers), "the second look must be tested"
    atlas, cost = survey(crew, loaded, pictures_of(plain), tmp_path / "atlas", shard_images)
    same(plain, atlas)
    assert len(atlas.skipped) == 2
    assert cost.items >= 42
    assert cost.pieces >= 3
    assert cost.rate > 0


def test_the_command(ray: Any, reference: str, plain: sl.Atlas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                     capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    """In float64 too; and what is there is opened, not made again."""
    pictures, out = pictures_of(plain), tmp_path / "atlas"
    command = ["secondlens", "cluster", "survey", reference, str(pictures), "--out", str(out), "--layers", "0,1"]
    command += ["--top", "3", "--batch-size", "5", "--workers", "1", "--threads", "1", "--json"]
    command += ["--dtype", "float64", "--shard-images", "10"]
    monkeypatch.setattr(sys, "argv", command)
    whole = sl.survey(sl.load_model(reference, dtype="float64"), pictures, tmp_path / "whole", **SETTINGS)
    for nodes in (1, 0):
        with pytest.raises(SystemExit) as ended:
            app.main()
        assert ended.value.code in (0, None)
        said = capsys.readouterr()
        facts = json.loads(said.out)
        assert len(facts["nodes"]) == nodes
        assert facts["images"] == 40
        assert len(facts["skipped_images"]) == 2
        assert "images/s" in said.err or not nodes
    same(whole, sl.Atlas.open(out))
    monkeypatch.setattr(sys, "argv", [*command, "--top", "4"])
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert ended.value.code == 2
    assert "top was 3, now 4" in capsys.readouterr().err


def test_a_killed_worker_costs_its_shard_only(
    crew: Crew, loaded: LensModel, plain: sl.Atlas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = crew.start()[0].process
    written: list[range] = []

    def kill(files: ShardFiles, span: range, tensors: dict[str, torch.Tensor]) -> None:
        WRITE(files, span, tensors)
        written.extend([span] if "survey" in files._prefix else [])
        if len(written) == 3:
            os.kill(victim, signal.SIGKILL)

    monkeypatch.setattr(ShardFiles, "write", kill)
    atlas, _ = survey(crew, loaded, pictures_of(plain), tmp_path / "killed", 5)
    same(plain, atlas)
    with pytest.raises(ProcessLookupError):
        os.kill(victim, 0)
    # Nothing that was finished was done again.
    assert sorted(batch for span in written for batch in span) == list(range(9))


@pytest.mark.parametrize("finish", ["cluster", "plain"])
def test_an_interrupted_run_goes_on_anywhere(
    crew: Crew, loaded: LensModel, plain: sl.Atlas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finish: str
) -> None:
    """Stopped twice on the cluster: finished there, and finished as a plain survey."""
    folder = tmp_path / "atlas"
    written: list[range] = []

    def stop(files: ShardFiles, span: range, tensors: dict[str, torch.Tensor]) -> None:
        WRITE(files, span, tensors)
        written.append(span)
        if len(written) in (2, 5):
            raise KeyboardInterrupt

    monkeypatch.setattr(ShardFiles, "write", stop)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            survey(crew, loaded, pictures_of(plain), folder, 5)
    assert not (folder / MANIFEST).exists()
    assert len(list((folder / "progress" / "shards").glob("*.safetensors"))) == 5
    if finish == "plain":
        same(plain, sl.survey(loaded, pictures_of(plain), folder, **SETTINGS))
        return
    atlas, _ = survey(crew, loaded, pictures_of(plain), folder, 5)
    same(plain, atlas)
    assert sorted(batch for span in written[:8] for batch in span)[:3] == [0, 1, 2]
    assert len(written) == len(set(written)) or len(written) > 8


def test_a_plain_survey_goes_on_on_the_cluster(
    crew: Crew, loaded: LensModel, plain: sl.Atlas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from secondlens.surveys import run

    folder, update, seen = tmp_path / "atlas", run.update, 0

    def stop(*arguments: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen == 6:
            os.kill(os.getpid(), signal.SIGINT)
        return update(*arguments)

    monkeypatch.setattr(run, "update", stop)
    with pytest.raises(KeyboardInterrupt):
        sl.survey(loaded, pictures_of(plain), folder, **SETTINGS)
    monkeypatch.setattr(run, "update", update)
    atlas, cost = survey(crew, loaded, pictures_of(plain), folder)
    same(plain, atlas)
    # Twelve images were left for the first pass; the second look has its own.
    assert cost.items < 12 + 42


def test_a_node_that_cannot_read_is_named(crew: Crew, loaded: LensModel, plain: sl.Atlas, tmp_path: Path,
                                          monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """Pictures that the workers alone do not have: their copy of the source points elsewhere."""
    put = crew.ray.put

    def misplaced(value: Any, **options: Any) -> Any:
        if isinstance(value, FolderSource):
            value = FolderSource(value.root)
            object.__setattr__(value, "root", tmp_path / "not-mounted-there")
        return put(value, **options)

    monkeypatch.setattr(crew.ray, "put", misplaced)
    with pytest.raises(ClusterError, match=r"node .* cannot read 'picture-.*missing file.*which can be read here"):
        survey(crew, loaded, pictures_of(plain), tmp_path / "atlas")
    assert not (tmp_path / "atlas" / MANIFEST).exists()


def test_a_worker_without_the_model_is_named(
    ray: Any, loaded: LensModel, plain: sl.Atlas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "load_model", lambda *arguments, **options: loaded)
    out = tmp_path / "atlas"
    with pytest.raises(ClusterError, match=r"node .*: no such model folder or file: /only/here"):
        cluster_survey("hf:/only/here", pictures_of(plain), out, **SETTINGS, workers=1, threads=1)
    assert not out.exists()


def test_rays_messages_stay_away_from_the_data(capsys: pytest.CaptureFixture[str]) -> None:
    with ray_notes():
        print("(raylet) A worker died or was killed while executing a task by an unexpected system error.")
        print("(raylet) Task survey failed. There are 3 retries remaining")
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "secondlens: a worker was lost; another one takes over what it had\n"


def test_impossible_crews(ray: Any, reference: str, plain: sl.Atlas, tmp_path: Path) -> None:
    for options, message in (
        ({"shard_images": 0}, "at least one image"),
        ({"workers": 5}, "5 workers of 1 cores do not fit the cluster's 4 cores on 1 node; give --workers 4"),
        ({"workers": 0}, "at least 1 of --workers, got 0"),
        ({"device": "cuda", "workers": 2}, "2 workers on cuda need a GPU each, the cluster has 0"),
    ):
        with pytest.raises(ClusterError, match=message):
            cluster_survey(reference, pictures_of(plain), tmp_path / "no", **SETTINGS, **options)
