"""The screen's answers are those of a float64 search, in every precision and for every kind of pool."""

import pytest
import torch

from secondlens.numerics.sparse import screen as module
from secondlens.numerics.sparse.screen import Screen


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pools() -> dict[str, torch.Tensor]:
    base = normal(0, 3000, 40)
    return {
        "random": base,
        "short": base[:5],
        "one": base[:1],
        "group": base[: module.GROUP],
        "unequal lengths": base * torch.logspace(-6, 3, 3000, dtype=torch.float64)[:, None],
        # Closer than any low precision can tell apart: all are candidates.
        "near-copies": base[0] + 1e-9 * base,
        "tiny": base * 1e-100,
        "copies": base[:3].repeat(1000, 1),
    }


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("pool", pools())
def test_equals_a_search_in_float64(pool: str, precision: torch.dtype, positive: bool) -> None:
    atoms = pools()[pool]
    residual = normal(1, 50, 40) * torch.logspace(-8, 8, 50, dtype=torch.float64)[:, None]
    # Computed like the screen's last look, so that equal atoms have equal scores to the bit.
    exact = torch.stack([(atoms * r).sum(dim=1) for r in residual])
    size = exact if positive else exact.abs()
    excluded = torch.full((50, 2), len(atoms), dtype=torch.int64)
    for _ in range(2):
        best = Screen(atoms, positive, precision).best(residual, excluded, torch.zeros(50, dtype=torch.float64))
        top, index = size.max(dim=1)
        index = torch.where(size == top[:, None], torch.arange(len(atoms)), len(atoms)).amin(dim=1)
        found = top > 0
        assert torch.equal(best.atom, torch.where(found, index, -1))
        assert torch.equal(best.value[found], exact[found].gather(1, index[found, None])[:, 0])
        # Once more without the winners.
        excluded[:, 1] = index
        size = size.scatter(1, index[:, None], -1.0)


def test_nothing_rises_above_a_high_floor() -> None:
    atoms, residual = normal(2, 300, 16), normal(3, 4, 16)
    top = (residual @ atoms.T).abs().amax(dim=1)
    excluded = torch.zeros(4, 0, dtype=torch.int64)
    floor = top * torch.tensor([0.999, 1.001, torch.inf, 0.5])
    best = Screen(atoms).best(residual, excluded, floor)
    assert (best.atom >= 0).tolist() == [True, False, False, True]
    assert (best.value[1:3] == 0).all()


def test_scores_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    atoms, residual = normal(4, 900, 16), normal(5, 30, 16)
    excluded, floor = torch.zeros(30, 0, dtype=torch.int64), torch.zeros(30, dtype=torch.float64)
    whole = Screen(atoms).best(residual, excluded, floor)
    monkeypatch.setattr(module, "SCORES_BYTES", 1)
    monkeypatch.setattr(module, "RESCORED", 1)
    pieces = Screen(atoms).best(residual, excluded, floor)
    assert torch.equal(whole.atom, pieces.atom)


def test_crowded_signals_are_searched_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    atoms, residual = normal(6, 5000, 16), normal(7, 30, 16)
    excluded, floor = torch.zeros(30, 0, dtype=torch.int64), torch.zeros(30, dtype=torch.float64)
    usual = Screen(atoms, precision=torch.bfloat16).best(residual, excluded, floor)
    monkeypatch.setattr(module, "CROWDED", 0)
    crowded = Screen(atoms, precision=torch.bfloat16).best(residual, excluded, floor)
    assert torch.equal(usual.atom, crowded.atom)
    assert torch.equal(usual.atom, (residual @ atoms.T).abs().argmax(dim=1))
