"""Streaming statistics through the kernels: the same as without them, and the laws of merging hold bit by bit."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("triton")

from secondlens import kernels
from secondlens.effects.candidates import Candidates
from secondlens.effects.runners import Runners
from secondlens.effects.statistics import EffectStatistics
from secondlens.kernels.settle import settle
from secondlens.models import LensModel
from secondlens.surveys import survey

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
NEURONS, PATHS = 3, 4


@pytest.fixture
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels run on any device."""
    monkeypatch.setattr(kernels, "on", lambda device: True)


def data(images: int, seed: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.rand(1, images, 1, generator=generator) ** 4 * 5 + 0.1
    coefficients = torch.randn(NEURONS, images, PATHS, generator=generator) * sizes
    return coefficients.to(DEVICE), torch.randn(NEURONS, PATHS, PATHS, generator=generator).to(DEVICE)


def run(statistics: EffectStatistics, coefficients: torch.Tensor, sizes: list[int], start: int = 0) -> EffectStatistics:
    for size in sizes:
        positions = torch.arange(start, start + size, device=DEVICE)
        statistics.update(coefficients[:, positions], positions)
        start += size
    return statistics


@pytest.mark.parametrize("sizes", [[7] * 9, [30, 1, 1, 31], [63], [2] * 30])
def test_the_same_as_without_kernels(monkeypatch: pytest.MonkeyPatch, sizes: list[int]) -> None:
    coefficients, root = data(sum(sizes))
    monkeypatch.setattr(kernels, "on", lambda device: False)
    plain = run(EffectStatistics(root, 6), coefficients, sizes)
    monkeypatch.setattr(kernels, "on", lambda device: True)
    fused = run(EffectStatistics(root, 6), coefficients, sizes)
    expected, found = plain.state_dict(), fused.state_dict()
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        if tensor.is_floating_point() and not name.endswith(".low"):
            # Two roundings of norms and of sums over a batch.
            torch.testing.assert_close(found[name], tensor, rtol=2e-6, atol=2e-6)
        elif not name.endswith(".low"):
            assert torch.equal(found[name], tensor), name
    mine, theirs = fused.result(4), plain.result(4)
    assert torch.equal(mine.positions, theirs.positions)
    assert torch.equal(mine.proved, theirs.proved)
    torch.testing.assert_close(mine.norms, theirs.norms)


def test_images_below_every_floor_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Just as many images as there are places; those that come then are all let go at once."""
    coefficients, root = data(60)
    coefficients = torch.cat([coefficients[:, :12] + 10, coefficients[:, 12:] * 0.01 + 10], dim=1)
    states = []
    for on in (False, True):
        monkeypatch.setattr(kernels, "on", lambda device, on=on: on)
        found = EffectStatistics(root, 6)
        found.reference = torch.full((NEURONS, PATHS), 10.0, device=DEVICE)
        states.append(run(found, coefficients, [6, 6] + [4] * 12).state_dict())
    assert bool((states[0]["released"] > 0).all())
    # |sR - cR| without kernels rounds to the size of |cR|, some 2^-23 of 40.
    torch.testing.assert_close(states[1]["released"], states[0]["released"], rtol=2e-6, atol=1e-5)
    assert torch.equal(states[1]["runner_positions"], states[0]["runner_positions"])


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("cut", [1, 4, 7])
def test_shards_merge_to_the_same_bits(cut: int) -> None:
    coefficients, root = data(60)
    whole = run(EffectStatistics(root, 6), coefficients, [6] * 10)
    # The first batch fixes the reference; the others go to two places.
    begun = run(EffectStatistics(root, 6), coefficients, [6])
    states = []
    for batches in (range(1, 1 + cut), range(1 + cut, 10)):
        shard = EffectStatistics(root, 6)
        shard.load_state_dict(begun.shard_state())
        states.append(run(shard, coefficients, [6] * len(batches), batches[0] * 6).state_dict())
    for state in states:
        begun.merge_state(state)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(begun.state_dict()[name], tensor), name


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_settling_keeps_the_largest(draw: st.DataObject) -> None:
    """Against sorting, with ties, zeros, empty places, and bounds of runners-up that are larger than norms."""
    places = draw.draw(st.integers(1, 5))
    norms = st.sampled_from([0.0, 0.25, 1.0, 1.5, 3.0, 80.0])
    held = draw.draw(st.lists(norms, max_size=places))
    behind = draw.draw(st.lists(norms, max_size=places))
    come = draw.draw(st.lists(norms, min_size=1, max_size=9))
    count = len(held) + len(behind) + len(come)
    numbers = draw.draw(st.permutations(range(count)))
    ids = (numbers[: len(held)], numbers[len(held) : len(held) + len(behind)], numbers[len(held) + len(behind) :])
    candidates = Candidates(1, places, 2, torch.device("cpu"))
    candidates.norms[0, : len(held)] = torch.tensor(held)
    candidates.positions[0, : len(held)] = torch.tensor(ids[0], dtype=torch.int64)
    candidates.held[0, : len(held)] = torch.tensor(ids[0], dtype=torch.float32)[:, None].expand(-1, 2)
    runners = Runners(1, places)
    runners.norms[0, : len(behind)] = torch.tensor(behind)
    runners.positions[0, : len(behind)] = torch.tensor(ids[1], dtype=torch.int64)
    waiting = Candidates(1, 10, 2, torch.device("cpu"))
    waiting.fill(0, torch.tensor(ids[2], dtype=torch.float32)[None, :, None].expand(-1, -1, 2), torch.tensor(ids[2]))
    waiting.norms[0, : len(come)] = torch.tensor(come)
    parts = [candidates.held, candidates.norms, candidates.positions, runners.norms, runners.positions]
    parts += [waiting.held, waiting.norms, waiting.positions, torch.tensor([len(come)], dtype=torch.int32)]
    parts += [torch.zeros(1), torch.zeros(1)]
    parts = [part.to(DEVICE) for part in parts]
    settle(tuple(parts[:3]), tuple(parts[3:5]), tuple(parts[5:8]), *parts[8:11], False, 10)
    mine = sorted(zip(held + come, ids[0] + ids[2], strict=True), key=lambda pair: (-pair[0], pair[1]))
    rest = sorted([*mine[places:], *zip(behind, ids[1], strict=True)], key=lambda pair: (-pair[0], pair[1]))

    def found(norms: torch.Tensor, positions: torch.Tensor) -> list[tuple[float, int]]:
        there = [pair for pair in zip(norms[0].tolist(), positions[0].tolist(), strict=True) if pair[1] >= 0]
        return sorted(there, key=lambda pair: (-pair[0], pair[1]))

    assert found(parts[1], parts[2]) == mine[:places]
    assert found(parts[3], parts[4]) == rest[:places]
    for place, position in enumerate(parts[2][0].tolist()):
        if position >= 0:
            assert parts[0][0, place].tolist() == [position, position]
    full = len(rest) >= places
    assert float(parts[9]) == (rest[places - 1][0] if full else -1)
    assert float(parts[10]) == (rest[places - 1][0] if len(rest) > places else 0)
    assert int(parts[8]) == 0


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
