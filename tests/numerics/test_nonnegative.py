"""Non-negative codes: the small solver against scipy's, and the pursuit against a slow one made of it."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from secondlens.errors import TextError
from secondlens.numerics.sparse.codes import sparse_decompose
from secondlens.numerics.sparse.nnls import nnls_gram

optimize = pytest.importorskip("scipy.optimize")


def slow_pursuit(signal: np.ndarray, atoms: np.ndarray, nonzero: int) -> tuple[list[int], np.ndarray]:
    """Bruckstein, Elad and Zibulevsky (2008), line by line."""
    support: list[int] = []
    residual, fitted = signal, np.zeros(0)
    while len(support) < nonzero:
        products = atoms @ residual
        products[support] = -np.inf
        if products.max() <= 1e-8 * np.linalg.norm(signal):
            break
        support.append(int(products.argmax()))
        fitted, _ = optimize.nnls(atoms[support].T, signal)
        residual = signal - fitted @ atoms[support]
    return support, fitted


@pytest.mark.parametrize("guess", [None, "random", "none"])
def test_solver_equals_scipy(guess: str | None) -> None:
    random = np.random.default_rng(0)
    matrices = random.normal(size=(40, 30, 12)) + 0.5 * random.normal(size=(40, 30, 1))
    matrices *= 10.0 ** random.integers(-3, 4, size=(40, 1, 12))
    targets = random.normal(size=(40, 30))
    used = random.random((40, 12)) < 0.8
    start = {
        None: None,
        "random": torch.tensor(random.random((40, 12)) < 0.5),
        "none": torch.zeros(40, 12).bool(),
    }
    a = torch.tensor(matrices)
    solved = nnls_gram(a.mT @ a, (a.mT @ torch.tensor(targets)[:, :, None])[:, :, 0], torch.tensor(used), start[guess])
    for row in range(40):
        expected = np.zeros(12)
        expected[used[row]] = optimize.nnls(matrices[row][:, used[row]], targets[row])[0]
        assert_allclose(solved[row], expected, rtol=1e-7, atol=1e-9 * np.abs(expected).max())


def test_solver_refuses_dependent_atoms() -> None:
    with pytest.raises(TextError, match="linearly dependent"):
        nnls_gram(torch.ones(1, 3, 3).double(), torch.ones(1, 3).double(), torch.ones(1, 3).bool())


@pytest.mark.parametrize("kind", ["random", "correlated"])
def test_pursuit_equals_the_slow_one(kind: str) -> None:
    random = np.random.default_rng(1)
    texts = random.normal(size=(120, 24))
    if kind == "correlated":
        texts = texts * np.logspace(0, -1, 24) + 0.5
    directions = random.normal(size=(8, 24))
    codes = sparse_decompose(directions, texts, nonzero=14, nonnegative=True)
    assert (codes.coefficients >= 0).all()
    for row, signal in enumerate(directions):
        support, fitted = slow_pursuit(signal, codes.dictionary.numpy(), 14)
        assert codes.indices[row].tolist() == support
        assert_allclose(codes.coefficients[row], fitted, rtol=1e-6, atol=1e-8)


def test_stops_where_nothing_correlates_positively() -> None:
    texts = torch.eye(4, dtype=torch.float64)
    signal = torch.tensor([[2.0, -1.0, 0.0, 1.0]], dtype=torch.float64)
    codes = sparse_decompose(signal, texts, nonzero=4, nonnegative=True, centre=False)
    assert codes.indices.tolist() == [[0, 3, -1, -1]]
    assert_allclose(codes.coefficients, [[2, 1, 0, 0]])
    assert_allclose(codes.residual_norms, [[2**0.5, 1, 1, 1]])


def test_copies_and_near_copies_are_passed_over() -> None:
    random = np.random.default_rng(2)
    base = random.normal(size=(30, 16))
    texts = np.concatenate([base, base, base + 1e-7 * random.normal(size=base.shape)])
    codes = sparse_decompose(random.normal(size=(10, 16)), texts, nonzero=40, nonnegative=True)
    for row in codes.indices:
        picked = (row[row >= 0] % 30).tolist()
        assert len(picked) == len(set(picked))
    assert (codes.counts <= 16).all()
    left = (
        codes.signals
        - (codes.coefficients[:, None] * (codes.indices >= 0)[:, None] @ codes.dictionary[codes.indices.clamp(min=0)])[
            :, 0
        ]
    )
    assert_allclose(torch.linalg.vector_norm(left, dim=1), codes.residual_norms[:, -1], atol=1e-9)
