"""The study of ablations end to end: accuracies from dense effects, what it refuses and warns of, its files."""

import csv
import json
import sys
import types
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from scipy.stats import binom
from typer.testing import CliRunner, Result

import secondlens as sl
from secondlens.cli.app import app
from secondlens.data.labelled import classes_without_images, open_labelled
from secondlens.errors import AtlasError, ImageError, MissingExtra, SecondLensError, SurveyError, TextError
from secondlens.lens import LensModel
from secondlens.lens.classifier import make_head, read_templates
from secondlens.numerics.intervals import paired_difference
from secondlens.progress import Running
from secondlens.studies.ablation import AblationStudy, ablate, summary
from secondlens.viewer.reports.ablation import draw, write_study

NAMES = ["cat, house cat", "dog", "crane", "fire truck, crane"]
VARIANTS = {"baseline", "without_all", "without_large", "without_small", "rank_one"}


@pytest.fixture(autouse=True)
def _cache(cache: Path) -> None:
    """Pools go to an empty folder."""


def call(*arguments: object) -> Result:
    """The command in this process: starting Python and torch takes longer than the command."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def write_table(path: Path, files: list[Path], names: list[str], numbered: bool = True) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "label", "name"] if numbered else ["file", "name"])
        for number, picture in enumerate(files):
            row = number % len(names)
            writer.writerow([picture, row, names[row]] if numbered else [picture, names[row]])
    return path


@pytest.fixture
def halves(pictures: Path) -> tuple[Path, Path]:
    """Two tables of 20 pictures, to survey and to evaluate."""
    files = sorted(pictures.iterdir())
    parts = (files[:20], files[20:])
    seen, new = (write_table(pictures.parent / f"half-{n}.csv", part, NAMES) for n, part in enumerate(parts))
    return seen, new


def test_accuracies_are_those_of_the_dense_effects(vit: LensModel, halves: tuple[Path, Path], tmp_path: Path) -> None:
    atlas = sl.survey(vit, halves[0], tmp_path / "atlas", layers=[0, 1], top=6)
    images = open_labelled(halves[1], vit)
    study = ablate(vit, atlas, images, running=Running(7))
    assert sorted(study.positions.tolist()) == list(range(20))
    assert [layer.layer for layer in study.layers] == [0, 1]
    assert study.own_head
    assert study.templates == ()
    assert vit.classifier is not None
    weight, bias = vit.classifier.weight().double(), vit.classifier.bias().double()
    for found in study.layers:
        opened = atlas.layer(found.layer)
        pixels = vit.preprocess([Image.open(images.source.ids[p]).convert("RGB") for p in study.positions.tolist()])
        phi = sl.second_order_effects(vit, pixels, found.layer).dense().double()
        centred = phi - opened.mean_effects.double()
        large = (centred.norm(dim=2) >= opened.thresholds.double())[:, :, None]
        raw = vit.encode_images(pixels).double()
        unit = torch.nn.functional.normalize(raw, dim=1)
        x = torch.einsum("bne,ne->bn", centred, opened.directions.double())
        expected = {
            "baseline": unit,
            "without_all": unit - centred.sum(dim=1),
            "without_large": unit - (centred * large).sum(dim=1),
            "without_small": unit - (centred * ~large).sum(dim=1),
            "rank_one": unit - centred.sum(dim=1) + x @ opened.directions.double(),
        }
        for name, embeddings in expected.items():
            logits = (embeddings * raw.norm(dim=1, keepdim=True)) @ weight.T + bias
            assert torch.equal(found.predicted[name].long(), logits.argmax(dim=1)), name
        assert float(found.large.mean()) == pytest.approx(float(large.double().mean()))
    facts = summary(study)
    assert facts["layers"][1]["without_all"] == float(study.right(study.layers[1], "without_all").double().mean())


def same(first: AblationStudy, second: AblationStudy) -> bool:
    pairs = zip(first.layers, second.layers, strict=True)
    return torch.equal(first.positions, second.positions) and all(
        torch.equal(one.predicted[name], other.predicted[name]) for one, other in pairs for name in one.predicted
    )


def test_passes_batches_and_layers_do_not_matter(vit: LensModel, halves: tuple[Path, Path], tmp_path: Path) -> None:
    atlas = sl.survey(vit, halves[0], tmp_path / "atlas", layers=[0, 1, 2], top=6)
    images = open_labelled(halves[1], vit)
    study = ablate(vit, atlas, images)
    assert study.passes == 1
    for other in (ablate(vit, atlas, images, memory=1), ablate(vit, atlas, images, running=Running(3))):
        assert same(study, other)
    assert ablate(vit, atlas, images, memory=1).passes == 3
    alone = ablate(vit, atlas, images, layers=[1])
    assert torch.equal(alone.layers[0].predicted["rank_two"], study.layers[1].predicted["rank_two"])
    part = ablate(vit, atlas, images, limit=5)
    assert part.positions.tolist() == study.positions.tolist()[:5]


def test_an_interrupted_study_goes_on(
    vit: LensModel, halves: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the second of two passes; the images of the first are not read again, and nothing changes."""
    atlas = sl.survey(vit, halves[0], tmp_path / "atlas", layers=[0, 1], top=6)
    images, out = open_labelled(halves[1], vit), tmp_path / "out"
    whole = ablate(vit, atlas, images, running=Running(4), memory=1)
    monkeypatch.setattr("secondlens.studies.ablation_progress.INTERVAL", 0.0)

    def stop(title: str, done: int, total: int) -> None:
        if "pass 2" in title and done == 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ablate(vit, atlas, images, running=Running(4, progress=stop), memory=1, out=out)
    with pytest.raises(SurveyError, match="other settings: batch size was 4, is 5"):
        ablate(vit, atlas, images, running=Running(5), memory=1, out=out)
    seen: list[tuple[str, int]] = []
    note = Running(4, progress=lambda title, done, _: seen.append((title, done)))
    again = ablate(vit, atlas, images, running=note, memory=1, out=out)
    # The third batch was used and kept before its progress was told.
    assert seen[0] == ("images, pass 2 of 2", 12)
    assert same(whole, again)
    assert torch.equal(whole.surveyed, again.surveyed)
    for one, other in zip(whole.layers, again.layers, strict=True):
        assert list(one.predicted) == list(other.predicted)
        assert torch.equal(one.large, other.large)
    assert [path.name for path in out.iterdir()] == ["progress"]
    written = write_study(again, out)
    assert sorted(out.iterdir()) == sorted(written)


def test_surveyed_images_are_told_by_what_they_show(vit: LensModel, pictures: Path, tmp_path: Path) -> None:
    files = sorted(pictures.iterdir())
    atlas = sl.survey(vit, write_table(tmp_path / "seen.csv", files[:20], NAMES), tmp_path / "atlas", layers=[0], top=6)
    copies = []
    for number, picture in enumerate(files[10:30]):
        copies.append(tmp_path / f"other-name-{number}.png")
        copies[-1].write_bytes(picture.read_bytes())
    study = ablate(vit, atlas, open_labelled(write_table(tmp_path / "new.csv", copies, NAMES), vit))
    assert sorted(study.positions[study.surveyed].tolist()) == list(range(10))


def test_refusals(vit: LensModel, clip: LensModel, halves: tuple[Path, Path], tmp_path: Path) -> None:
    atlas = sl.survey(vit, halves[0], tmp_path / "atlas", layers=[0], top=6)
    images = open_labelled(halves[1], vit)
    with pytest.raises(AtlasError, match="is an atlas of"):
        ablate(clip, atlas, images)
    with pytest.raises(AtlasError, match="layer 2 is not in this atlas"):
        ablate(vit, atlas, images, layers=[2])
    gone = write_table(tmp_path / "gone.csv", [tmp_path / "no.png", tmp_path / "nor.png"], NAMES)
    with pytest.raises(ImageError, match="none of the 2 images"):
        ablate(vit, atlas, open_labelled(gone, vit))


def test_class_names(vit: LensModel, clip: LensModel, pictures: Path, tmp_path: Path) -> None:
    files = sorted(pictures.iterdir())
    table = write_table(tmp_path / "named.csv", files, ["dog", "boat"], numbered=False)
    given = open_labelled(table, clip, ["boat", "tree", "dog"])
    assert given.labels.tolist() == [2, 0] * 20
    assert classes_without_images(given) == ["tree"]
    with pytest.raises(
        ImageError, match=r"class 'boat', which the list of class names does not know.*did you mean 'boar'"
    ):
        open_labelled(table, clip, ["dog", "boar"])
    with pytest.raises(ImageError, match="two classes or more, each once"):
        open_labelled(table, clip, ["dog", "dog"])
    with pytest.raises(ImageError, match="a classifier with classes of its own"):
        open_labelled(table, vit, ["dog", "boat"])
    numbered = write_table(tmp_path / "numbered.csv", files, ["dog", "boat"])
    with pytest.raises(ImageError, match=r"do not go with the class names for 40 of 40 images.*label 0 is 'boat'"):
        open_labelled(numbered, clip, ["boat", "dog"])
    with pytest.raises(ImageError, match="two classes or more"):
        open_labelled(numbered, clip, ["dog"])
    many = write_table(tmp_path / "many.csv", files, ["dog", "boat", "tree"])
    with pytest.raises(ImageError, match="the label 2; the list of class names has classes 0 to 1"):
        open_labelled(many, clip, ["dog", "boat"])
    assert open_labelled(numbered, clip, ["dog", "boat", "tree"]).labels.tolist() == [0, 1] * 20


def test_templates(worded: LensModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "templates.txt"
    path.write_text("a {}\nphoto of {}\n")
    templates = read_templates(str(path))
    assert templates == ("a {}", "photo of {}")
    head = make_head(worded, ["bat", "den"], templates)
    parts = [worded.encode_texts([template.replace("{}", name) for name in ("bat", "den")]) for template in templates]
    torch.testing.assert_close(head.weight, torch.nn.functional.normalize(torch.stack(parts).mean(dim=0), dim=1))
    path.write_text("a photo\n")
    with pytest.raises(TextError, match=r"one \{\} in every template"):
        read_templates(str(path))
    with pytest.raises(TextError, match="expected templates"):
        read_templates("nothing.txt")
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(MissingExtra, match="openclip"):
        read_templates("openai-imagenet")
    fake = types.ModuleType("open_clip")
    fake.OPENAI_IMAGENET_TEMPLATES = (lambda c: f"art of the {c}.",)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "open_clip", fake)
    assert read_templates("openai-imagenet") == ("art of the {}.",)


def test_paired_difference() -> None:
    before = torch.arange(400) < 300
    after = before.clone()
    after[:30] = False
    after[300:310] = True
    found = paired_difference(before, after)
    assert (found.lost, found.gained, found.difference) == (30, 10, -0.05)
    # Twice the binomial tail.
    assert found.p_value == pytest.approx(2 * binom.cdf(10, 40, 0.5))
    # Normal approximation of a difference of paired proportions.
    deviation = ((40 - 400 * 0.05**2) ** 0.5) / 400
    assert found.low == pytest.approx(-0.05 - 1.96 * deviation, abs=3e-3)
    assert found.high == pytest.approx(-0.05 + 1.96 * deviation, abs=3e-3)
    nothing = paired_difference(before, before)
    assert (nothing.difference, nothing.low, nothing.high, nothing.p_value) == (0, 0, 0, 1)


def test_command(vit: LensModel, halves: tuple[Path, Path], tmp_path: Path) -> None:
    atlas, out = tmp_path / "atlas", tmp_path / "out"
    sl.survey(vit, halves[0], atlas, layers=[1, 2], top=5)
    command = ["ablate", vit.reference, atlas, "--workers", 0, "--json", "--images"]
    result = call(*command, halves[1], "--pool", "labels", "-m", 2, "-m", 3, "--out", out)
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert [layer["layer"] for layer in facts["layers"]] == [1, 2]
    for layer in facts["layers"]:
        assert VARIANTS | {"labels 2", "labels 3"} <= set(layer)
        for name, (low, high) in layer["intervals"].items():
            assert 0 <= low <= layer[name] <= high <= 1
        difference = layer["differences"]["without_all"]
        assert difference["difference"] == pytest.approx(layer["without_all"] - layer["baseline"])
    table = pq.read_table(out / "ablations.parquet").to_pandas()
    assert len(table) == 2 * 20
    right = (table["without_all"] == table["label"]).groupby(table["layer"]).mean()
    assert right.tolist() == pytest.approx([layer["without_all"] for layer in facts["layers"]])
    assert json.loads((out / "ablations.json").read_text())["images"] == 20
    assert Image.open(out / "ablations.png").size[0] > 800
    assert "survey saw" not in result.stderr
    again = call(*command, halves[0])
    assert "the survey saw 20 of the 20 evaluation images" in again.stderr
    # Descriptions that are long enough are used again.
    made = (atlas / "descriptions/labels/description.json").stat().st_mtime_ns
    assert call(*command, halves[1], "--pool", "labels", "-m", 2).exit_code == 0
    assert (atlas / "descriptions/labels/description.json").stat().st_mtime_ns == made
    for wrong, message in (
        ([tmp_path / "no.csv"], "no.csv"),
        ([halves[1], "--layers", "0"], "layer 0 is not in this atlas"),
        ([halves[1], "--limit", "0"], "at least one image"),
        ([halves[1], "--pool", "labels", "-m", "9"], "-m 4 or less"),
    ):
        failed = call(*command, *wrong)
        assert isinstance(failed.exception, SecondLensError)
        assert message in str(failed.exception)


def test_zero_shot_command(worded: LensModel, pictures: Path, tmp_path: Path) -> None:
    atlas = tmp_path / "atlas"
    files = sorted(pictures.iterdir())
    sl.survey(worded, write_table(tmp_path / "seen.csv", files[:20], ["bat", "den"]), atlas, layers=[0], top=5)
    table = write_table(tmp_path / "new.csv", files[20:], ["bat", "den"], numbered=False)
    (tmp_path / "classes.txt").write_text("den\nbat\nhip\n")
    (tmp_path / "templates.txt").write_text("a {}\na photo of a {}\n")
    command = ["ablate", worded.reference, atlas, "--images", table, "--workers", 0]
    options = ["--classes", tmp_path / "classes.txt", "--templates", tmp_path / "templates.txt"]
    result = call(*command, *options, "--json")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["classifier"] == "zero-shot"
    assert facts["templates"] == ["a {}", "a photo of a {}"]
    assert "1 of 3 classes have no image (first: 'hip')" in result.stderr
    pixels = worded.preprocess([Image.open(path).convert("RGB") for path in files[20:]])
    head = make_head(worded, ["den", "bat", "hip"], ("a {}", "a photo of a {}"))
    predicted = (torch.nn.functional.normalize(worded.encode_images(pixels), dim=1) @ head.weight.T).argmax(dim=1)
    expected = float((predicted == torch.tensor([1, 0] * 10)).double().mean())
    assert facts["layers"][0]["baseline"] == pytest.approx(expected)
    shown = call(*command)
    assert shown.exit_code == 0
    assert "unchanged" in shown.stdout


def test_picture_of_layers_with_different_ranks(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    layers = []
    for layer, names in ((3, ["baseline", "without_all", "rank_four", "words 4"]), (4, ["baseline", "without_all"])):
        values = {name: float(rng.uniform(0.2, 0.8)) for name in names}
        intervals = {name: [value - 0.03, value + 0.03] for name, value in values.items()}
        differences = {
            name: {"difference": value - values["baseline"], "low": value - values["baseline"] - 0.02, "high": 0.5}
            for name, value in values.items()
        }
        layers.append({"layer": layer, **values, "intervals": intervals, "differences": differences})
    draw(layers, tmp_path / "picture.png")
    assert np.asarray(Image.open(tmp_path / "picture.png").convert("L")).std() > 5
