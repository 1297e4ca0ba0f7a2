"""The demo from end to end, on a tiny random model of the world's words, and on the embedded one."""

import json
from pathlib import Path

import pytest
import torch

from commands import secondlens
from tiny_world import world_cache, world_folder

__all__ = ["world_cache", "world_folder"]


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: str, out: Path, *more: str
) -> tuple[int, str, str]:
    return secondlens(monkeypatch, capsys, "demo", "--model", model, "--out", out, "--quick", "--scenes", 100, *more)


def test_demo_tells_every_step_and_goes_on_where_it_was(
    world_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = f"hf:{world_cache / 'model'}", tmp_path / "demo"
    threads = torch.get_num_threads()
    code, printed, _ = run(monkeypatch, capsys, model, out)
    assert code == 0
    assert torch.get_num_threads() == threads
    report = (out / "report.md").read_text()
    page = (out / "report.html").read_text()
    for title in ("The model", "A survey of all neurons", "What the effects do for accuracy", "Spurious cues"):
        assert title in printed
        assert title in report
        assert title in page
    for line in report.splitlines():
        if line.startswith("!["):
            assert (out / line.partition("](")[2].rstrip(")")).is_file(), line
    kept = (out / "steps.jsonl").read_text()
    code, printed, _ = run(monkeypatch, capsys, model, out, "--json")
    assert code == 0
    facts = json.loads(printed)
    assert (out / "steps.jsonl").read_text() == kept
    assert sum(step["seconds"] for step in facts["steps"]) == pytest.approx(facts["seconds"])
    assert all(command[0] != "demo" for step in facts["steps"] for command in step["commands"])
    code, _, told = secondlens(monkeypatch, capsys, "demo", "--model", model, "--out", out, "--scenes", 150)
    assert code == 2
    assert "other settings" in told


@pytest.mark.slow
def test_demo_of_the_embedded_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SECONDLENS_CACHE", str(tmp_path / "cache"))
    code, printed, _ = run(monkeypatch, capsys, "world:", tmp_path / "demo", "--json")
    assert code == 0
    steps = {step["title"]: step for step in json.loads(printed)["steps"]}
    accuracies = dict(steps["The model"]["tables"][0]["rows"])
    assert accuracies["noun, among 32"] > 80  # 90 % or more over thousands of scenes; these are 100
