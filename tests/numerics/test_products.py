"""Products, standard deviations and norms of the kernels against float64; interpreted where there is no GPU."""

import pytest
import torch

pytest.importorskip("triton")

from secondlens.numerics.kernels.products import product_into, split
from secondlens.numerics.kernels.sigma import sigma
from secondlens.numerics.kernels.stream import Root, norms

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TWO_IN_TF32 = 1e-6
"""Relative to the largest: two parts of 11 bits, and sums of some hundred terms in float32."""

half_products = pytest.mark.skipif(DEVICE == "cpu", reason="the interpreter cannot multiply bfloat16")


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float16, pytest.param(torch.bfloat16, marks=half_products)], ids=str
)
@pytest.mark.parametrize(("rows", "inner", "columns"), [(12, 50, 300), (36, 70, 20), (5, 17, 64), (70, 130, 40)])
def test_products_into_any_strides(dtype: torch.dtype, rows: int, inner: int, columns: int) -> None:
    left, right = random(3, rows, inner), random(3, inner, columns, seed=1).to(dtype)
    expected = torch.bmm(left.double(), right.double())
    by_column = torch.full((columns, 3, rows), torch.nan, device=DEVICE)
    product_into(by_column.permute(1, 2, 0), left, right)
    plain = torch.full((3, rows, columns), torch.nan, device=DEVICE)
    product_into(plain, left, right.mT.contiguous().mT)
    for found in (by_column.permute(1, 2, 0), plain):
        assert float((found - expected).abs().max() / expected.abs().max()) < TWO_IN_TF32


def test_three_parts_hold_all_of_a_float32() -> None:
    x = random(2, 5, 70) * torch.logspace(-6, 6, 70, device=DEVICE)
    parts = split(x, 3, 16, 64)
    assert parts.shape == (3, 2, 16, 128)
    assert torch.equal(parts.double().sum(dim=0)[:, :5, :70], x.double())
    assert float(parts[:, :, 5:].abs().max()) == float(parts[..., 70:].abs().max()) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_sigma_of_any_width(dtype: torch.dtype) -> None:
    for shape in ((3, 5, 48), (2, 7, 100)):
        x = (3 * random(*shape) + 1).to(dtype)
        expected = (x.double().var(dim=-1, unbiased=False) + 1e-5).sqrt()
        torch.testing.assert_close(sigma(x, 1e-5).double(), expected, rtol=1e-6, atol=0)
        # A view whose features do not lie side by side.
        torch.testing.assert_close(sigma(x.mT.contiguous().mT, 1e-5).double(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("halved", [False, pytest.param(True, marks=half_products)])
@pytest.mark.parametrize("triangular", [True, False])
@pytest.mark.parametrize("paths", [3, 12, 36, 70])
def test_norms_around_a_reference(paths: int, triangular: bool, halved: bool) -> None:
    s, root, around = random(4, 130, paths), random(4, paths, paths, seed=1), random(4, paths, seed=2)
    root = root.tril() if triangular else root
    expected = torch.bmm((s - around[:, None]).double(), root.double()).norm(dim=2)
    made = Root(root, halved)
    assert made.triangular == triangular
    size = expected.amax() + torch.bmm(around[:, None].double(), root.double()).norm(dim=2).amax()
    # As `Norms.error` says of both precisions.
    error = 2.0 ** (-15 if halved else -21) * paths**0.5 * size
    assert float((norms(s, made, around) - expected).abs().max()) < float(error)
