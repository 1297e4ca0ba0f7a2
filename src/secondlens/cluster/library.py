"""Ray itself: imported when used, quiet, silent towards its makers, and on loopback unless a cluster is named."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from secondlens.errors import ClusterError, MissingExtra

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
