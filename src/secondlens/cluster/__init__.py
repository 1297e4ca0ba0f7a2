"""The same surveys and descriptions on many machines or GPUs, through Ray; the only place that imports it.

Imported when first used: the process that counts images needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from secondlens.cluster.costs import NodeCost
    from secondlens.cluster.describe import cluster_describe
    from secondlens.cluster.survey import cluster_survey

_HOMES = {"NodeCost": "costs", "cluster_describe": "describe", "cluster_survey": "survey"}

__all__ = ["NodeCost", "cluster_describe", "cluster_survey"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'secondlens.cluster' has no attribute {name!r}")
    return getattr(import_module(f"secondlens.cluster.{_HOMES[name]}"), name)
