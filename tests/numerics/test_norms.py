"""Norms in path space, and the bound of their float32 error against float64."""

import pytest
import torch

from secondlens.numerics.norms import PathNorms

NEURONS, IMAGES = 6, 150
ROOTS = ("random", "triangular", "singular values to 1e-7", "more paths than dimensions", "identity")
COEFFICIENTS = ("random", "one sign", "nearly in the null space", "far from zero", "spans")


def root_of(kind: str, paths: int, generator: torch.Generator) -> torch.Tensor:
    values = torch.randn(NEURONS, paths, paths, generator=generator, dtype=torch.float64)
    if kind == "triangular":
        return torch.linalg.cholesky(values @ values.mT + 1e-6 * torch.eye(paths)).float()
    if kind == "singular values to 1e-7":
        return (torch.linalg.qr(values)[0] * torch.logspace(0, -7, paths, dtype=torch.float64)).float()
    if kind == "more paths than dimensions":
        low = values[:, :, : max(1, paths // 3)]
        eigenvalues, vectors = torch.linalg.eigh(low @ low.mT)
        return (vectors * eigenvalues.clamp(min=0).sqrt()[:, None]).float()
    return torch.eye(paths).expand(NEURONS, -1, -1) if kind == "identity" else values.float()


def coefficients_of(kind: str, root: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    values = torch.randn(NEURONS, IMAGES, root.shape[1], generator=generator)
    if kind == "one sign":
        return values.abs()
    if kind == "far from zero":
        return values * 1e-3 + 50
    if kind == "spans":
        return values * 10.0 ** torch.randint(-6, 3, values.shape, generator=generator)
    if kind == "nearly in the null space":
        left, singular, _ = torch.linalg.svd(root.double())
        small = singular < singular[:, :1] * 1e-4
        weights = values.double() * torch.where(small, 1.0, 1e-7)[:, None]
        return (weights @ left.mT).float()
    return values


@pytest.mark.parametrize("paths", [1, 4, 36, 132, 368])
@pytest.mark.parametrize("root_kind", ROOTS)
def test_the_error_of_float32_norms_is_within_its_bound(root_kind: str, paths: int) -> None:
    """The bound is a theorem for any order of summation, so it must hold; its constant is rarely needed."""
    generator = torch.Generator().manual_seed(paths)
    root = root_of(root_kind, paths, generator)
    norms_of = PathNorms(root)
    for kind in COEFFICIENTS:
        coefficients = coefficients_of(kind, root, generator)
        for around in (torch.zeros(NEURONS, paths), coefficients.mean(dim=1), coefficients[:, 0] * 3):
            norms = norms_of(coefficients, around).double()
            exact = torch.bmm(coefficients.double() - around[:, None].double(), root.double()).norm(dim=2)
            error = norms_of.error(coefficients.abs().amax(dim=1), around)
            assert bool(((norms - exact).abs() <= error[:, None]).all()), kind


def test_an_error_relative_to_the_norm_alone_would_not_hold() -> None:
    """Why the bound is in terms of what is multiplied: 2^-23 sqrt(paths) of the norms is exceeded a hundredfold."""
    generator = torch.Generator().manual_seed(0)
    root = root_of("singular values to 1e-7", 24, generator)
    coefficients = coefficients_of("nearly in the null space", root, generator)
    norms = PathNorms(root)(coefficients, torch.zeros(NEURONS, 24)).double()
    exact = torch.bmm(coefficients.double(), root.double()).norm(dim=2)
    assert float(((norms - exact).abs() / exact).max()) > 100 * 2**-23 * 24**0.5


@pytest.mark.parametrize("root_kind", ROOTS)
def test_the_bound_loosens_no_certificate(root_kind: str) -> None:
    """Of ordinary coefficients with 368 paths it is less than 1 % of a norm: norms of a top differ by more."""
    generator = torch.Generator().manual_seed(0)
    root = root_of(root_kind, 368, generator)
    coefficients = coefficients_of("random", root, generator)
    norms_of, origin = PathNorms(root), torch.zeros(NEURONS, 368)
    error = norms_of.error(coefficients.abs().amax(dim=1), origin)
    assert bool((error < 0.01 * norms_of(coefficients, origin).amin(dim=1)).all())


def test_nothing_but_zeros_has_no_error() -> None:
    root = torch.randn(NEURONS, 4, 4)
    root[0] = 0
    extent = torch.ones(NEURONS, 4)
    extent[1] = 0
    error = PathNorms(root).error(extent, torch.zeros(NEURONS, 4))
    assert error[:2].tolist() == [0.0, 0.0]
    assert bool((error[2:] > 0).all())
    tiny = PathNorms(root).error(extent * 1e-30, torch.zeros(NEURONS, 4))
    # The square of 1e-30 is zero in float32.
    assert bool((tiny[2:] > 1e-30).all())


def test_a_norm_that_is_not_a_number_is_infinite() -> None:
    coefficients = torch.tensor([[[1.0, 0.0], [float("nan"), 0.0], [float("inf"), 1.0], [1e30, 0.0]]])
    norms = PathNorms(torch.eye(2)[None])(coefficients, torch.zeros(1, 2))
    assert norms.tolist() == [[1.0, float("inf"), float("inf"), float("inf")]]


def test_a_norm_is_that_of_the_effect() -> None:
    """|sum_k s[k] u[k]| from R R^T = u u^T."""
    generator = torch.Generator().manual_seed(0)
    writes = torch.randn(NEURONS, 5, 16, generator=generator, dtype=torch.float64)
    root = torch.linalg.cholesky(writes @ writes.mT)
    coefficients = torch.randn(NEURONS, IMAGES, 5, generator=generator)
    around = torch.randn(NEURONS, 5, generator=generator)
    effects = (coefficients.double() - around[:, None].double()) @ writes
    norms_of = PathNorms(root)
    # float32 of sums of five terms.
    torch.testing.assert_close(norms_of(coefficients, around).double(), effects.norm(dim=2), rtol=1e-5, atol=1e-5)
    rows = coefficients[:, 0] - around
    torch.testing.assert_close(
        norms_of.of_rows(rows), (rows[:, None].double() @ writes)[:, 0].norm(dim=1), rtol=1e-6, atol=0
    )
