"""What holds of two results, of two states, and of any state."""

import torch
from torch import Tensor

from secondlens.numerics.largest import LargestEffects, TopEffects

FIELDS = ("positions", "norms", "rows", "centred")


def assert_same(result: TopEffects, other: TopEffects, means: bool = True) -> None:
    """Bits of the mean, and of what is certified in both; only the images, where sums over other batches round.

    The variance is equal to rounding, and `certified` may differ.
    """
    both = result.certified & other.certified
    assert torch.equal(result.mean, other.mean) or not means
    for name in FIELDS if means else FIELDS[:1]:
        assert torch.equal(getattr(result, name)[both], getattr(other, name)[both]), name


def assert_equal_states(statistics: LargestEffects, other: LargestEffects) -> None:
    state, expected = statistics.state_dict(), other.state_dict()
    assert state.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(state[name], tensor), name


def assert_valid(state: dict[str, Tensor], coefficients: Tensor, root: Tensor, capacity: int) -> None:
    """The state is one of these images, which have been seen in any order, in any parts."""
    neurons, count, paths = coefficients.shape
    upcast, positions = coefficients.double(), state["positions"].long()
    assert int(state["count"]) == count
    torch.testing.assert_close(state["total.high"], upcast.sum(dim=1), rtol=1e-12, atol=1e-10)
    assert positions.shape[1] == min(count, capacity)
    rows = coefficients.gather(1, positions[:, :, None].expand(-1, -1, paths))
    assert torch.equal(state["coefficients"], rows)
    if "reference" not in state:
        assert count < capacity
        return
    reference = state["reference"].double()
    # float32: 2^-23 of the sizes that are multiplied, times paths + 4.
    error = 1e-6 * (coefficients.abs().amax(dim=1).norm(dim=1) * root.norm(dim=(1, 2)))

    def around(point: Tensor) -> Tensor:
        return torch.bmm(upcast - point[:, None], root.double()).norm(dim=2)

    norms = around(reference)
    assert bool(((state["norms"] - norms.gather(1, positions)).abs() <= error[:, None]).all())
    if count >= capacity:
        assert torch.equal(state["threshold"], state["norms"].amin(dim=1)), "the threshold is not the smallest norm"
    moment = norms.square().sum(dim=1)
    assert bool(((state["second_moment"] - moment).abs() <= count * error * (norms.amax(dim=1) + error)).all())
    assert bool((state["histogram"].sum(dim=1) == count).all())
    # Every image that is not in the buffer is bounded: around the reference of its time, or the present one.
    bounds = [
        (state["evictions.bounds"][:, entry], state["evictions.references"][:, entry].double())
        for entry in range(state["evictions.bounds"].shape[1])
    ]
    if bool(state["evicted"]):
        bounds.append((state["threshold"] + error, reference))
    bounded = torch.zeros(neurons, count, dtype=torch.bool).scatter(1, positions, True)
    for bound, point in bounds:
        bounded |= around(point) <= bound[:, None] * (1 + 1e-12)
    assert bool(bounded.all()), "an evicted image is larger than every bound says"
