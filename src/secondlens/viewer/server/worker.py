"""One model, many clients: jobs wait in a short queue, and one thread runs those of a kind together as a batch."""

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

Handler = Callable[[Sequence[Any]], Sequence[Any]]


class Busy(Exception):
    """The queue is full, or the server is closing."""


@dataclass
class _Job:
    kind: str
    given: Any
    answer: "Future[Any]"


class ModelWorker:
    """Runs jobs on its own thread. handlers: kind to a function of a list of inputs that gives as many results.

    A handler that fails on a batch is asked again one by one, so that one client's bad input is that client's error.
    """

    def __init__(self, handlers: Mapping[str, Handler], *, batch: int = 8, waiting: int = 64) -> None:
        self._handlers, self._batch, self._waiting = dict(handlers), batch, waiting
        self._jobs: deque[_Job] = deque()
        self._news = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="secondlens-model", daemon=True)
        self._thread.start()

    def submit(self, kind: str, given: Any) -> "Future[Any]":
        """A job's future; raises `Busy` where too many wait already."""
        job = _Job(kind, given, Future())
        with self._news:
            if self._closed:
                raise Busy("the server is closing")
            if len(self._jobs) >= self._waiting:
                raise Busy(f"{self._waiting} requests wait for the model already; try again in a moment")
            self._jobs.append(job)
            self._news.notify()
        return job.answer

    def close(self) -> None:
        """Refuse what waits and end the thread after the batch it is at."""
        with self._news:
            self._closed = True
            for job in self._jobs:
                job.answer.cancel()
            self._jobs.clear()
            self._news.notify()
        self._thread.join(timeout=60)

    def _run(self) -> None:
        while True:
            with self._news:
                while not self._jobs and not self._closed:
                    self._news.wait()
                if self._closed:
                    return
                jobs = self._next_batch()
            running = [job for job in jobs if job.answer.set_running_or_notify_cancel()]
            if running:
                self._answer(running)

    def _next_batch(self) -> list[_Job]:
        """The job that waits longest and others of its kind, in order."""
        kind = self._jobs[0].kind
        chosen = [job for job in self._jobs if job.kind == kind][: self._batch]
        taken = set(map(id, chosen))
        self._jobs = deque(job for job in self._jobs if id(job) not in taken)
        return chosen

    def _answer(self, jobs: list[_Job]) -> None:
        handler = self._handlers[jobs[0].kind]
        try:
            results = handler([job.given for job in jobs])
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].answer.set_exception(error)
                return
            for job in jobs:
                self._answer([job])
            return
        for job, result in zip(jobs, results, strict=True):
            job.answer.set_result(result)
