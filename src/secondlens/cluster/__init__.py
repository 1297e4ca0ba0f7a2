"""The same surveys and descriptions on many machines or GPUs, through Ray; the only place that imports it."""

from secondlens.cluster.costs import NodeCost
from secondlens.cluster.describe import cluster_describe
from secondlens.cluster.survey import cluster_survey

__all__ = ["NodeCost", "cluster_describe", "cluster_survey"]
