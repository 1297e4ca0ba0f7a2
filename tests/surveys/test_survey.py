"""Surveys end to end: exactness, resumption, bad input, and the atlas that comes out."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import secondlens as sl
from secondlens.atlas.manifest import MANIFEST
from secondlens.errors import AtlasError, ImageError, ModelError, SurveyError
from secondlens.lens import LensModel
from secondlens.surveys.plan import available_memory, make_plan, parse_memory


def pixels_of(model: LensModel, pictures: Path) -> torch.Tensor:
    return model.preprocess([Image.open(path).convert("RGB") for path in sorted(pictures.iterdir())])


def layer_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != MANIFEST}


def test_atlas_equals_the_dense_computation(model: LensModel, pictures: Path, tmp_path: Path) -> None:
    layer, top = 0, 7
    atlas = sl.survey(model, pictures, tmp_path / "atlas", layers=[layer], top=top, batch_size=6)
    assert atlas.image_ids == [f"picture-{number:02d}.png" for number in range(40)]
    phi = sl.second_order_effects(model, pixels_of(model, pictures), layer).dense().double()
    centred = (phi - phi.mean(dim=0)).transpose(0, 1)
    norms, order = centred.norm(dim=2).topk(top, dim=1)
    opened = atlas.layer(layer)
    torch.testing.assert_close(opened.mean_effects.double(), phi.mean(dim=0), rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(opened.top_norms.double(), norms, rtol=1e-5, atol=1e-8)
    expected = np.array(atlas.image_ids, dtype=object)[order.numpy()]
    # Images may change places only where their norms agree to float32.
    same = opened.top_images == expected
    assert same.mean() > 0.98
    rows = centred.gather(1, order[:, :, None].expand(-1, -1, centred.shape[2]))
    _, s, vh = torch.linalg.svd(rows, full_matrices=False)
    torch.testing.assert_close(
        opened.explained_variance.double(), (s[:, 0] ** 2 / s.square().sum(dim=1)), rtol=1e-4, atol=1e-5
    )
    clear = s[:, 1] < 0.9 * s[:, 0]
    cosine = (opened.directions.double() * vh[:, 0]).sum(dim=1).abs()
    assert float(cosine[clear].min()) > 1 - 1e-6
    projections = torch.einsum("nte,ne->nt", rows, opened.directions.double())
    assert bool((projections.sum(dim=1) >= -1e-5 * projections.abs().sum(dim=1)).all())
    torch.testing.assert_close(opened.top_projections.double()[clear], projections[clear], rtol=1e-3, atol=1e-5)
    assert atlas.check() == []


def test_order_batches_workers_and_memory_do_not_matter(clip: LensModel, pictures: Path, tmp_path: Path) -> None:
    one = sl.survey(clip, pictures, tmp_path / "one", top=5, batch_size=40)
    shuffled = [path for path in sorted(pictures.iterdir(), key=lambda path: path.name[::-1])]
    two = sl.survey(clip, shuffled, tmp_path / "two", top=5, batch_size=7, workers=2)
    few = make_plan(clip, [0, 1, 2], 40, 5, 7).bytes - 1
    three = sl.survey(clip, pictures, tmp_path / "three", top=5, batch_size=7, memory=few)
    for other in (two, three):
        for layer in (0, 1, 2):
            for name in ("top_norms", "mean_effects", "explained_variance", "variance"):
                ours, theirs = getattr(one.layer(layer), name), getattr(other.layer(layer), name)
                torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7, msg=lambda m, n=name: f"{n}: {m}")
    names = np.vectorize(lambda path: Path(path).name)
    assert (names(two.layer(1).top_images) == one.layer(1).top_images).mean() > 0.98


def test_photographs_sorted_by_class_stay_exact(clip: LensModel, tmp_path: Path) -> None:
    """A small capacity and a source of two very different halves."""
    folder = tmp_path / "sorted"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for number in range(60):
        shape, high = ((2, 2, 3), 60) if number < 30 else ((8, 8, 3), 256)
        coarse = Image.fromarray(rng.integers(0, high, shape, dtype=np.uint8))
        coarse.resize((64, 64), Image.Resampling.NEAREST).save(folder / f"{number:02d}.png")
    atlas = sl.survey(clip, folder, tmp_path / "atlas", layers=[0], top=12, batch_size=8)
    phi = sl.second_order_effects(clip, pixels_of(clip, folder), 0).dense().double()
    norms = (phi - phi.mean(dim=0)).norm(dim=2).topk(12, dim=0).values.T
    torch.testing.assert_close(atlas.layer(0).top_norms.double(), norms, rtol=1e-5, atol=1e-8)


KILLED = """
import sys, os, signal
import secondlens as sl
from secondlens.surveys import checkpoint
checkpoint.INTERVAL = checkpoint.SHARE = 0
checkpoint.Checkpoints.due = lambda self: True
stop, seen = int(sys.argv[4]), 0
save = checkpoint.Checkpoints.save
def counted(self, progress, state):
    global seen
    save(self, progress, state)
    seen += 1
    if seen == stop:
        os.kill(os.getpid(), signal.SIGKILL)
checkpoint.Checkpoints.save = counted
sl.survey(sys.argv[1], sys.argv[2], sys.argv[3], layers=[0, 1], top=3, batch_size=4)
"""


@pytest.mark.parametrize("stop", [1, 4, 9, 11])
def test_a_killed_survey_resumes_bit_by_bit(clip: LensModel, pictures: Path, tmp_path: Path, stop: int) -> None:
    whole = sl.survey(clip, pictures, tmp_path / "whole", layers=[0, 1], top=3, batch_size=4)
    folder = tmp_path / "killed"
    arguments = [clip.reference, str(pictures), str(folder), str(stop)]
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (folder / MANIFEST).exists()
    with pytest.raises(AtlasError, match="unfinished survey"):
        sl.Atlas.open(folder)
    (folder / "progress" / "left-over-of-a-kill.partial").write_text("x")
    again = sl.survey(clip, pictures, folder, layers=[0, 1], top=3, batch_size=4)
    assert layer_bytes(folder) == layer_bytes(tmp_path / "whole")
    assert again.manifest.files == whole.manifest.files
    assert not (folder / "progress").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_keeps_what_was_done(clip: LensModel, pictures: Path, tmp_path: Path, number: int) -> None:
    whole = sl.survey(clip, pictures, tmp_path / "whole", layers=[0], top=3, batch_size=1)
    command = [sys.executable, "-c", INTERRUPTED, str(int(number)), "survey", clip.reference, str(pictures)]
    command += ["--out", str(tmp_path / "atlas"), "--layers", "0", "--top", "3", "--batch-size", "1"]
    stopped = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert stopped.returncode == 130, stopped.stderr
    assert "the same command goes on from there" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    progress = json.loads((tmp_path / "atlas" / "progress" / "progress.json").read_text())
    assert progress["batch"] == 5
    atlas = sl.survey(clip, pictures, tmp_path / "atlas", layers=[0], top=3, batch_size=1)
    assert atlas.manifest.files == whole.manifest.files


# The signal comes in the middle of the fifth batch.
INTERRUPTED = """
import os, sys
from secondlens.surveys import stream
from secondlens.cli import app
number, sys.argv = int(sys.argv[1]), ["secondlens", *sys.argv[2:]]
update, seen = stream.update, 0
def counted(*arguments):
    global seen
    seen += 1
    if seen == 5:
        os.kill(os.getpid(), number)
    return update(*arguments)
stream.update = counted
app.main()
"""


def test_changed_settings_are_refused(clip: LensModel, pictures: Path, tmp_path: Path) -> None:
    sl.survey(clip, pictures, tmp_path / "atlas", layers=[0], top=3)
    before = layer_bytes(tmp_path / "atlas")
    assert sl.survey(clip, pictures, tmp_path / "atlas", layers=[0], top=3).layers == [0]
    with pytest.raises(SurveyError, match=r"atlas of other settings: top was 3, now 4"):
        sl.survey(clip, pictures, tmp_path / "atlas", layers=[0], top=4)
    (pictures / "picture-99.png").write_bytes((pictures / "picture-00.png").read_bytes())
    with pytest.raises(SurveyError, match="images was"):
        sl.survey(clip, pictures, tmp_path / "atlas", layers=[0], top=3)
    assert layer_bytes(tmp_path / "atlas") == before


def test_unreadable_images_are_skipped_and_listed(clip: LensModel, pictures: Path, tmp_path: Path) -> None:
    good = sl.survey(clip, pictures, tmp_path / "good", layers=[0], top=3, batch_size=8)
    (pictures / "a-empty.jpg").write_bytes(b"")
    (pictures / "m-text.png").write_text("no picture")
    whole = (pictures / "picture-00.png").read_bytes()
    (pictures / "z-cut.png").write_bytes(whole[: len(whole) // 2])
    Image.new("CMYK", (40, 40)).save(pictures / "picture-05b.jpg")
    atlas = sl.survey(clip, pictures, tmp_path / "bad", layers=[0], top=3, batch_size=8)
    assert atlas.image_ids == good.image_ids
    reasons = {skipped.id: skipped.reason for skipped in atlas.skipped}
    assert set(reasons) == {"a-empty.jpg", "m-text.png", "z-cut.png", "picture-05b.jpg"}
    assert reasons["a-empty.jpg"].startswith("empty file")
    assert reasons["picture-05b.jpg"].startswith("CMYK")
    assert atlas.manifest.images.count == 40
    assert atlas.manifest.images.skipped == 4
    assert (atlas.layer(0).top_images == good.layer(0).top_images).mean() > 0.98
    assert set(np.unique(atlas.layer(0).top_images)) <= set(atlas.image_ids)


def test_image_embeddings_are_the_models_own(clip: LensModel, pictures: Path, tmp_path: Path) -> None:
    expected = torch.nn.functional.normalize(clip.encode_images(pixels_of(clip, pictures)), dim=1)
    for position in (0, 20, 42):
        (pictures / f"{'a' if position == 0 else f'picture-{position - 1:02d}'}-broken.png").write_text("no picture")
    atlas = sl.survey(clip, pictures, tmp_path / "atlas", layers=[0, 1], top=3, batch_size=7)
    skipped = [row for row, image in enumerate(atlas.source_ids) if image.endswith("broken.png")]
    assert len(skipped) == 3
    found = atlas.image_embeddings
    assert found.shape == (43, clip.embed_dim)
    assert (found[skipped] == 0).all()
    kept = [row for row in range(43) if row not in skipped]
    # Half precision has eleven bits.
    torch.testing.assert_close(found[kept], expected, rtol=2**-11, atol=1e-6)
    assert torch.equal(found, found.half().float())


def test_impossible_surveys(clip: LensModel, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "atlas"
    with pytest.raises(SurveyError, match="top is 41, but there are only 40 images"):
        sl.survey(clip, pictures, out, top=41)
    with pytest.raises(sl.SecondLensError, match="layer 3 has no second-order effects"):
        sl.survey(clip, pictures, out, layers=[2, 3], top=5)
    with pytest.raises(SurveyError, match="each once"):
        sl.survey(clip, pictures, out, layers=[1, 1], top=5)
    with pytest.raises(SurveyError, match=r"needs about .* GiB of memory per layer"):
        sl.survey(clip, pictures, out, top=5, memory=2**20)
    with pytest.raises(ModelError):
        sl.survey("hf:/no/such", pictures, out)
    with pytest.raises(ImageError):
        sl.survey(clip, [pictures / "picture-00.png"] * 2, out, top=1)
    empty = tmp_path / "unreadable"
    empty.mkdir()
    for number in range(3):
        (empty / f"{number}.png").write_text("no picture")
    with pytest.raises(SurveyError, match="none of the 3 images could be read"):
        sl.survey(clip, empty, out, top=2)
    assert not (out / MANIFEST).exists()
    shutil.copy(pictures / "picture-00.png", empty / "good.png")
    with pytest.raises(SurveyError, match="only 1 of 4 images could be read"):
        sl.survey(clip, empty, tmp_path / "few", top=2)


def test_a_full_disk_is_one_clear_error(clip: LensModel, pictures: Path, tmp_path: Path) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", mount], capture_output=True)
    if mounted.returncode:
        pytest.skip("cannot mount a small file system here")
    try:
        with pytest.raises(AtlasError, match="no space left on the disk"):
            sl.survey(clip, pictures, mount / "atlas", layers=[0, 1], top=20, batch_size=8)
        assert not list((mount / "atlas").glob("*.partial"))
        subprocess.run(["mount", "-o", "remount,size=16m", mount], check=True)
        atlas = sl.survey(clip, pictures, mount / "atlas", layers=[0, 1], top=20, batch_size=8)
        assert atlas.check() == []
    finally:
        # Lazily: on a busy machine a page may still be on its way to it.
        subprocess.run(["umount", "-l", mount], check=True)


def test_damaged_atlases_are_found(
    own_clip: LensModel, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "atlas"
    atlas = sl.survey(own_clip, pictures, folder, layers=[0], top=3)
    atlas.require_model(own_clip)
    with torch.no_grad():
        own_clip.tower.mlps[0].project.weight[0, 0] += 1
    changed = sl.load_model(own_clip.reference)
    with torch.no_grad():
        changed.tower.mlps[0].project.weight[0, 0] += 1
    with pytest.raises(AtlasError, match="not of"):
        atlas.require_model(changed)
    with pytest.raises(AtlasError, match="layer 2 is not in this atlas; it has layers 0"):
        atlas.layer(2)
    with pytest.raises(AtlasError, match="neurons 0 to 47"):
        atlas.layer(0).row("directions", 48)
    with pytest.raises(AttributeError, match="no attribute 'direction'") as unknown:
        _ = atlas.layer(0).direction
    sys.__excepthook__(unknown.type, unknown.value, unknown.tb)
    assert "Did you mean: 'directions'?" in capsys.readouterr().err
    file = folder / "layer-00.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert sl.Atlas.open(folder).check() == ["layer-00.safetensors has changed since the survey wrote it"]
    file.unlink()
    assert sl.Atlas.open(folder).check() == ["layer-00.safetensors is missing"]
    manifest = json.loads((folder / MANIFEST).read_text())
    for content, message in (
        ({**manifest, "schema_version": 99}, "schema version 99, this secondlens reads version 2"),
        ({**manifest, "top": "many"}, "does not fit the schema at top"),
        ([], "schema version None"),
    ):
        (folder / MANIFEST).write_text(json.dumps(content))
        with pytest.raises(AtlasError, match=message):
            sl.Atlas.open(folder)
    with pytest.raises(AtlasError, match="is no atlas"):
        sl.Atlas.open(pictures)
    with pytest.raises(AtlasError, match="no such atlas folder"):
        sl.Atlas.open(tmp_path / "nowhere")


def test_amounts_of_memory() -> None:
    assert parse_memory("4GB") == parse_memory("4 GiB") == parse_memory("4g") == 4 * 2**30
    assert parse_memory("1.5M") == 1.5 * 2**20
    assert parse_memory("1000") == 1000
    for wrong in ("much", "4XB", ""):
        with pytest.raises(SurveyError, match="amount of memory"):
            parse_memory(wrong)


@pytest.mark.skipif(not Path("/proc/meminfo").is_file(), reason="the kernel of this system does not say")
def test_memory_that_caches_would_give_back_is_available() -> None:
    said = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    kib = {name: int(amount.split()[0]) for name, amount in said.items()}
    found = available_memory() / 1024
    # It changes between two looks, by far less than a quarter.
    assert abs(found - kib["MemAvailable"]) < kib["MemTotal"] / 4
    assert 0 < found <= kib["MemTotal"]


@pytest.mark.skipif(os.cpu_count() == 1, reason="needs two cores")
def test_the_real_vit_on_photographs(shared: Path, tmp_path: Path) -> None:
    """A handful of real photographs through the real model, against the dense computation."""
    model = sl.load_model(f"hf:{shared / 'models' / 'vit-tiny-imagenet'}")
    files = sorted((shared / "photos" / "nips17" / "images").iterdir())[:48]
    atlas = sl.survey(model, files, tmp_path / "atlas", layers=[9], top=10, workers=2)
    pixels = model.preprocess([Image.open(path).convert("RGB") for path in files])
    fx = sl.second_order_effects(model, pixels, 9)
    norms = fx.norms(fx.coefficients.mean(dim=0)).topk(10, dim=0).values.T
    torch.testing.assert_close(atlas.layer(9).top_norms, norms, rtol=1e-4, atol=1e-7)
