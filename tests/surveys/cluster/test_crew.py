"""What workers may work together, what is left to do, and what a cluster must not do."""

import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from cluster_runs import SETTINGS

from secondlens.errors import ClusterError, SurveyError
from secondlens.lens import LensModel
from secondlens.surveys.cluster.costs import Costs, Tally
from secondlens.surveys.cluster.crew import Crew, Failure, Share, guarded, share_out
from secondlens.surveys.cluster.report import check_reports, report, versions


def test_what_workers_say_is_checked(crew: Crew, loaded: LensModel) -> None:
    one, two = crew.start()
    assert one.process != two.process
    mine = report("here", loaded, SETTINGS["batch_size"])
    assert (one.versions, one.weights, one.rounding) == (mine.versions, mine.weights, mine.rounding)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_reports([one, two], loaded.weights_hash, 2**20)
    for name, change, message in (
        ("versions", {**versions(), "torch": "1.0"}, r"node .* has torch 1.0, this machine has"),
        ("versions", {**versions(), "secondlens": "0.0.1"}, r"node .* has secondlens 0.0.1"),
        ("weights", "0" * 64, r"node .* loaded a model with other weights"),
    ):
        with pytest.raises(ClusterError, match=message):
            check_reports([one, replace(two, **{name: change})], loaded.weights_hash, 0)
    with pytest.warns(UserWarning, match="round differently"):
        check_reports([one, mine, replace(two, rounding="other", node="far")], loaded.weights_hash, 0)


def test_memory_is_asked_of_each_node(loaded: LensModel) -> None:
    one = replace(report("a", loaded, 2), memory=3 * 2**30)
    check_reports([one], loaded.weights_hash, 2 * 2**30)
    with pytest.raises(ClusterError, match=r"node a has 3.0 GiB of free memory, 2 workers need about 4.0 GiB"):
        check_reports([one, one], loaded.weights_hash, 2 * 2**30)
    gpu = replace(one, device="Tiny GPU")
    check_reports([gpu, gpu], loaded.weights_hash, 2 * 2**30)
    with pytest.raises(ClusterError, match=r"node a has 3.0 GiB of free memory on its Tiny GPU, 1 worker needs"):
        check_reports([gpu], loaded.weights_hash, 4 * 2**30)


def test_costs_and_tallies_add_up() -> None:
    costs = Costs(["a", "a", "b"])
    for node, items, seconds in (("a", 30, 2.0), ("a", 30, 2.0), ("b", 10, 4.0), ("c", 1, 1.0)):
        costs.add(node, items, seconds)
    by_name = {cost.node: cost for cost in costs.nodes()}
    assert (by_name["a"].workers, by_name["a"].pieces, by_name["a"].items) == (2, 2, 60)
    # Two workers, each of them 15 images a second.
    assert by_name["a"].rate == 30
    assert by_name["b"].rate == 2.5
    assert by_name["c"].workers == 1
    tally = Tally()
    tally.put(0, "a", 5)
    tally.put(1, "b", 3)
    # Lost, and begun anew elsewhere.
    tally.put(0, "b", 1)
    assert tally.read() == {"b": 4}


def test_errors_of_a_worker_come_back_as_values() -> None:
    def fail(error: Exception) -> Any:
        raise error

    assert guarded("n", lambda: 3) == 3
    assert guarded("n", lambda: fail(SurveyError("bad"))) == Failure("n", "bad")
    out = guarded("n", lambda: fail(torch.OutOfMemoryError("CUDA out of memory")))
    assert out.message.startswith("out of memory (CUDA out of memory)")
    with pytest.raises(ZeroDivisionError):
        guarded("n", lambda: 1 / 0)


def test_an_idle_worker_makes_room_for_one_whose_machine_is_lost() -> None:
    """With a Ray that only says which nodes are alive and which actors were given up."""

    class Nodes:
        killed: ClassVar[list[str]] = []

        def nodes(self) -> list[dict[str, Any]]:
            return [{"NodeID": "alive", "Alive": True}, {"NodeID": "gone", "Alive": False}]

        def kill(self, actor: str) -> None:
            self.killed.append(actor)

    class Pool:
        idle: ClassVar[list[str]] = []

        def pop_idle(self) -> str | None:
            return self.idle.pop() if self.idle else None

    crew, pool = Crew(Nodes(), object, (), Share(3, 1, 0, False)), Pool()
    crew._actors, crew._nodes = ["one", "two", "three"], ["alive", "gone", "alive"]
    crew._make_room(pool)
    assert not Nodes.killed
    Pool.idle.extend(["one", "three"])
    crew._make_room(pool)
    crew._make_room(pool)
    assert Nodes.killed == ["three"]
    assert crew._actors == ["one", "two"]


def test_what_is_not_asked_for_is_filled_in() -> None:
    class Nodes:
        def __init__(self, *resources: dict[str, float]) -> None:
            self.resources = resources

        def nodes(self) -> list[dict[str, Any]]:
            return [{"Alive": True, "Resources": one} for one in self.resources]

    two = Nodes({"CPU": 8.0, "GPU": 4.0}, {"CPU": 4.0})
    assert share_out(two, None, None, None, True) == Share(4, 1, 4, True)
    # A worker a node, and no more threads than the smallest node has cores.
    assert share_out(two, None, None, None, False) == Share(2, 4, 4, False)
    assert share_out(two, None, 2, None, False) == Share(6, 2, 2, False)
    assert share_out(two, 4, None, 0, False) == Share(4, 2, 0, False)
    assert share_out(two, 12, 1, None, False) == Share(12, 1, 0, False)
    with pytest.raises(ClusterError, match="5 workers on cuda need a GPU each, the cluster has 4"):
        share_out(two, 5, None, None, True)
    with pytest.raises(ClusterError, match="expected a cluster with at least one node"):
        share_out(Nodes(), None, None, None, False)


@pytest.mark.skipif(not Path("/proc/net/tcp").is_file(), reason="the kernel of this system does not say")
def test_nothing_listens_beyond_this_machine(crew: Crew) -> None:
    """Every listening socket of this session's Ray processes, by the kernel's own tables."""
    ours = {str(pid) for pid in processes_of(crew)}
    sockets = set()
    for pid in ours:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = str(descriptor.readlink())
            except OSError:
                continue
            if target.startswith("socket:["):
                sockets.add(target[8:-1])
    listening = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in sockets:
                listening.append(fields[1].split(":")[0])
    assert listening
    # 127.0.0.1, and the same written as an IPv6 address.
    assert set(listening) <= {"0100007F", "0000000000000000FFFF00000100007F"}


def processes_of(crew: Crew) -> list[int]:
    """Everything below this process."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    import os

    found, waiting = [], [os.getpid()]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += [child for child, parent in parents.items() if parent == pid]
    assert len(found) > 3
    return found


def test_usage_is_not_reported(ray: Any) -> None:
    from ray._common.usage import usage_lib

    assert not usage_lib.usage_stats_enabled()


WITHOUT = """
import sys
sys.modules["ray"] = None
from secondlens.surveys.cluster.crew import ray_library
try:
    ray_library()
except Exception as error:
    print(type(error).__name__, error)
"""


def test_without_ray_the_extra_is_named() -> None:
    said = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True).stdout
    assert said.startswith("MissingExtra")
    assert "secondlens[cluster]" in said
