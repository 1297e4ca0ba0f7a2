"""Rank one of the largest effects against a plain singular value decomposition."""

import pytest
import torch
from brute_force import feed
from streams import NEURONS, stream

from secondlens.effects.rank_one import rank_one
from secondlens.numerics.largest import LargestEffects

PATHS = 4

SEED = 4
"""Most projections have the sign of their sum, by which a direction is oriented."""


@pytest.mark.parametrize("top", [3, 29])
def test_rank_one_equals_a_singular_value_decomposition(top: int) -> None:
    coefficients, root = stream("gaussian", 40, PATHS, seed=SEED)
    found = feed(LargestEffects(root, 40), coefficients, [range(40)]).result(top)
    ours = rank_one(found, root)
    for neuron in range(NEURONS - 2):
        rows = found.centred[neuron] @ root[neuron].double()
        _, s, vh = torch.linalg.svd(rows, full_matrices=False)
        x = rows @ vh[0]
        sign = x.sum().sign()
        assert (x * sign > 0).sum() * 2 > top
        count = min(top, PATHS)
        torch.testing.assert_close(ours.spectrum[neuron], (s.square() / s.square().sum())[:count])
        torch.testing.assert_close(ours.projections[neuron], x * sign)
        # r = v_1 u with u u^T = R R^T: in the basis of R, r is v_1 R.
        torch.testing.assert_close(ours.components[neuron, 0] @ root[neuron].double(), vh[0] * sign)
        torch.testing.assert_close(ours.path_shares[neuron].sum(), torch.tensor(1.0, dtype=torch.float64))
        torch.testing.assert_close(found.centred[neuron] @ ours.along[neuron], x * sign)
        torch.testing.assert_close(ours.participation[neuron], s.square().sum() ** 2 / s.pow(4).sum())


@pytest.mark.parametrize("neuron", [NEURONS - 2, NEURONS - 1])
def test_a_constant_or_dead_neuron_gets_zeros(neuron: int) -> None:
    coefficients, root = stream("gaussian", 20, PATHS)
    found = rank_one(feed(LargestEffects(root, 20), coefficients, [range(20)]).result(4), root)
    for tensor in (found.spectrum, found.components, found.projections, found.path_shares, found.participation):
        assert float(tensor[neuron].abs().max()) == 0
        assert bool(tensor.isfinite().all())
