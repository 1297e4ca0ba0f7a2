"""Matching pursuit over atoms that are almost each other's copies: float64 is used up to its rounding."""

import pytest
import torch
from torch.nn.functional import normalize

from secondlens.numerics.sparse.codes import sparse_decompose

EMBED = 64


def near_copies(count: int, apart: float) -> torch.Tensor:
    """Laeuchli's matrix, rotated: atoms that differ by `apart` in directions of their own."""
    generator = torch.Generator().manual_seed(0)
    rotation = torch.linalg.qr(torch.randn(EMBED, EMBED, generator=generator, dtype=torch.float64)).Q
    return normalize(rotation[:1] + apart * rotation[1 : count + 1], dim=1)


@pytest.mark.parametrize(("count", "apart"), [(40, 1e-2), (12, 1e-3)])
def test_sums_of_near_copies_are_reproduced_to_rounding(count: int, apart: float) -> None:
    """Each atom leaves a part `apart` outside the others' span: one Gram-Schmidt would leave rounding / apart in it."""
    atoms = near_copies(count, apart)
    mixing = torch.rand(4, count, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 0.5
    signals = mixing @ atoms
    codes = sparse_decompose(signals, atoms, count, centre=False)
    assert codes.counts.tolist() == [count] * 4
    # Measured at most 5e-16; at least 7e-14 where Gram-Schmidt is applied once.
    assert float((codes.residual_norms[:, -1] / signals.norm(dim=1)).max()) < 1e-14
