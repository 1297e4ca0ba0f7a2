"""From pictures to maps on their pixels: sizes, windows, files, and the command."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from secondlens.analysis.heatmaps import HeatMapper, fit_image, heat_map, normalise, refine, segment, upsample
from secondlens.analysis.heatmaps.fit import assemble
from secondlens.cli.app import app
from secondlens.errors import ImageError, ModelError, SecondLensError
from secondlens.lens import LensModel
from secondlens.viewer.reports.segmented import write_segmentation


@pytest.fixture
def labelled(vit: LensModel) -> LensModel:
    """A ViT classifier: cat, dog, crane, fire truck."""
    return vit


def picture(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def test_a_squashed_image_is_preprocessed_without_the_crop(labelled: LensModel) -> None:
    image = picture(64, 64)
    # Of the model's own size nothing is cropped: the model's own preprocessing is the oracle. One grey level of 255 in
    # pixels of standard deviation 0.5 is 0.008.
    difference = (fit_image(labelled, image).pixels - labelled.preprocess([image])).abs().max()
    assert float(difference) < 1e-5
    assert fit_image(labelled, picture(100, 30)).pixels.shape == (1, 3, 64, 64)


def test_aspect_keeps_the_shape_in_whole_patches(labelled: LensModel) -> None:
    assert fit_image(labelled, picture(200, 100), "aspect").pixels.shape == (1, 3, 64, 128)
    found = heat_map(labelled, picture(200, 100), ["dog"], fit="aspect")
    assert found.maps.shape == found.normalised.shape == (1, 100, 200)
    with pytest.raises(ImageError, match="too long"):
        fit_image(labelled, picture(6400, 64), "aspect")


def test_windows_cover_the_image_and_agree_with_themselves(labelled: LensModel) -> None:
    fitted = fit_image(labelled, picture(210, 64), "windows", overlap=0.5)
    assert fitted.size == (64, 210)
    assert fitted.corners[0] == (0, 0)
    assert fitted.corners[-1] == (0, 210 - 64)
    steps = np.diff([left for _, left in fitted.corners])
    assert 0 < steps.min() <= steps.max() <= 32
    # What each window says of its own pixels comes back: windows of one picture agree, so the mean is that picture.
    assert torch.allclose(assemble(fitted, fitted.pixels)[:, :, 100], to_column(labelled, 100), atol=1e-5)
    square = picture(64, 64)
    plain, windows = (heat_map(labelled, square, ["dog"], fit=fit).maps for fit in ("squash", "windows"))
    assert torch.equal(plain, windows)


def to_column(model: LensModel, column: int) -> torch.Tensor:
    from secondlens.analysis.heatmaps.fit import to_pixels

    return to_pixels(model, picture(210, 64), (64, 210))[:, :, column]


def test_normalise_upsample_segment() -> None:
    maps = torch.tensor([[[-2.0, 0.0], [2.0, 1.0]], [[3.0, 3.0], [3.0, 3.0]]])
    assert normalise(maps).tolist() == [[[0.0, 0.5], [1.0, 0.75]], [[0.0, 0.0], [0.0, 0.0]]]
    # Halfway between two pixel centres lies their mean: pixels 1 and 2 of four are a quarter off each.
    assert upsample(torch.tensor([[0.0, 1.0]]), (1, 4)).tolist() == [[0.0, 0.25, 0.75, 1.0]]
    masks, classes = segment(torch.tensor([[[0.9, 0.6, 0.5]], [[0.2, 0.8, 0.1]]]))
    assert masks.tolist() == [[[True, True, False]], [[False, True, False]]]
    assert classes.tolist() == [[0, 1, -1]]
    # By strength the second text wins everywhere; where its own mask is empty is background.
    strong = torch.stack([torch.zeros(1, 3), torch.ones(1, 3)])
    assert segment(torch.tensor([[[0.9, 0.6, 0.5]], [[0.2, 0.8, 0.1]]]), 0.5, strong)[1].tolist() == [[-1, 1, -1]]


def test_refinement_moves_an_edge_to_the_images() -> None:
    pytest.importorskip("kornia")
    image = torch.zeros(3, 64, 64)
    image[:, :, 30:] = 1.0
    blurred = torch.linspace(0, 1, 64).expand(1, 64, 64)
    found = refine(blurred, image)
    jump = (found[0, 32, 30] - found[0, 32, 29]) / (blurred[0, 32, 30] - blurred[0, 32, 29])
    assert float(jump) > 3
    assert torch.allclose(refine(torch.full((1, 64, 64), 0.3), image), torch.tensor(0.3), atol=1e-5)


def test_predicted_is_the_classifiers_own_class(labelled: LensModel) -> None:
    image = picture(64, 64)
    found = heat_map(labelled, image)
    with torch.no_grad():
        logits = labelled.module(fit_image(labelled, image).pixels).logits
    assert found.texts == (labelled.classifier.labels[int(logits.argmax())],)
    named = heat_map(labelled, image, [found.texts[0].split(",")[0]])
    assert torch.equal(named.maps, found.maps)


def test_written_files_hold_the_maps(labelled: LensModel, tmp_path: Path) -> None:
    image = picture(90, 70)
    found = HeatMapper(labelled, texts=["dog", "crane"])(image)
    row = write_segmentation(image, "a", found, tmp_path / "new" / "a.png").row()
    arrays = np.load(row["files"]["arrays"], allow_pickle=False)
    assert np.array_equal(arrays["heat"], found.normalised.numpy())
    assert arrays["texts"].tolist() == ["dog", "crane"]
    mask = np.asarray(Image.open(row["files"]["mask"]))
    assert np.array_equal(mask, arrays["classes"] + 1)
    grey = np.asarray(Image.open(row["files"]["heat"][1]))
    assert np.abs(grey / 255 - arrays["heat"][1]).max() <= 0.5 / 255 + 1e-6
    assert row["texts"][0]["area"] == pytest.approx((arrays["heat"][0] > 0.5).mean())
    assert sum(text["wins"] for text in row["texts"]) == pytest.approx((mask > 0).mean())
    assert Image.open(row["files"]["overlay"]).width == 3 * 90


def test_refusals(labelled: LensModel, clip: LensModel, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no label 'cran'"):
        HeatMapper(labelled, texts=["cran"])
    with pytest.raises(SecondLensError, match="predicts no labels"):
        HeatMapper(clip)
    with pytest.raises(SecondLensError, match="at least one text"):
        HeatMapper(labelled, texts=[])
    with pytest.raises(SecondLensError, match="overlap from 0"):
        fit_image(labelled, picture(90, 64), "windows", overlap=1.0)
    found = heat_map(labelled, picture(64, 64))
    with pytest.raises(SecondLensError, match=r"ends in \.png"):
        write_segmentation(picture(64, 64), "a", found, tmp_path / "a.jpg")
    with pytest.raises(SecondLensError, match="threshold from 0"):
        write_segmentation(picture(64, 64), "a", found, tmp_path / "a.png", threshold=1.0)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


def test_the_command(labelled: LensModel, pictures: Path, tmp_path: Path) -> None:
    import secondlens as sl

    for path in sorted(pictures.iterdir())[3:]:
        path.unlink()
    sl.survey(labelled, pictures, out=tmp_path / "atlas", layers=[1, 2], top=2)
    (pictures / "broken.png").write_text("no picture")
    start = ("segment", labelled.reference, tmp_path / "atlas")
    one = run(*start, pictures / "picture-00.png", "--text", "dog", "--out", tmp_path / "one.png", "--json")
    assert one.exit_code == 0, one.exception
    facts = json.loads(one.stdout)
    assert facts["texts"][0]["text"] == "dog"
    assert Path(facts["files"]["overlay"]).is_file()
    several = run(*start, pictures, "--out", tmp_path / "many", "--method", "activation", "--fit", "windows", "--json")
    assert several.exit_code == 0, several.exception
    facts = json.loads(several.stdout)
    assert len(facts["images"]) == 3
    assert facts["skipped"][0]["image"] == "broken.png"
    assert "segmenting" in several.stderr
    wrong = run(*start, pictures / "picture-00.png", "--out", tmp_path / "b.png", "--rule", "papr")
    assert isinstance(wrong.exception, SecondLensError)
    assert "did you mean 'paper'?" in str(wrong.exception)
