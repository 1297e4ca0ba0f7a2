"""Actors that hold the model, and pieces of work handed to them by Ray's own pool.

Ray places the actors, restarts one whose process is lost and repeats the piece that it had: nothing else is lost. An
actor whose *machine* is lost waits for room elsewhere; when no more pieces wait, an idle actor makes it.

Ray itself: imported when used, quiet, silent towards its makers, and on loopback unless a cluster is named.
"""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from secondlens.errors import ClusterError, MissingExtra, SecondLensError
from secondlens.surveys.cluster.costs import Tally

RETRIES = 3
"""How often a piece may lose its worker, and a worker be restarted."""
TICK = 0.3
"""Seconds between two looks at the progress."""


@dataclass(frozen=True)
class Failure:
    """An error of a worker that the user can repair. message: of the error itself."""

    node: str
    message: str


@dataclass(frozen=True)
class Piece:
    """One finished piece of work. number: its place among those that were handed out. seconds: what it took."""

    number: int
    node: str
    items: int
    seconds: float
    content: Any


@dataclass(frozen=True)
class Share:
    """What each worker gets. threads: of torch. decoders: processes that decode images. gpu: a whole one."""

    workers: int
    threads: int
    decoders: int
    gpu: bool


def share_out(ray: Any, workers: int | None, threads: int | None, decoders: int | None, gpu: bool) -> Share:
    """Fill in what was not asked for: a worker a GPU; without GPUs a worker a node, with all of its cores.

    Raises `ClusterError` for more workers than the cluster has room for.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    cores = [int(node["CPU"]) for node in nodes]
    if not nodes:
        raise ClusterError("expected a cluster with at least one node that has CPUs, it has none; start one first")
    for value, option in ((workers, "--workers"), (threads, "--threads")):
        if value is not None and value < 1:
            raise ClusterError(f"expected at least 1 of {option}, got {value}")
    if gpu:
        gpus = int(sum(node.get("GPU", 0) for node in nodes))
        wanted = gpus if workers is None else workers
        if not gpus or wanted > gpus:
            raise ClusterError(
                f"{max(wanted, 1)} workers on cuda need a GPU each, the cluster has {gpus}; "
                "give fewer --workers, or --device cpu"
            )
        return Share(wanted, threads or 1, 4 if decoders is None else decoders, gpu)
    wanted = workers or (len(nodes) if threads is None else sum(count // threads for count in cores))
    each = threads or max(1, min(cores) // -(-wanted // len(nodes)))
    room = sum(count // each for count in cores)
    if wanted > room or wanted < 1:
        raise ClusterError(
            f"{max(wanted, 1)} workers of {each} cores do not fit the cluster's {sum(cores)} cores on {len(nodes)} "
            f"node{'s' if len(nodes) > 1 else ''}; give --workers {room} or less, or fewer --threads"
        )
    return Share(wanted, each, (min(4, each) if each > 1 else 0) if decoders is None else decoders, gpu)


class Crew:
    """Workers of one class, from the beginning to the end of a `with` block.

    made: the class, with a method `start()`, one `node()`, and those given to `map`, which return a `Piece` or a
    `Failure`. arguments: its constructor's; small, so that Ray keeps them for a restart.
    """

    def __init__(self, ray: Any, made: type, arguments: Sequence[Any], share: Share) -> None:
        self.ray, self.share = ray, share
        self._made, self._arguments = made, arguments
        self._actors: list[Any] = []
        self._nodes: list[str] = []

    def __enter__(self) -> "Crew":
        ray = self.ray
        remote = ray.remote(
            num_cpus=1 if self.share.gpu else self.share.threads,
            num_gpus=1 if self.share.gpu else 0,
            max_restarts=RETRIES,
            max_task_retries=RETRIES,
        )(self._made)
        self._tally = ray.remote(num_cpus=0)(Tally).remote()
        self._actors = [remote.remote(*self._arguments) for _ in range(self.share.workers)]
        return self

    def __exit__(self, *error: object) -> None:
        for actor in (*self._actors, self._tally):
            self.ray.kill(actor)

    def start(self) -> list[Any]:
        """Every worker's report, once all are ready; raises `ClusterError` naming the node of one that cannot be."""
        with self._errors():
            found = self.ray.get([actor.start.remote() for actor in self._actors])
            self._nodes = self.ray.get([actor.node.remote() for actor in self._actors])
        for one in found:
            _raise(one)
        return found

    def map(self, method: str, tasks: Sequence[Any], shared: Any) -> Iterator[Piece | None]:
        """`method(number, task, shared, tally)` of every task by whichever worker is free: pieces as they are finished,
        and None a few times a second in between. tally: a handle to tell how many items of a task are done.

        Raises `ClusterError` for what a worker reports, and for a piece that lost its worker again and again.
        """
        from ray.util import ActorPool

        self.ray.get(self._tally.clear.remote())
        pool, common = ActorPool(self._actors), self.ray.put(shared)

        def call(actor: Any, numbered: tuple[int, Any]) -> Any:
            return getattr(actor, method).remote(*numbered, common, self._tally)

        for numbered in enumerate(tasks):
            pool.submit(call, numbered)
        with self._errors():
            while pool.has_next():
                try:
                    found = pool.get_next_unordered(timeout=TICK)
                except TimeoutError:
                    self._make_room(pool)
                    yield None
                    continue
                _raise(found)
                yield found

    def done(self) -> dict[str, int]:
        """Items that the pieces in work and those finished have done, by node."""
        return self.ray.get(self._tally.read.remote())

    def _make_room(self, pool: Any) -> None:
        """For an actor whose machine is lost, give up one that has nothing to do."""
        alive = {node["NodeID"] for node in self.ray.nodes() if node["Alive"]}
        for node in [node for node in self._nodes if node not in alive]:
            idle = pool.pop_idle()
            if idle is None:
                return
            self._nodes.remove(node)
            self._actors.remove(idle)
            self.ray.kill(idle)

    def _errors(self) -> Any:
        return _RayErrors(self.ray)


class _RayErrors:
    """Ray's errors as ours, with the reason in one line."""

    def __init__(self, ray: Any) -> None:
        self.ray = ray

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        exceptions = self.ray.exceptions
        # A defect of ours keeps its traceback.
        if isinstance(error, exceptions.RayTaskError) or not isinstance(error, exceptions.RayError):
            return
        raise ClusterError(
            f"a worker was lost {RETRIES + 1} times ({type(error).__name__}: {error}), perhaps for want of memory: "
            "give fewer --workers or a smaller --batch-size; finished parts are kept: the same command goes on"
        ) from error


def _raise(found: Any) -> None:
    if isinstance(found, Failure):
        raise ClusterError(f"node {found.node}: {found.message}; finished parts are kept")


def guarded(node: str, work: Callable[[], Any]) -> Any:
    """What `work` returns; a `Failure` where the user can repair what it raised."""
    import torch

    try:
        return work()
    except (MemoryError, torch.OutOfMemoryError) as error:
        return Failure(node, f"out of memory ({' '.join(str(error).split())[:200]}); give a smaller --batch-size")
    except SecondLensError as error:
        return Failure(node, str(error))


LOOPBACK = "127.0.0.1"
OBJECTS = 2 * 2**30
"""Shared memory for what travels between processes of one machine, in bytes: a few shards; the rest goes to disk."""


def ray_library() -> Any:
    """The module `ray`; raises `MissingExtra` where it is not installed."""
    # Read when ray is imported: usage reports are off, whatever a configuration file says.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Without it every process would print that a future default for GPUs is coming.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Idle processes started in advance would only take the cores from the actors that start then.
    os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
    try:
        import ray
    except ImportError as error:
        raise MissingExtra("ray", "cluster", "a survey on a cluster") from error
    return ray


@contextmanager
def connected(address: str | None = None, cpus: int | None = None) -> Iterator[Any]:
    """Ray, connected: to the cluster at `address`, to the one this process is connected to already, or to a new one of
    this machine alone, which listens on loopback only and ends with the block.

    cpus: how many of the cores a new one may use. Raises `ClusterError` where there is no cluster at the address.
    """
    variable = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
    before = os.environ.get(variable)
    if address is None:
        # Ray's way to say "this machine alone": the node's address is then loopback, and its servers listen there only.
        os.environ[variable] = "0"
    ray = ray_library()
    if ray.is_initialized():
        yield ray
        return
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        # "local" rather than None, which would also join a cluster that happens to run here.
        options |= {"address": "local", "num_cpus": cpus, "include_dashboard": False}
        options |= {"_node_ip_address": LOOPBACK, "object_store_memory": OBJECTS}
    else:
        options["address"] = address
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = "on this machine" if address is None else f"at {address}"
        raise ClusterError(
            f"cannot reach a Ray cluster {where} ({error}); start one with: ray start --head, and give its address"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()
        if address is None and before is None:
            os.environ.pop(variable, None)
