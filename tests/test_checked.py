"""Shapes and types are checked while the tests run, in nested functions too."""

import pytest
import torch
from jaxtyping import Float, TypeCheckError, jaxtyped
from torch import Tensor

from checked import checked


def make(factor: object) -> object:
    @jaxtyped(typechecker=checked)
    def scaled(rows: Float[Tensor, "row width"], other: Float[Tensor, "row 2"]) -> Float[Tensor, " row"]:
        return rows[:, 0] * factor if factor else rows

    return scaled


def test_nested_functions_check_what_each_of_them_is_given_and_returns() -> None:
    twice, thrice, wrong = make(2.0), make(3.0), make(None)
    rows, other = torch.ones(4, 3), torch.ones(4, 2)
    assert twice(rows, other).tolist() == [2.0] * 4
    assert thrice(rows, other).tolist() == [3.0] * 4
    for function in (twice, thrice):
        with pytest.raises(TypeCheckError, match="other"):
            function(rows, torch.ones(5, 2))
    with pytest.raises(TypeCheckError, match="return value"):
        wrong(rows, other)


def test_the_source_is_checked(request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--jaxtyping-packages"):
        pytest.skip("types are checked with --jaxtyping-packages=secondlens,checked.checked, as make test does")
    from secondlens.lens.heads import split_heads

    with pytest.raises(TypeCheckError, match="flat"):
        split_heads(torch.ones(2, 3), 1)
