"""Adjusted p-values are probabilities, and swaps keep what the two methods have together."""

import numpy as np
import pytest

from secondlens.numerics.intervals import holm, sign_flip_test


def test_adjusted_p_values_end_at_one() -> None:
    assert holm([0.6, 0.4]) == pytest.approx([0.8, 0.8])
    assert holm([0.6, 0.7, 0.9]) == [1.0, 1.0, 1.0]
    assert holm([0.3, 0.01, 0.9, 0.5]) == pytest.approx([0.9, 0.04, 1.0, 1.0])


def test_a_ratio_is_that_of_each_methods_own_sums() -> None:
    """A figure that is not linear in the sums, as an intersection over a union is not."""
    rng = np.random.default_rng(0)
    first, second = (rng.integers(1, 20, (12, 2)).astype(float) for _ in range(2))

    def ratio(sums: np.ndarray) -> np.ndarray:
        return sums[:, 0] / sums[:, 1]

    observed, p_value = sign_flip_test(first, second, ratio, flips=99, seed=3)
    assert observed == pytest.approx(first[:, 0].sum() / first[:, 1].sum() - second[:, 0].sum() / second[:, 1].sum())
    # The same flips, image by image: swapped where the sign is negative, and the identity counted among them.
    signs = np.random.default_rng(3).integers(0, 2, (99, 12)) * 2 - 1
    differences = [observed]
    for row in signs:
        swap = (row < 0)[:, None]
        one, other = (np.where(swap, b, a).sum(axis=0) for a, b in ((first, second), (second, first)))
        differences.append(one[0] / one[1] - other[0] / other[1])
    assert p_value == pytest.approx(np.mean(np.abs(differences) >= abs(observed) - 1e-12))
