"""Parts of a survey, merged, give what one pass gives: bit by bit for certified neurons."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import secondlens as sl
from builders import SPECS
from secondlens.atlas.manifest import layer_file
from secondlens.cli import app
from secondlens.errors import SurveyError
from secondlens.lens import LensModel, load_model
from secondlens.surveys.job import Part
from secondlens.surveys.merge import merge_parts
from secondlens.surveys.parts import PART, state_file
from secondlens.surveys.run import survey_shard

SETTINGS = {"layers": [0, 1], "top": 10, "batch_size": 8}
SAME = ("top_positions", "top_norms", "directions", "mean_effects", "mean_coefficients", "explained_variance")
"""What is the same bit by bit for certified neurons, however the images were cut into parts."""


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """320 small images, two of which cannot be read and two of which are equal."""
    folder = tmp_path_factory.mktemp("many")
    rng = np.random.default_rng(0)
    for number in range(320):
        coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        coarse.resize((64, 64), Image.Resampling.BICUBIC).save(folder / f"{number:03d}.png")
    shutil.copy(folder / "003.png", folder / "207.png")
    (folder / "100.png").write_text("no image")
    (folder / "250.png").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def model(model_folders: dict[str, Path]) -> LensModel:
    return load_model(f"hf:{model_folders[SPECS[0].name]}")


@pytest.fixture(scope="module")
def whole(model: LensModel, many: Path, tmp_path_factory: pytest.TempPathFactory) -> sl.Atlas:
    return sl.survey(model, many, tmp_path_factory.mktemp("whole") / "atlas", **SETTINGS)


@pytest.fixture(scope="module")
def eighths(model: LensModel, many: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("eighths")
    return [survey_shard(model, many, folder / str(i), f"{i}/8", **SETTINGS).folder for i in range(8)]


def require_same(one: sl.Atlas, other: sl.Atlas) -> None:
    for layer in one.layers:
        here, there = load_file(one.folder / layer_file(layer)), load_file(other.folder / layer_file(layer))
        both = here["certified"] & there["certified"]
        assert float(both.float().mean()) > 0.9
        differing = [name for name in SAME if not torch.equal(here[name][both], there[name][both])]
        assert not differing, f"layer {layer}: {differing}"
        # Sums of squared float32 norms around other references.
        torch.testing.assert_close(here["variance"], there["variance"], rtol=1e-5, atol=0)
    assert one.image_ids == other.image_ids
    assert one.skipped == other.skipped
    assert torch.equal(one.image_embeddings, other.image_embeddings)
    assert one.thumbnails(one.image_ids) == other.thumbnails(one.image_ids)
    assert other.check() == []


@pytest.mark.parametrize("count", [3, 8])
def test_merged_parts_equal_one_pass(
    model: LensModel, many: Path, whole: sl.Atlas, eighths: list[Path], tmp_path: Path, count: int
) -> None:
    parts = eighths if count == 8 else [
        survey_shard(model, many, tmp_path / str(i), Part(i, 3), **SETTINGS).folder for i in range(3)
    ]  # fmt: skip
    sizes = [int(load_file(part / state_file(0))["count"]) for part in parts]
    assert sum(sizes) == 318
    assert len(set(sizes)) > 1, "parts of unequal size"
    require_same(whole, merge_parts(parts[::-1], tmp_path / "atlas", model))


def test_certificates_rest_on_evictions_that_a_merge_carries(eighths: list[Path]) -> None:
    for part in eighths[1:]:
        bounds = load_file(part / state_file(0))["evictions.bounds"]
        assert bounds.shape[1] > 0
        assert float((bounds > 0).any(dim=1).float().mean()) > 0.5


def test_a_killed_part_resumes(
    model: LensModel, many: Path, whole: sl.Atlas, eighths: list[Path], tmp_path: Path
) -> None:
    killed = tmp_path / "2"
    script = """
import os, signal, sys
from secondlens.surveys import checkpoint
from secondlens.surveys.run import survey_shard
checkpoint.Checkpoints.due = lambda self: True
save, seen = checkpoint.Checkpoints.save, 0
def counted(self, progress, state):
    global seen
    save(self, progress, state)
    seen += 1
    if seen == 3:
        os.kill(os.getpid(), signal.SIGKILL)
checkpoint.Checkpoints.save = counted
survey_shard(*sys.argv[1:4], "2/8", layers=[0, 1], top=10, batch_size=8)
"""
    command = [sys.executable, "-c", script, model.reference, str(many), str(killed)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    with pytest.raises(SurveyError, match=r"no finished part in .*run that command again"):
        merge_parts([killed], tmp_path / "none", model)
    assert json.loads((killed / "progress" / "progress.json").read_text())["batch"] == 3
    resumed = survey_shard(model, many, killed, "2/8", **SETTINGS).folder
    assert not (killed / "progress").exists()
    for layer in (0, 1):
        state, expected = (load_file(folder / state_file(layer)) for folder in (resumed, eighths[2]))
        assert all(torch.equal(state[name], expected[name]) for name in expected)
    require_same(whole, merge_parts([*eighths[:2], resumed, *eighths[3:]], tmp_path / "atlas", model))


def interrupt(path: Path, text: str) -> None:
    raise InterruptedError


@pytest.mark.parametrize(("passes", "stop"), [((2, 1), 2), ((2, 1), 7), ((1, 2), 3)])
def test_a_part_goes_on_with_the_passes_that_it_began_with(
    model: LensModel, many: Path, eighths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    passes: tuple[int, int], stop: int,
) -> None:  # fmt: skip
    """Stopped in its first or its second pass, where memory now allows another number of them."""
    from secondlens.surveys import stream
    from secondlens.surveys.plan import make_plan

    fewer = make_plan(model, [0, 1], 320, 10, 8).bytes - 1
    memory = {1: None, 2: fewer}
    update, batches = stream.update, 0

    def stopped(*arguments: Any) -> Any:
        nonlocal batches
        batches += 1
        if batches == stop:
            os.kill(os.getpid(), signal.SIGINT)
        return update(*arguments)

    monkeypatch.setattr(stream, "update", stopped)
    with pytest.raises(KeyboardInterrupt):
        survey_shard(model, many, tmp_path / "4", "4/8", memory=memory[passes[0]], **SETTINGS)
    monkeypatch.setattr(stream, "update", update)
    resumed = survey_shard(model, many, tmp_path / "4", "4/8", memory=memory[passes[1]], **SETTINGS)
    assert sorted(resumed.manifest.layers) == [0, 1]
    for layer in (0, 1):
        state, expected = (load_file(folder / state_file(layer)) for folder in (resumed.folder, eighths[4]))
        assert all(torch.equal(state[name], expected[name]) for name in expected), layer


def test_the_commands_with_a_second_pass(
    model: LensModel, many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a capacity too small to certify, a second pass in parts makes the merged atlas exact."""
    from secondlens.surveys import merge, plan

    monkeypatch.setattr(plan, "CAPACITY_PER_TOP", 1.2)
    expected = sl.survey(model, many, tmp_path / "expected", **SETTINGS)

    def run(*arguments: str | Path) -> dict[str, object]:
        monkeypatch.setattr(sys, "argv", ["secondlens", *map(str, arguments), "--json"])
        with pytest.raises(SystemExit) as ended:
            app.main()
        assert ended.value.code in (0, None)
        return json.loads(capsys.readouterr().out)

    survey = ["survey", model.reference, many, "--layers", "0,1", "--top", "10", "--batch-size", "8", "--workers", "0"]
    merged = tmp_path / "merged"
    for index in range(2):
        assert run(*survey, "--shard", f"{index}/2", "--out", tmp_path / f"first-{index}")["pass"] == "first"
    report = run("atlas", "merge", tmp_path / "first-1", tmp_path / "first-0", "--out", merged)
    uncertified = report["uncertified"]
    assert isinstance(uncertified, int)
    assert uncertified > 0
    assert report["second_pass"] == 0
    for index in range(2):
        part = run(*survey, "--shard", f"{index}/2", "--second", merged, "--out", tmp_path / f"second-{index}")
        assert part["pass"] == "second"
    with monkeypatch.context() as patch:
        # Before the manifest is written: the same command then finishes the merge.
        patch.setattr(merge, "write_text", interrupt)
        with pytest.raises(InterruptedError):
            merge_parts([tmp_path / "second-0", tmp_path / "second-1"], merged, model)
    report = run("atlas", "merge", tmp_path / "second-0", tmp_path / "second-1", "--out", merged)
    assert sl.Atlas.open(merged).check() == []
    assert (report["uncertified"], report["second_pass"]) == (0, uncertified)
    require_same(expected, sl.Atlas.open(merged))
    with pytest.raises(SurveyError, match="no second pass is needed"):
        survey_shard(model, many, tmp_path / "third", "0/2", second=sl.Atlas.open(merged))


def test_what_does_not_fit_together_is_refused(
    model: LensModel, many: Path, eighths: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "atlas"
    for parts, message in (
        ([], "expected the folders of all parts"),
        (eighths[:7], r"cannot merge 7 of 8 parts: missing 7/8; survey them with --shard"),
        ([*eighths, eighths[3]], r"part 3/8 is given more than once"),
        ([*eighths[:7], tmp_path], "no finished part in"),
    ):
        with pytest.raises(SurveyError, match=message):
            merge_parts(parts, out, model)
    other = survey_shard(model, many, tmp_path / "other", "7/8", layers=[0, 1], top=9, batch_size=8).folder
    with pytest.raises(SurveyError, match=r"part of another survey .*: top was 10, now 9"):
        merge_parts([*eighths[:7], other], out, model)
    with pytest.raises(SurveyError, match=r"part of another survey: part was \"7/8\", now \"6/8\""):
        survey_shard(model, many, tmp_path / "other", "6/8", layers=[0, 1], top=9, batch_size=8)
    for text in ("2/2", "0", "a/b", "-1/2", "1/0"):
        with pytest.raises(SurveyError, match="no such part"):
            Part.parse(text)
    damaged = tmp_path / "damaged"
    shutil.copytree(eighths[7], damaged)
    state = load_file(damaged / state_file(1))
    save_file(state | {"second_moment": state["second_moment"] + 1}, damaged / state_file(1))
    with pytest.raises(SurveyError, match=r"layer-01.state.safetensors is missing or has changed"):
        merge_parts([*eighths[:7], damaged], out, model)
    with pytest.raises(SurveyError, match="holds a part of a survey: expected a folder of its own for the atlas"):
        merge_parts(eighths, damaged, model)
    with pytest.raises(SurveyError, match="holds a part of a survey: expected a folder of its own for the atlas"):
        sl.survey(model, many, damaged, **SETTINGS)
    (damaged / PART).write_text("{}")
    with pytest.raises(SurveyError, match=r"part.json is damaged"):
        merge_parts([*eighths[:7], damaged], out, model)
    assert not out.exists()


def test_a_part_is_not_written_over_an_atlas(model: LensModel, many: Path, whole: sl.Atlas, tmp_path: Path) -> None:
    with pytest.raises(SurveyError, match="holds an atlas: expected a folder of its own for a part"):
        survey_shard(model, many, whole.folder, "0/2", **SETTINGS)
    assert whole.check() == []


def test_an_unfinished_part_is_not_continued_as_a_survey(model: LensModel, many: Path, tmp_path: Path) -> None:
    from secondlens.surveys.checkpoint import Checkpoints, Progress
    from secondlens.surveys.run import make_job

    job = make_job(model, many, tmp_path, [0, 1], 10, "centred", 8, 0, None, True)
    settings = {**job.settings(), "part": "0/1", "pass": "first", "base": {}}
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(checkpoints.load(Progress(settings, [[0, 1]], job.plan.capacity)), {})
    with pytest.raises(SurveyError, match=r'part was "0/1", now null'):
        sl.survey(model, many, tmp_path, **SETTINGS)


def test_files_may_be_read_as_any_new_file_may(whole: sl.Atlas, tmp_path: Path) -> None:
    (tmp_path / "new").touch()
    modes = {path.name: path.stat().st_mode for path in whole.folder.iterdir()}
    assert set(modes.values()) == {(tmp_path / "new").stat().st_mode}, modes
