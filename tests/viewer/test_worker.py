"""One thread, many jobs: batches, errors, a full queue, the end."""

import threading
from collections.abc import Sequence

import pytest

from secondlens.viewer.server.worker import Busy, ModelWorker


class Gate:
    """A handler that waits until it is opened, and notes its batches."""

    def __init__(self) -> None:
        self.open, self.entered = threading.Event(), threading.Event()
        self.batches: list[list[int]] = []

    def __call__(self, given: Sequence[int]) -> list[int]:
        self.entered.set()
        assert self.open.wait(10)
        self.batches.append(list(given))
        return [10 * each for each in given]


def test_what_waits_is_run_together_in_order() -> None:
    gate = Gate()
    other: list[list[str]] = []
    worker = ModelWorker({"number": gate, "word": lambda words: other.append(list(words)) or words}, batch=3)
    first = worker.submit("number", 0)
    assert gate.entered.wait(10)
    rest = [worker.submit("number", each) for each in range(1, 6)]
    word = worker.submit("word", "a")
    gate.open.set()
    assert [first.result(10), *(each.result(10) for each in rest)] == [0, 10, 20, 30, 40, 50]
    assert word.result(10) == "a"
    assert gate.batches == [[0], [1, 2, 3], [4, 5]]
    assert other == [["a"]]
    worker.close()


def test_one_bad_input_is_its_own_error() -> None:
    gate = Gate()

    def invert(given: Sequence[int]) -> list[float]:
        return [1 / each for each in given]

    worker = ModelWorker({"wait": gate, "invert": invert})
    worker.submit("wait", 0)
    assert gate.entered.wait(10)
    answers = [worker.submit("invert", each) for each in (1, 0, 4)]
    gate.open.set()
    assert (answers[0].result(10), answers[2].result(10)) == (1.0, 0.25)
    with pytest.raises(ZeroDivisionError):
        answers[1].result(10)
    worker.close()


def test_a_full_queue_and_a_closed_one_refuse() -> None:
    before, gate = set(threading.enumerate()), Gate()
    worker = ModelWorker({"number": gate}, waiting=2)
    worker.submit("number", 0)
    assert gate.entered.wait(10)
    waiting = [worker.submit("number", each) for each in (1, 2)]
    with pytest.raises(Busy, match="2 requests wait"):
        worker.submit("number", 3)
    closing = threading.Thread(target=worker.close)
    closing.start()
    gate.open.set()
    closing.join(10)
    assert all(each.cancelled() for each in waiting)
    with pytest.raises(Busy, match="closing"):
        worker.submit("number", 4)
    assert set(threading.enumerate()) <= before


def test_a_job_that_nobody_waits_for_any_more_is_left_out() -> None:
    gate = Gate()
    worker = ModelWorker({"number": gate})
    worker.submit("number", 0)
    assert gate.entered.wait(10)
    gone, stays = worker.submit("number", 1), worker.submit("number", 2)
    assert gone.cancel()
    gate.open.set()
    assert stays.result(10) == 20
    assert gate.batches == [[0], [2]]
    worker.close()
