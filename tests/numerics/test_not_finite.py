"""An image whose effect is not finite is named, wherever it comes and whatever is done next."""

import pytest
import torch
from brute_force import feed
from streams import stream

from secondlens.errors import NotFiniteError
from secondlens.numerics.largest import LargestEffects

CAPACITY, IMAGES = 10, 60
# The last is finite; its square is not.
VALUES = [float("nan"), float("inf"), -float("inf"), 1e30]


def spoiled(value: float, *places: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Coefficients with one value that is not finite, in the second neuron, of each of some images."""
    coefficients, root = stream("gaussian", IMAGES)
    coefficients[1, list(places), 2] = value
    return coefficients, root


def named(*positions: int) -> pytest.RaisesExc:
    """An error that names one of some images, and only those."""
    return pytest.raises(NotFiniteError, check=lambda error: error.position in positions)


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("ask", ["result", "state_dict"])
@pytest.mark.parametrize("place", [0, 5, 9, 10, 12, 13, 30, 59])
@pytest.mark.parametrize("batch", [4, 13, 60])
def test_named_by_a_result_and_a_state(value: float, ask: str, place: int, batch: int) -> None:
    """While filling, in the batch that ends it, at a re-centring, and between two."""
    coefficients, root = spoiled(value, place)
    order = torch.arange(IMAGES).flip(0)
    place_in_order = IMAGES - 1 - place
    for stop in range(place_in_order // batch + 1, -(-IMAGES // batch) + 1):
        statistics = LargestEffects(root, CAPACITY)
        with named(place):
            feed(statistics, coefficients, order.split(batch)[:stop])
            statistics.result(1) if ask == "result" else statistics.state_dict()


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("first", [3, 40])
@pytest.mark.parametrize("place", [2, 25, 55])
def test_named_by_a_merge(value: float, first: int, place: int) -> None:
    """In either of two parts, one of them below the capacity."""
    coefficients, root = spoiled(value, place)
    with named(place):
        parts = [
            feed(LargestEffects(root, CAPACITY), coefficients, [span])
            for span in torch.arange(IMAGES).tensor_split([first])
        ]
        parts[0].merge(parts[1])


def test_named_at_a_re_centring() -> None:
    coefficients, root = spoiled(float("nan"), 20)
    statistics = feed(LargestEffects(root, CAPACITY), coefficients, torch.arange(20).split(5))
    with named(20):
        feed(statistics, coefficients, torch.arange(20, IMAGES).split(1))


def test_named_in_a_second_pass() -> None:
    coefficients, root = spoiled(float("inf"), 33)
    statistics = LargestEffects(root, CAPACITY, reference=torch.zeros(len(root), 4))
    feed(statistics, coefficients, torch.arange(IMAGES).split(7))
    with named(33):
        statistics.result(3)


def test_one_of_more_than_the_buffer_holds_is_named() -> None:
    places = list(range(12, 50))
    coefficients, root = spoiled(float("nan"), *places)
    with named(*places):
        feed(LargestEffects(root, CAPACITY), coefficients, torch.arange(IMAGES).flip(0).split(60))


def test_a_large_image_is_not_blamed_for_one_that_is_not_finite() -> None:
    """Its coefficients are larger, and along a path that writes nothing."""
    coefficients, root = spoiled(1e30, 40)
    root[:, 3] = 0
    coefficients[1, 41, 3] = 3e38
    with named(40):
        feed(LargestEffects(root, CAPACITY), coefficients, torch.arange(IMAGES).split(7)).result(3)
