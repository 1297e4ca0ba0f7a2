"""What benchmarks compute from what they measured: slopes, counts, swaps, and commands beside each other."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import beside, roofline
from benchmarks.growth_cases import SparseCase, SurveyCase, model_of, statistics_alone
from benchmarks.growth_counts import slope, sparse_multiplications, survey_multiplications
from benchmarks.precision import swapped

from secondlens.lens.paths import paths_of


def test_a_power_law_gives_its_exponent() -> None:
    sizes = [10.0, 20.0, 40.0, 80.0]
    exponent, error = slope(sizes, [3 * size**1.7 for size in sizes])
    assert exponent == pytest.approx(1.7, abs=1e-9)
    assert error < 1e-6
    # By hand: values 1, 2, 2 at logarithms 0, 1, 2 of base 2 have slope 1/2 and residuals -1/6, 1/3, -1/6.
    exponent, error = slope([1, 2, 4], [1, 2, 2])
    assert exponent == pytest.approx(0.5)
    assert error == pytest.approx((1 / 6 / 1 / 2) ** 0.5)


def test_counts_are_linear_in_what_a_user_can_raise() -> None:
    one, two, three = (sum(survey_multiplications(SurveyCase(images=n)).values()) for n in (1000, 2000, 3000))
    assert three - two == pytest.approx(two - one)
    few, some, many = (sparse_multiplications(SparseCase(texts=n)) for n in (1000, 2000, 3000))
    assert many - some == some - few


def test_counted_paths_are_the_models() -> None:
    case = SurveyCase(depth=4, layers=3, width=32)
    model = model_of(case)
    assert case.paths() == [len(paths_of(model.tower, layer)) for layer in range(3)]
    assert (case.neurons, case.embed) == (model.neurons, model.embed_dim)


def test_operations_of_a_batch_agree_with_torch_flop_counter() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    model = model_of(SurveyCase(depth=3, width=32))
    # The counter does not know the fused attention of a CPU.
    model.module.set_attn_implementation("eager")
    pixels = torch.randn(4, 3, 64, 64)
    with FlopCounterMode(display=False) as counter:
        model.encode_images(pixels)
    # Ours leaves out the last projection, [image, width] x [width, embed].
    assert roofline.work(model, [0], 4)["forward"] + 4 * 2 * 32 * 16 == counter.get_total_flops()


def test_statistics_alone_hold_no_more_of_more_images() -> None:
    found = statistics_alone((1000, 3000), neurons=4, paths=3, top=5, batch=50)
    first, last = found["points"]
    assert first["state"] == last["state"]
    assert found["certified"] == 1


def test_swaps_are_the_images_of_one_top_only() -> None:
    mine, theirs = torch.tensor([[3, 1, 2], [4, 5, 6]]), torch.tensor([[1, 2, 3], [4, 7, 6]])
    same, pairs = swapped(mine, theirs)
    assert same.tolist() == pytest.approx([1, 2 / 3])
    assert [(n, ours.tolist(), others.tolist()) for n, ours, others in pairs] == [(1, [5], [7])]


OTHER = """
import sys, time
held = b"x" * (64 * 2**20)
time.sleep(0.3 + float(sys.argv[2]))
open(sys.argv[1] + "-made", "w").write(sys.argv[3])
"""


def test_two_commands_in_turn(tmp_path: Path) -> None:
    script = tmp_path / "other.py"
    script.write_text(OTHER)
    ours = f"{{python}} {script} {{out}} 0.05 {{layers}}"
    theirs = f"{{python}} {script} {{out}} 0.4 {{layers}}"
    mine, others = beside.in_turn(ours, theirs, {"python": sys.executable, "layers": "8,9"}, 2)
    assert [ran.status for ran in mine + others] == [0] * 4
    assert min(ran.seconds for ran in others) > 0.7
    # The 64 MiB and an interpreter.
    assert all(64 * 2**20 < ran.memory < 160 * 2**20 for ran in mine + others)


def test_a_command_that_fails_ends_it(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="theirs ended with status 3"):
        beside.in_turn("true", f"{sys.executable} -c 'import sys; sys.exit(3)'", {}, 1)
    with pytest.raises(SystemExit, match="cannot run"):
        beside.run(str(tmp_path / "absent"), {})
