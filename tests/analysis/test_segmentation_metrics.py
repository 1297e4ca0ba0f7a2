"""Metrics against scikit-learn on random masks, their laws, and the paired tests."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, average_precision_score, jaccard_score

from secondlens.analysis.segmentation.metrics import (
    BINS,
    Scores,
    average_precision,
    class_ious,
    mean_iou,
    metrics,
    pixel_accuracy,
    score_map,
    unit_range,
)
from secondlens.analysis.segmentation.summary import compare, with_intervals
from secondlens.errors import SecondLensError
from secondlens.numerics.intervals import holm, sign_flip_test

Case = tuple[np.ndarray, np.ndarray, np.ndarray]


def cases(count: int = 6, seed: int = 0) -> list[Case]:
    """Maps with ties (steps of 1/50), masks that agree with them a little, and some void pixels."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        heat = rng.integers(-20, 31, (12, 9)) / 50
        mask = heat + rng.normal(0, 0.4, heat.shape) > 0.2
        made.append((heat, mask, rng.random(heat.shape) > 0.15))
    return made


def test_figures_equal_scikit_learn() -> None:
    parts = [score_map(position, *case) for position, case in enumerate(cases())]
    found = metrics(Scores.merge(parts))
    truth = np.concatenate([mask[valid] for _, mask, valid in cases()])
    maps = [unit_range(heat) for heat, _, _ in cases()]
    for ending, thresholds in (
        ("", [0.5] * len(maps)),
        ("_at_mean", [float(scaled.mean(dtype=float)) for scaled in maps]),
    ):
        predicted = np.concatenate([
            (scaled > threshold)[valid]
            for scaled, threshold, (_, _, valid) in zip(maps, thresholds, cases(), strict=True)
        ])  # fmt: skip
        # Both are ratios of the same integers.
        assert found[f"pixel_accuracy{ending}"] == pytest.approx(accuracy_score(truth, predicted), abs=1e-12)
        assert found[f"miou{ending}"] == pytest.approx(jaccard_score(truth, predicted, average="macro"), abs=1e-12)
    single = [
        average_precision_score(mask[valid], scaled[valid])
        for scaled, (_, mask, valid) in zip(maps, cases(), strict=True)
    ]
    assert found["map_foreground"] == pytest.approx(np.mean(single), abs=1e-12)
    both = [
        average_precision_score(
            np.concatenate([mask[valid], ~mask[valid]]), np.concatenate([scaled[valid], 1 - scaled[valid]])
        )
        for scaled, (_, mask, valid) in zip(maps, cases(), strict=True)
    ]
    assert found["map"] == pytest.approx(np.mean(both), abs=1e-12)
    each = [
        jaccard_score(mask[valid], (scaled > 0.5)[valid], average="macro")
        for scaled, (_, mask, valid) in zip(maps, cases(), strict=True)
    ]
    assert found["miou_per_image"] == pytest.approx(np.mean(each), abs=1e-12)


def test_curve_is_exact_at_every_threshold() -> None:
    heat, mask, valid = cases(1)[0]
    # Values on the thresholds themselves: "above" must be strict.
    heat = np.round(unit_range(heat) * BINS) / BINS
    curve = score_map(0, heat, mask, valid).curve_counts()[0]
    for column in range(BINS):
        predicted = (unit_range(heat) > column / BINS)[valid]
        expected = [
            np.count_nonzero(predicted & mask[valid]),
            np.count_nonzero(predicted & ~mask[valid]),
            np.count_nonzero(~predicted & mask[valid]),
            np.count_nonzero(~predicted & ~mask[valid]),
        ]
        assert curve[column].tolist() == expected
    assert metrics(score_map(0, heat, mask, valid))["miou_best"] == np.nanmax(mean_iou(curve))


def test_merging_does_not_depend_on_order_and_refuses_repeats() -> None:
    parts = [score_map(position, *case) for position, case in enumerate(cases())]
    together = Scores.merge(parts)
    again = Scores.merge([Scores.merge(parts[4:]), Scores.empty(), Scores.merge(parts[:4][::-1])])
    for name in vars(together):
        np.testing.assert_array_equal(getattr(together, name), getattr(again, name))
    with pytest.raises(SecondLensError, match="every image once"):
        Scores.merge([parts[0], parts[0]])


def test_scale_and_offset_of_a_map_change_nothing() -> None:
    heat, mask, valid = cases(1)[0]
    # Powers of two and small integers: exact in binary.
    first, second = (
        metrics(score_map(0, np.round(heat * 64) * scale + offset, mask, valid)) for scale, offset in ((1, 0), (8, 64))
    )
    assert first == second


def test_void_pixels_count_nowhere() -> None:
    heat, mask, valid = cases(1)[0]
    assert metrics(score_map(0, heat, mask, valid)) == metrics(score_map(0, heat, mask ^ ~valid, valid))


def test_image_without_foreground() -> None:
    heat, _, valid = cases(1)[0]
    found = metrics(score_map(0, heat, np.zeros(heat.shape, bool), valid))
    assert np.isnan(found["map_foreground"])
    assert 0 < found["map"] < 1
    # The foreground is predicted though it is not there: IoU 0.
    assert found["miou"] == pytest.approx(found["pixel_accuracy"] / 2)
    nothing = metrics(score_map(0, np.zeros(heat.shape), np.zeros(heat.shape, bool), valid))
    assert nothing["miou"] == nothing["pixel_accuracy"] == 1
    both = Scores.merge([score_map(0, heat, np.zeros(heat.shape, bool), valid), score_map(1, *cases(2)[1])])
    assert metrics(both)["map_foreground"] == metrics(score_map(1, *cases(2)[1]))["map_foreground"]


def test_constant_and_broken_maps() -> None:
    heat, mask, valid = cases(1)[0]
    flat = score_map(0, np.full(heat.shape, 3.0), mask, valid)
    assert flat.constant.tolist() == [True]
    assert flat.counts()[0, :2].tolist() == [0, 0]
    with pytest.raises(SecondLensError, match="NaN"):
        score_map(0, np.full(heat.shape, np.nan), mask, valid)
    with pytest.raises(SecondLensError, match="mask's size"):
        score_map(0, heat[1:], mask, valid)


def test_no_images_give_no_figures() -> None:
    assert all(
        np.isnan(value)
        for key, value in metrics(Scores.empty()).items()
        if key not in ("threshold_best", "constant_maps")
    )


def test_random_scores_have_the_prevalence_as_average_precision() -> None:
    rng = np.random.default_rng(1)
    truth = rng.random(200_000) < 0.3
    # Standard error about 0.001.
    assert average_precision(rng.random(200_000), truth) == pytest.approx(truth.mean(), abs=0.006)
    assert average_precision(truth * 1.0, truth) == 1


def test_ratios_of_counts() -> None:
    counts = np.array([3, 1, 2, 4])
    assert pixel_accuracy(counts) == 0.7
    assert class_ious(counts).tolist() == [0.5, 4 / 7]


def methods(seed: int) -> dict[str, Scores]:
    """A good method, the same with other noise, and a worse one, on 40 images."""
    rng = np.random.default_rng(seed)
    found: dict[str, list[Scores]] = {"good": [], "equal": [], "bad": []}
    for position in range(40):
        mask = np.zeros((8, 8), bool)
        mask[2 : rng.integers(4, 8), 1 : rng.integers(4, 8)] = True
        for name, noise in (("good", 0.5), ("equal", 0.5), ("bad", 1.5)):
            found[name].append(score_map(position, mask + rng.normal(0, noise, (8, 8)), mask, np.ones((8, 8), bool)))
    return {name: Scores.merge(parts) for name, parts in found.items()}


def test_paired_comparison_finds_the_worse_method_only() -> None:
    scores = methods(0)
    rows = {(row.metric, row.other): row for row in compare(scores, "good")}
    for figure in ("miou", "map", "pixel_accuracy"):
        worse, equal = rows[figure, "bad"], rows[figure, "equal"]
        values = [metrics(scores[name])[figure] for name in ("good", "bad")]
        assert worse.difference == pytest.approx(values[0] - values[1])
        assert worse.low > 0
        assert worse.p_holm == pytest.approx(2 / 10_000)
        assert equal.low < 0 < equal.high
        assert equal.p_holm > 0.05
    with pytest.raises(SecondLensError, match="did you mean 'good'"):
        compare(scores, "goot")
    with pytest.raises(SecondLensError, match="same images"):
        compare({**scores, "short": scores["good"].take(np.arange(10))}, "good")


def test_intervals_hold_the_figure_and_have_the_width_of_the_standard_error() -> None:
    scores = methods(0)
    many = with_intervals(scores)["good"]
    for figure in ("miou", "map", "pixel_accuracy", "map_foreground", "miou_at_mean", "miou_per_image"):
        assert many[f"{figure}_low"] < many[figure] < many[f"{figure}_high"]
    width = 2 * 1.96 * scores["good"].ap.std() / np.sqrt(len(scores["good"]))
    # The bootstrap's own error at 2,000 draws, and skewness at 40 images: some per cent.
    assert many["map_high"] - many["map_low"] == pytest.approx(width, rel=0.1)


def test_sign_flip_test_equals_all_flips() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(0.5, 1, (8, 1)), rng.normal(0, 1, (8, 1))
    difference = (first - second)[:, 0]
    signs = np.array(np.meshgrid(*[[-1, 1]] * 8)).reshape(8, -1).T
    exact = np.mean(np.abs(signs @ difference) >= abs(difference.sum()) - 1e-12)
    observed, p_value = sign_flip_test(first, second, lambda sums: sums[:, 0], flips=20_000)
    assert observed == pytest.approx(difference.sum())
    # Standard error of a share at 20,000 draws: at most 0.0036.
    assert p_value == pytest.approx(exact, abs=0.015)


def test_holm() -> None:
    # By hand: 0.01 * 4, max(0.04, 0.02 * 3), max(0.06, 0.03 * 2), max(0.06, 0.5).
    assert holm([0.5, 0.01, 0.03, 0.02]) == pytest.approx([0.5, 0.04, 0.06, 0.06])
    assert holm([]) == []
