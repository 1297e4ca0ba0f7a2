"""The harness end to end on small random models: one pass, resuming, targets, refusals, the report and the command."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

import secondlens as sl
from commands import Result
from secondlens.analysis.heatmaps import METHODS, Options, SharedPass, make_methods
from secondlens.analysis.heatmaps.fit import fit_images
from secondlens.analysis.heatmaps.postprocess import upsample
from secondlens.analysis.segmentation.evaluate import Plan, evaluate_segmentation, repr_of
from secondlens.analysis.segmentation.metrics import Scores, metrics, score_map
from secondlens.analysis.segmentation.summary import summary
from secondlens.analysis.segmentation.targets import make_targets
from secondlens.analysis.segmentation.views import View, fit_mask, pixel_maps, views_of
from secondlens.data.masks import MaskedImages, read_pairs
from secondlens.errors import ImageError, SecondLensError
from secondlens.lens import LensModel

NAMES = ["dog", "cat", "crane", "no such thing", ""]


class Oracle:
    """A method that sees the mask, drawn in the picture's red channel."""

    name = "oracle"
    layers = ()
    direct = False
    depths = MappingProxyType({})

    def maps(
        self, shared: SharedPass, targets: Float[Tensor, "image target embed"]
    ) -> Float[Tensor, "image target row column"]:
        grid = torch.nn.functional.interpolate(shared.pixels[:, :1], shared.grid, mode="area")
        return grid.expand(-1, targets.shape[1], -1, -1)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Nine pictures with a red square; the tenth has a mask of another size, the eleventh an empty one."""
    rng = np.random.default_rng(0)
    with (tmp_path / "pairs.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "mask", "name"])
        for number in range(11):
            mask = np.zeros((64, 96), bool)
            top, left = rng.integers(0, 2, 2) * 32
            mask[top : top + 32, left : left + 48] = number != 10
            picture = rng.integers(0, 60, (64, 96, 3), dtype=np.uint8)
            picture[mask, 0] = 250
            Image.fromarray(picture).save(tmp_path / f"{number}.png")
            Image.fromarray(mask[:, : 96 - 8 * (number == 9)]).save(tmp_path / f"{number}-mask.png")
            writer.writerow([f"{number}.png", f"{number}-mask.png", NAMES[number % 5]])
    return tmp_path / "pairs.csv"


def test_a_method_that_sees_the_mask_wins(vit: LensModel, table: Path) -> None:
    images = read_pairs(table)
    methods = [Oracle(), *make_methods(vit, ["raw-attention", "contribution"])]
    found = evaluate_segmentation(vit, images, methods, make_targets(vit, images), Plan(batch_size=4))
    figures = {name: metrics(scores) for name, scores in found.scores.items()}
    # The patch grid of a squeezed picture has four columns: the square's edges lie on it, up to interpolation.
    assert figures["oracle"]["map_foreground"] > 0.95
    assert figures["oracle"]["map"] > max(figures["raw-attention"]["map"], figures["contribution"]["map"]) + 0.1
    assert found.counted == {"images": 10, "skipped": 1, "without_foreground": 1, "constant_maps": 0}
    assert found.skipped == [{"id": "9.png", "reason": "the mask is 88 x 64 pixels, the image 96 x 64"}]


def test_scores_are_those_of_each_method_alone(vit: LensModel, table: Path) -> None:
    """Batches and sharing change nothing: against one image and one method at a time."""
    images = read_pairs(table)
    targets = make_targets(vit, images)
    methods = make_methods(vit)
    found = evaluate_segmentation(vit, images, methods, targets, Plan(batch_size=3, limit=5))
    for method in methods:
        parts = []
        for position in range(5):
            item = images.read(position)
            shared = SharedPass.of(vit, fit_images(vit, [item.image]), [method])
            logits = vit.module(pixel_values=shared.pixels).logits[0]
            assert vit.classifier is not None
            row = int(logits.argmax())
            assert found.done.images[position]["target"] == vit.classifier.labels[row]
            target = torch.nn.functional.normalize(vit.classifier.weight()[row], dim=0)
            heat = upsample(method.maps(shared, target[None, None]).detach(), (64, 64))[0, 0]
            parts.append(score_map(position, heat.numpy(), *fit_mask(item, (64, 64), "model")))
        # A pixel within float32's error of a threshold may change sides.
        alone = metrics(Scores.merge(parts))
        together = metrics(found.scores[method.name])
        for figure in ("pixel_accuracy", "miou", "map"):
            assert together[figure] == pytest.approx(alone[figure], abs=2e-3), (method.name, figure)


def test_every_registered_method_is_evaluated_on_every_family(
    model: LensModel, table: Path, tmp_path: Path, pictures: Path
) -> None:
    images = read_pairs(table)
    # No tokenizer in these folders: a set of vectors stands for the classes.
    targets = make_targets(model, images) if model.classifier is not None else replace_targets(model)
    methods = make_methods(model)
    found = evaluate_segmentation(model, images, methods, targets, Plan(limit=2))
    assert set(found.scores) == {method.name for method in methods} <= set(METHODS)
    assert all(len(scores) == 2 for scores in found.scores.values())


def replace_targets(model: LensModel):
    from secondlens.analysis.segmentation.targets import Targets
    from secondlens.lens.classifier import Head

    vectors = torch.nn.functional.normalize(
        torch.randn(3, model.embed_dim, generator=torch.Generator().manual_seed(0)), dim=1
    )
    return Targets("predicted", ["a", "b", "c"], vectors, {}, Head(vectors, torch.zeros(3), own=False))


def test_a_killed_run_goes_on(vit: LensModel, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = read_pairs(table)
    methods, targets, plan = make_methods(vit, ["raw-attention"]), make_targets(vit, images), Plan(batch_size=4)
    whole = evaluate_segmentation(vit, images, methods, targets, plan)
    read: list[int] = []

    def dying(index: int):
        read.append(index)
        if len(read) == 6:
            raise KeyboardInterrupt
        return images.read(index)

    with pytest.raises(KeyboardInterrupt):
        evaluate_segmentation(vit, replace(images, read=dying), methods, targets, plan, tmp_path / "out")
    resumed = evaluate_segmentation(vit, replace(images, read=dying), methods, targets, plan, tmp_path / "out")
    # The first batch is not read again, the second is.
    assert read == [0, 1, 2, 3, 4, 5, 4, 5, 6, 7, 8, 9, 10]
    assert resumed.done.images == whole.done.images
    for name in vars(whole.scores["raw-attention"]):
        np.testing.assert_array_equal(
            getattr(resumed.scores["raw-attention"], name), getattr(whole.scores["raw-attention"], name)
        )
    with pytest.raises(SecondLensError, match="other settings: views was"):
        evaluate_segmentation(vit, images, methods, targets, replace(plan, views=2), tmp_path / "out")


def test_targets(vit: LensModel, worded: LensModel, table: Path) -> None:
    images = read_pairs(table)
    assert make_targets(vit, images).kind == "predicted"
    named = make_targets(vit, images, "name")
    found = evaluate_segmentation(vit, images, make_methods(vit, ["raw-attention"]), named)
    assert found.counted["skipped"] == 4
    reasons = {row["id"]: row["reason"] for row in found.skipped}
    assert "no label 'no such thing'" in reasons["3.png"]
    assert reasons["4.png"] == "no name"
    assert [row["target"] for row in found.done.images][:3] == ["dog", "cat", "crane"]
    assert set(found.rows_of("name")) == {"dog", "cat", "crane"}
    all_named = replace(images, names=("bat",) * len(images))
    assert make_targets(worded, all_named).kind == "name"
    for model, some, kind, message in (
        (vit, images, "nmae", "did you mean 'name'"),
        (vit, replace(images, names=(None,) * 11), "name", "none has one"),
        (vit, all_named, "name", "knows none"),
        (worded, all_named, "predicted", "two classes or more"),
    ):
        with pytest.raises(SecondLensError, match=message):
            make_targets(model, some, kind)


def test_at_the_images_own_size(vit: LensModel, table: Path) -> None:
    images = read_pairs(table)
    found = evaluate_segmentation(vit, images, [Oracle()], make_targets(vit, images), Plan("image", limit=3))
    assert found.scores["oracle"].foreground.sum() + found.scores["oracle"].background.sum() == 3 * 64 * 96
    with pytest.raises(SecondLensError, match="did you mean 'image'"):
        Plan("imag")


def test_views_move_back(vit: LensModel) -> None:
    """Of a map that follows the picture, the mean over views is the map itself, away from the border."""
    pixels = torch.zeros(1, 3, 64, 64)
    pixels[..., 24:40, 16:32] = 1
    for view in views_of(8, 16):
        torch.testing.assert_close(view.undo(view.apply(pixels)), pixels)
    assert not torch.equal(View(8, 0).apply(pixels), pixels)
    assert not torch.equal(View(mirrored=True).apply(pixels), pixels)
    shared = SharedPass(vit, pixels)
    single, many = (
        pixel_maps(vit, [Oracle()], shared, torch.zeros(1, 1, vit.embed_dim), views_of(count, 16))["oracle"]
        for count in (1, 8)
    )
    # A square of half a patch's phase: the shifted grid sees it sharper.
    inside = pixels[:, :1] > 0
    assert many[inside].mean() - many[~inside].mean() > single[inside].mean() - single[~inside].mean()
    with pytest.raises(SecondLensError, match="1, 2 or 8"):
        views_of(3, 16)


def test_nothing_usable(vit: LensModel, table: Path) -> None:
    images = read_pairs(table)
    methods, targets = make_methods(vit, ["raw-attention"]), make_targets(vit, images)
    with pytest.raises(ImageError, match="none of 1 images can be used; the first: the mask is"):
        evaluate_segmentation(vit, images, methods, targets, Plan(first=9, limit=1))
    with pytest.raises(SecondLensError, match="first image below 11"):
        evaluate_segmentation(vit, images, methods, targets, Plan(first=11))
    with pytest.raises(SecondLensError, match="each once"):
        evaluate_segmentation(vit, images, methods * 2, targets)
    with pytest.raises(ImageError, match="at least one image"):
        MaskedImages((), (), images.read, {"location": "nowhere"})


def test_summary_has_no_nan(vit: LensModel, table: Path) -> None:
    images = read_pairs(table)
    found = evaluate_segmentation(vit, images, [Oracle()], make_targets(vit, images), Plan(first=10))
    content = summary(found, "oracle")
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert content["methods"]["oracle"]["map_foreground"] is None


def test_command(command: Callable[..., Result], vit: LensModel, table: Path, tmp_path: Path, pictures: Path) -> None:
    sl.survey(vit, pictures, tmp_path / "atlas", layers=[1, 2], top=5)
    words = ["evaluate", "segmentation", vit.reference, tmp_path / "atlas", "--pairs", table, "--out", tmp_path / "out"]
    words += ["--grid", 2, "--methods", "activation,contribution,rollout", "--reference", "activation", "--json"]
    done = command(*words)
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert list(content["methods"]) == ["activation", "contribution", "rollout"]
    for figures in content["methods"].values():
        assert {"pixel_accuracy", "miou", "map"} <= set(figures)
    assert {row["other"] for row in content["compared"]} == {"contribution", "rollout"}
    for name in ("summary.json", "report.md", "curves.png", "grid.png", "scores.parquet", "images.parquet"):
        assert (tmp_path / "out" / name).stat().st_size > 0
    report = (tmp_path / "out" / "report.md").read_text()
    assert "9.png: the mask is 88 x 64 pixels" in report


def test_settings_tell_the_choice_of_neurons(vit: LensModel, pictures: Path, tmp_path: Path) -> None:
    atlas = sl.survey(vit, pictures, tmp_path / "atlas", layers=[1, 2], top=5)
    first, second = (repr_of(make_methods(vit, ["activation"], atlas, Options(neurons=count))[0]) for count in (10, 11))
    assert first != second
    assert "(1, 2)" in first
