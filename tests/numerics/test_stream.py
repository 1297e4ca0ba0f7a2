"""Streaming statistics through the kernels: the same as without them, and the laws of merging hold bit by bit."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("triton")

from numerics.brute_force import assert_exact, brute_force, feed
from numerics.laws import assert_same
from numerics.streams import KINDS, spans, stream
from secondlens.errors import NotFiniteError
from secondlens.lens import LensModel
from secondlens.numerics import kernels
from secondlens.numerics.largest import LargestEffects, TopEffects
from secondlens.numerics.norms import PathNorms
from secondlens.surveys.run import survey

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
NEEDS_CUDA = pytest.mark.skipif(DEVICE == "cpu", reason="Triton's interpreter does not multiply bfloat16")


@pytest.fixture(scope="module")
def everywhere() -> Iterator[None]:
    """The kernels run on any device."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "on", lambda device: True)
        yield


def without(patch: pytest.MonkeyPatch, work: Callable[[], LargestEffects]) -> LargestEffects:
    """What some work gives without the kernels, and the statistics go on without them."""
    with patch.context() as context:
        context.setattr(kernels, "on", lambda device: False)
        return work()


def data(kind: str, images: int, paths: int = 4, seed: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    coefficients, root = stream(kind, images, paths, seed)
    return coefficients.to(DEVICE), root.to(DEVICE)


def on_cpu(result: TopEffects) -> TopEffects:
    return TopEffects(**{name: tensor.cpu() for name, tensor in vars(result).items()})


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize(
    ("kind", "sizes"),
    [("spans", [21] * 3), ("levels", [9] * 7), ("rare", [21] * 3), ("drifting", [30, 1, 1, 31]), ("by class", [63])],
)
def test_the_same_as_without_kernels(monkeypatch: pytest.MonkeyPatch, kind: str, sizes: list[int]) -> None:
    coefficients, root = data(kind, 63)
    batches = torch.arange(63, device=DEVICE).split(sizes)
    fused = feed(LargestEffects(root, 12), coefficients, batches)
    plain = without(monkeypatch, lambda: feed(LargestEffects(root, 12), coefficients, batches))
    exact = brute_force(coefficients.cpu(), root.cpu())
    for statistics in (fused, plain):
        assert_exact(on_cpu(statistics.result(6)), exact, root.cpu())
    assert_same(fused.result(6), plain.result(6), means=kind != "spans")
    found, expected = fused.state_dict(), plain.state_dict()
    assert found.keys() == expected.keys()
    assert torch.equal(found["extent"], expected["extent"])
    assert torch.equal(found["histogram"].sum(dim=1), expected["histogram"].sum(dim=1))
    # Norms at an edge of the histogram round to one of two bins.
    assert int((found["histogram"] - expected["histogram"]).abs().sum()) <= 4
    # float32 norms of what is multiplied.
    scale = float((coefficients.abs().amax(dim=1).norm(dim=1) * root.norm(dim=(1, 2))).max())
    for name in ("reference", "threshold", "norms"):
        torch.testing.assert_close(found[name], expected[name], rtol=2e-6, atol=2e-6 * scale)
    torch.testing.assert_close(found["second_moment"], expected["second_moment"], rtol=2e-6, atol=63 * 2e-6 * scale**2)


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("paths", [1, 24, 70])
@pytest.mark.parametrize("triangular", [True, False])
def test_sums_and_extents_are_exact(paths: int, triangular: bool) -> None:
    """One block of columns of R, and several, of which the last is not full; 200 images are more than one tile."""
    generator = torch.Generator().manual_seed(paths)
    coefficients = torch.randn(2, 260, paths, generator=generator)
    root = torch.randn(2, paths, paths, generator=generator)
    root = root.tril() if triangular else root
    statistics = LargestEffects(root.to(DEVICE), 20)
    feed(statistics, coefficients.to(DEVICE), torch.arange(260, device=DEVICE).split([30, 200, 30]))
    exact = brute_force(coefficients, root)
    assert torch.equal(statistics.mean.cpu(), exact.mean)
    assert torch.equal(statistics.extent.cpu(), coefficients.abs().amax(dim=1))
    assert_exact(on_cpu(statistics.result(10)), exact, root)


@pytest.mark.usefixtures("everywhere")
@settings(max_examples=4, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    capacity=st.integers(5, 20),
    cuts=st.lists(st.integers(0, 4), max_size=2),
    seed=st.integers(0, 1000),
)
def test_parts_merge_to_the_bits_of_one_pass(kind: str, capacity: int, cuts: list[int], seed: int) -> None:
    coefficients, root = data(kind, 60, seed=seed)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(seed)).to(DEVICE)
    batches = order.split(15)
    whole = feed(LargestEffects(root, capacity), coefficients, batches)
    merged = LargestEffects(root, capacity)
    for span in spans(len(batches), cuts):
        part = feed(LargestEffects(root, capacity), coefficients, batches[span.start : span.stop][:1])
        # As after an interruption.
        resumed = LargestEffects(root, capacity)
        resumed.load_state_dict(part.state_dict())
        merged.merge(feed(resumed, coefficients, batches[span.start : span.stop][1:]))
    assert_same(merged.result(5), whole.result(5))
    assert_exact(on_cpu(merged.result(5)), brute_force(coefficients.cpu(), root.cpu()), root.cpu())


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
@pytest.mark.parametrize(("place", "batch"), [(2, 15), (58, 15), (11, 60)])
def test_an_image_that_is_not_finite_is_named(value: float, place: int, batch: int) -> None:
    coefficients, root = data("gaussian", 60)
    coefficients[1, place, 2] = value
    with pytest.raises(NotFiniteError) as error:
        feed(LargestEffects(root, 10), coefficients, torch.arange(60, device=DEVICE).split(batch)).result(3)
    assert error.value.position == place


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("paths", [4, 24, 70])
@pytest.mark.parametrize("low_precision", [False, pytest.param(True, marks=NEEDS_CUDA)])
def test_errors_of_norms_are_within_their_bound(low_precision: bool, paths: int) -> None:
    """Matrix units that cut, and 16 bits in two parts; also where coefficients nearly cancel."""
    generator = torch.Generator().manual_seed(paths)
    basis = torch.linalg.qr(torch.randn(2, paths, paths, generator=generator, dtype=torch.float64))[0]
    steep = (basis * torch.logspace(0, -7, paths, dtype=torch.float64)).float()
    weights = torch.randn(2, 150, paths, generator=generator, dtype=torch.float64)
    weights[:, :, : paths // 2] *= 1e-6
    cases = [
        (torch.randn(2, paths, paths, generator=generator), torch.randn(2, 150, paths, generator=generator)),
        (torch.randn(2, paths, paths, generator=generator).tril(), torch.rand(2, 150, paths, generator=generator) + 10),
        (steep, (weights @ basis.mT).float()),
    ]
    for root, coefficients in cases:
        norms_of = PathNorms(root.to(DEVICE), low_precision)
        for around in (torch.zeros(2, paths), coefficients.mean(dim=1)):
            norms = norms_of(coefficients.to(DEVICE), around.to(DEVICE)).double().cpu()
            exact = torch.bmm(coefficients.double() - around[:, None].double(), root.double()).norm(dim=2)
            error = norms_of.error(coefficients.abs().amax(dim=1).to(DEVICE), around.to(DEVICE)).cpu()
            assert bool(((norms - exact).abs() <= error[:, None]).all())


@pytest.mark.slow
@pytest.mark.usefixtures("everywhere")
def test_a_survey_through_the_kernels(
    clip: LensModel, tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole survey of a small model: capture, coefficients and statistics."""
    fused = survey(clip, pictures, tmp_path / "fused", top=3, batch_size=4)
    monkeypatch.setattr(kernels, "on", lambda device: False)
    plain = survey(clip, pictures, tmp_path / "plain", top=3, batch_size=4)
    for layer in plain.layers:
        mine, theirs = fused.layer(layer), plain.layer(layer)
        # Attention and coefficients in another order of float32 sums.
        torch.testing.assert_close(mine.top_norms, theirs.top_norms, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(mine.mean_effects, theirs.mean_effects, rtol=1e-4, atol=1e-6)
        assert float((mine.top_positions == theirs.top_positions).float().mean()) > 0.99
