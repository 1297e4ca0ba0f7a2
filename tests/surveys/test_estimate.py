"""The estimate before a survey: its arithmetic, its bytes against real files, and the command."""

import json
import sys
from pathlib import Path

import pytest

import secondlens as sl
from secondlens.cli import app
from secondlens.cli.survey import duration, gib
from secondlens.data.sources import open_source
from secondlens.errors import SurveyError
from secondlens.lens import LensModel
from secondlens.lens.paths import paths_of
from secondlens.numerics.evictions import ENTRIES
from secondlens.surveys.estimate import Estimate, estimate, layer_bytes, state_bytes
from secondlens.surveys.plan import make_plan


def test_more_machines_share_the_images() -> None:
    found = Estimate(1000, 2, 40, 2**30, 50.0, 3.0, 10**6, 10**5)
    assert found.on(1).seconds == 3 + 2 * 1000 / 50
    assert found.on(8).seconds == 3 + 2 * 1000 / 50 / 8
    assert found.on(3).images == 334
    assert found.on(3).disk == 1_100_000
    with pytest.raises(SurveyError, match="at least one machine"):
        found.on(0)


def test_it_says_what_the_survey_then_takes(clip: LensModel, pictures: Path, tmp_path: Path) -> None:
    source, layers, top = open_source(pictures), [0, 1], 5
    plan = make_plan(clip, layers, len(source.ids), top, 8)
    found = estimate(clip, source, plan, top, batch_size=8)
    assert (found.images, found.passes, found.capacity) == (40, 1, 10)
    assert found.memory == plan.bytes
    assert found.rate > 0
    atlas = sl.survey(clip, pictures, tmp_path / "atlas", layers=layers, top=top, batch_size=8)
    for layer in layers:
        size = (atlas.folder / f"layer-{layer:02d}.safetensors").stat().st_size
        # The rest is the file's header, some 100 bytes a tensor.
        assert 0 <= size - layer_bytes(clip, layer, top) < 2500
    kept = sum(path.stat().st_size for path in atlas.folder.iterdir())
    # Headers, and what compression saves: much in an atlas of 40 images.
    assert 0.7 * kept < found.atlas < 1.3 * kept


def test_a_checkpoint_is_as_large_as_it_says(clip: LensModel, pictures: Path, tmp_path: Path,
                                             monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    from secondlens.surveys.checkpoint import Checkpoints

    sizes = []
    save = Checkpoints.save

    def measured(self: Checkpoints, progress: object, state: dict) -> None:
        sizes.append(sum(tensor.numel() * tensor.element_size() for tensor in state.values()))
        save(self, progress, state)  # type: ignore[arg-type]

    monkeypatch.setattr(Checkpoints, "due", lambda self: True)
    monkeypatch.setattr(Checkpoints, "save", measured)
    sl.survey(clip, pictures, tmp_path / "atlas", layers=[0], top=5, batch_size=8)
    expected = state_bytes(clip, 0, 10)
    # Five re-centrings make five of the bounds of evicted norms; three scalars say where the statistics stand.
    unused = clip.neurons * (ENTRIES - 5) * (4 * len(paths_of(clip.tower, 0)) + 8)
    assert 0.8 * (expected - unused) < max(sizes) <= expected + 17


@pytest.mark.parametrize("command", [["survey"], ["cluster", "survey"]])
def test_a_dry_run_writes_nothing(
    clip: LensModel, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], command: list[str],
) -> None:  # fmt: skip
    out = tmp_path / "atlas"
    arguments = ["secondlens", *command, clip.reference, str(pictures), "--out", str(out), "--top", "5"]
    arguments += ["--batch-size", "8", "--dry-run", "--machines", "4"]
    for extra in (["--json"], []):
        monkeypatch.setattr(sys, "argv", [*arguments, *extra])
        with pytest.raises(SystemExit) as ended:
            app.main()
        assert ended.value.code in (0, None)
        said = capsys.readouterr().out
        if extra:
            facts = json.loads(said)
            assert [line["machines"] for line in facts["machines"]] == [1, 4]
            one, four = (line["seconds"] - facts["start"] for line in facts["machines"])
            assert one == pytest.approx(4 * four)
            assert facts["images"] == 40
        else:
            assert "images/s" in said
            assert "machines" in said
    assert not out.exists()


def test_few_images_and_bad_ones(clip: LensModel, pictures: Path, tmp_path: Path) -> None:
    source = open_source(pictures)
    plan = make_plan(clip, [0], 40, 5, 32)
    assert estimate(clip, source, plan, 5, batch_size=32, thumbnails=False).rate > 0
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "bad.png").write_text("x")
    with pytest.raises(SurveyError, match="none of the 1 images that were tried"):
        estimate(clip, open_source(folder), make_plan(clip, [0], 1, 1, 8), 1, batch_size=8)


def test_amounts_for_people() -> None:
    assert [duration(seconds) for seconds in (5.0, 300.0, 86_400.0)] == ["5 s", "5 min", "24.0 h"]
    assert gib(2**30) == "1.0 GiB"
    assert gib(2**20) == "1.0 MiB"
