"""A survey in parts, on real workers, is the plain survey; whatever happens to the workers on the way."""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cluster_runs import SETTINGS, pictures_of, require_same, survey

import secondlens as sl
from secondlens.atlas.manifest import MANIFEST
from secondlens.cli import app
from secondlens.cli.cluster import ray_notes
from secondlens.data.sources import FolderSource
from secondlens.errors import ClusterError, SurveyError
from secondlens.lens import LensModel
from secondlens.surveys.cluster import survey as module
from secondlens.surveys.cluster.crew import Crew
from secondlens.surveys.cluster.survey import cluster_survey

Store = Callable[..., None]
STORE: Store = module.store_part


@pytest.mark.parametrize("shard_images", [4, 16, None])
def test_two_workers_give_what_one_machine_gives(
    crew: Crew, loaded: LensModel, plain: sl.Atlas, tmp_path: Path, shard_images: int | None
) -> None:
    atlas, cost = survey(crew, loaded, pictures_of(plain), tmp_path / "atlas", shard_images)
    require_same(plain, atlas)
    assert len(atlas.skipped) == 2
    assert cost.items >= 42
    assert cost.pieces >= 3
    assert cost.rate > 0


def test_the_command(ray: Any, reference: str, plain: sl.Atlas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                     capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    """In float64 too; and what is there is opened, not made again."""
    pictures, out = pictures_of(plain), tmp_path / "atlas"
    command = ["secondlens", "cluster", "survey", reference, str(pictures), "--out", str(out), "--layers", "0,1"]
    command += ["--top", "2", "--batch-size", "4", "--workers", "1", "--threads", "1", "--json"]
    command += ["--dtype", "float64", "--shard-images", "12"]
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
    require_same(whole, sl.Atlas.open(out))
    monkeypatch.setattr(sys, "argv", [*command, "--top", "4"])
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert ended.value.code == 2
    assert "top was 2, now 4" in capsys.readouterr().err


def test_a_killed_worker_costs_its_part_only(
    crew: Crew, loaded: LensModel, plain: sl.Atlas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = crew.start()[0].process
    stored: list[str] = []

    def kill(job: Any, piece: Any, folder: Path) -> None:
        STORE(job, piece, folder)
        stored.extend([folder.name] if "first" in folder.name else [])
        if len(stored) == 3:
            os.kill(victim, signal.SIGKILL)

    monkeypatch.setattr(module, "store_part", kill)
    atlas, _ = survey(crew, loaded, pictures_of(plain), tmp_path / "killed", 4)
    require_same(plain, atlas)
    with pytest.raises(ProcessLookupError):
        os.kill(victim, 0)
    # Nothing that was finished was done again.
    assert sorted(stored) == sorted(set(stored))
    assert len(stored) == 11


def test_an_interrupted_run_goes_on(
    crew: Crew, loaded: LensModel, plain: sl.Atlas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "atlas"
    stored: list[str] = []

    def stop(job: Any, piece: Any, path: Path) -> None:
        STORE(job, piece, path)
        stored.append(path.name)
        if len(stored) in (2, 5):
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "store_part", stop)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            survey(crew, loaded, pictures_of(plain), folder, 4)
    assert not (folder / MANIFEST).exists()
    assert len(list((folder / "progress" / "parts").glob("*/part.json"))) == 5
    with pytest.raises(SurveyError, match=r"a survey in 11 parts, begun by 'secondlens cluster survey'"):
        sl.survey(loaded, pictures_of(plain), folder, **SETTINGS)
    # The number of parts is that of the beginning, however many are asked for now.
    atlas, _ = survey(crew, loaded, pictures_of(plain), folder, 20)
    require_same(plain, atlas)
    assert len(stored) == len(set(stored))


def test_a_plain_survey_is_not_begun_again(
    crew: Crew, loaded: LensModel, plain: sl.Atlas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from secondlens.surveys import stream

    folder, update, batches = tmp_path / "atlas", stream.update, 0

    def stop(*arguments: Any) -> Any:
        nonlocal batches
        batches += 1
        if batches == 6:
            os.kill(os.getpid(), signal.SIGINT)
        return update(*arguments)

    monkeypatch.setattr(stream, "update", stop)
    with pytest.raises(KeyboardInterrupt):
        sl.survey(loaded, pictures_of(plain), folder, **SETTINGS)
    monkeypatch.setattr(stream, "update", update)
    with pytest.raises(ClusterError, match="a survey in one part, begun by 'secondlens survey'; continue it with"):
        survey(crew, loaded, pictures_of(plain), folder)
    require_same(plain, sl.survey(loaded, pictures_of(plain), folder, **SETTINGS))


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
