"""`method="lasso"` against scikit-learn's path."""

import builtins

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from secondlens.errors import MissingExtra, TextError
from secondlens.numerics.sparse.codes import sparse_decompose


def problem(seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    # Correlated atoms, so that some leave the path again.
    texts = random.normal(size=(80, 20)) * np.logspace(0, -1.5, 20)
    return random.normal(size=(6, 20)) * 7, texts


@pytest.mark.parametrize("nonnegative", [False, True])
def test_equals_scikit_learn(nonnegative: bool) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    directions, texts = problem(0)
    codes = sparse_decompose(directions, texts, nonzero=8, nonnegative=nonnegative, method="lasso")
    assert codes.counts.tolist() == [8] * len(directions)
    columns = codes.dictionary.numpy().T
    for row, signal in enumerate(directions):
        _, _, path = linear_model.lars_path(columns, signal, method="lasso", positive=nonnegative, max_iter=500)
        active = (path != 0).sum(axis=0)
        expected = path[:, int(np.argmax(active == 8))]
        found = np.zeros(len(texts))
        found[codes.indices[row]] = codes.coefficients[row]
        assert_allclose(found, expected, rtol=1e-7, atol=1e-9)
        assert_allclose(codes.residual_norms[row, -1], np.linalg.norm(signal - columns @ expected), rtol=1e-9)
        assert (codes.residual_norms[row].diff() < 0).all()
        # The first to enter is the atom that correlates most.
        first = columns.T @ signal
        assert codes.indices[row, 0] == (first if nonnegative else np.abs(first)).argmax()


@pytest.mark.parametrize("nonnegative", [False, True])
def test_debiased_coefficients_are_a_fit_on_the_support(nonnegative: bool) -> None:
    pytest.importorskip("sklearn")
    optimize = pytest.importorskip("scipy.optimize")
    directions, texts = problem(1)
    codes = sparse_decompose(directions, texts, 6, nonnegative, method="lasso", debias=True)
    for row, signal in enumerate(directions):
        atoms = codes.dictionary[codes.indices[row]].numpy().T
        expected = optimize.nnls(atoms, signal)[0] if nonnegative else np.linalg.lstsq(atoms, signal, rcond=None)[0]
        assert_allclose(codes.coefficients[row], expected, rtol=1e-6, atol=1e-8)


def test_a_zero_signal_and_a_path_that_ends() -> None:
    pytest.importorskip("sklearn")
    directions, texts = problem(2)
    directions[0] = 0
    codes = sparse_decompose(directions, texts, nonzero=40, method="lasso")
    assert codes.counts[0] == 0
    assert (codes.residual_norms[0] == 0).all()
    assert (codes.counts[1:] <= 20).all()
    assert (codes.residual_norms[1:, -1] < 1e-6).all()


def test_codes_of_the_lasso_have_no_prefix() -> None:
    pytest.importorskip("sklearn")
    codes = sparse_decompose(*problem(3), nonzero=4, method="lasso")
    with pytest.raises(TextError, match="not nested"):
        codes.prefix(2)


def test_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: object, **kwargs: object) -> object:
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    directions, texts = problem(4)
    assert sparse_decompose(directions, texts, 3).indices.shape == torch.Size([6, 3])
    with pytest.raises(MissingExtra, match=r"secondlens\[lasso\]"):
        sparse_decompose(directions, texts, 3, method="lasso")
