"""`METRICS`: the registry of what an atlas holds per unit, stored tensors and numbers computed from them.

The store, `secondlens neurons`, cards, the viewer's site, the planner's bytes and the tables of docs/atlas.md read it.
A computed metric is one entry here and one row of docs/atlas.md; a stored one also a field of `lens.layer.LayerResult`
and a property of `atlas.store.AtlasLayer`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Shaped
from torch import Tensor

from secondlens.numerics.histogram import BINS

if TYPE_CHECKING:
    from secondlens.atlas.store import AtlasLayer

Dimension = Literal["path", "embed", "component", "top", "bin"]
Format = Literal["number", "percent"]


@dataclass(frozen=True)
class Metric:
    """A tensor with a row per unit.

    shape: dimensions of a row; none for one number. description: its meaning, as in docs/atlas.md. compute: from an
    opened layer; None where the layer's file stores it. card, listed, drawn: its rank among the numbers of a card
    (`neurons show`), the columns of `neurons list` and those of the viewer (charts, filters, export), which are sorted
    by rank and, of one rank, in the registry's order; None where it is absent. title: in the viewer. short: heading of
    the viewer's table. heading: of `neurons list`. about: tooltip in the viewer. format, is_log: how values are written
    and scaled in the viewer. in_table: a column of the viewer's table of neurons.
    """

    name: str
    description: str
    shape: tuple[Dimension, ...] = ()
    dtype: torch.dtype = torch.float32
    compute: "Callable[[AtlasLayer], Tensor] | None" = None
    card: int | None = None
    listed: int | None = None
    drawn: int | None = None
    title: str = ""
    short: str = ""
    heading: str = ""
    about: str = ""
    format: Format = "number"
    is_log: bool = False
    in_table: bool = False

    @property
    def is_stored(self) -> bool:
        """Whether the layer's file holds it."""
        return self.compute is None

    def values(self, layer: "AtlasLayer") -> Shaped[Tensor, "unit ..."]:
        """Return a row per unit, read or computed."""
        if self.compute is not None:
            return self.compute(layer)
        tensor: Tensor = getattr(layer, self.name)
        return tensor

    def bytes_per_unit(self, sizes: Mapping[Dimension, int]) -> int:
        """Return the bytes of a row on disk, 0 for a computed metric. sizes: of the dimensions."""
        return prod(sizes[dimension] for dimension in self.shape) * self.dtype.itemsize if self.is_stored else 0

    def described(self) -> dict[str, Any]:
        """Return what the viewer's front end has to know, as it stands in `site.json`."""
        return {
            "name": self.name,
            "title": self.title or self.name.replace("_", " ").capitalize(),
            "short": self.short or self.title or self.name,
            "about": self.about or self.description,
            "format": self.format,
            "log": self.is_log,
            "table": self.in_table,
            "card": self.card is not None,
        }


METRICS: tuple[Metric, ...] = (
    Metric("mean_coefficients", "mean of s", ("path",)),
    Metric("mean_effects", "mean of phi", ("embed",)),
    Metric("directions", "r, unit norm; zero for a neuron without effect", ("embed",)),
    Metric(
        "explained_variance",
        "fraction of the top images' energy along the first component",
        card=0,
        listed=0,
        drawn=0,
        title="Explained variance",
        short="Explained",
        heading="explained",
        about="Share of the top images’ effects along the one direction",
        format="percent",
        in_table=True,
    ),
    Metric("spectrum", "fractions along the first components", ("component",)),
    Metric(
        "participation",
        "(sum l)^2 / sum l^2 over the eigenvalues l: the effective rank",
        card=1,
        listed=5,
        drawn=6,
        title="Effective rank",
        short="Rank",
        heading="rank",
        about="Effective number of directions among the top images’ effects",
    ),
    Metric("components", "v with r_j = sum_k v_j[k] u[k]", ("component", "path")),
    Metric("path_projections", "<u[k], r>: the projection of an effect is sum_k (s[k] - mean[k]) of them", ("path",)),
    Metric("path_fractions", "signed, sum to one", ("path",)),
    Metric("top_positions", "rows of `images.parquet`", ("top",), torch.int64),
    Metric("top_norms", "descending", ("top",)),
    Metric("top_projections", "of the same images on r", ("top",)),
    Metric(
        "top_fraction",
        "fraction of the sum of squared norms over all images that the top ones make up",
        card=4,
        listed=4,
        drawn=5,
        title="Share of the top images",
        short="Top share",
        heading="top frac.",
        about="Share of the top images in the sum of squared norms",
        format="percent",
    ),
    Metric("variance", "mean of squared norms"),
    Metric(
        "histogram",
        "counts of norms around the mean of the images until then, bins of a quarter octave from 2^-20 to 2^4",
        ("bin",),
        torch.int32,
    ),
    Metric("certified", "no other image can belong to the top, by one pass or a second one", dtype=torch.bool),
    Metric(
        "tied",
        "a second pass did not certify it either: another image equals the last of the top to within rounding",
        dtype=torch.bool,
    ),
    Metric(
        "selectivity",
        "fraction of the images with at least half the largest norm, from the histogram",
        compute=lambda layer: layer.selectivity,
        card=3,
        listed=3,
        drawn=1,
        title="Selectivity",
        short="Selectivity",
        heading="selectivity",
        about="Share of images with at least half the largest effect; small for a selective neuron",
        format="percent",
        in_table=True,
    ),
    Metric(
        "top_norm",
        "the largest norm",
        compute=lambda layer: layer.top_norms[:, 0],
        listed=1,
        drawn=2,
        title="Largest effect",
        short="Largest",
        heading="largest",
        about="Largest norm of the effect, in units of the image embedding",
        is_log=True,
        in_table=True,
    ),
    Metric(
        "threshold",
        "the smallest norm of the top: above it an effect counts as significant",
        compute=lambda layer: layer.thresholds,
        card=2,
        listed=2,
        drawn=3,
        title="Threshold",
        short="Threshold",
        heading="threshold",
        about="Smallest norm among the top images: above it an effect counts as significant",
        is_log=True,
    ),
    Metric(
        "root_mean_square",
        "square root of the variance",
        compute=lambda layer: layer.variance.sqrt(),
        card=5,
        drawn=4,
        title="Typical effect",
        short="Typical",
        about="Root mean square of the effect’s norm over all images",
        is_log=True,
    ),
)
"""Stored tensors in the order of `lens.layer.LayerResult`, then computed numbers."""


def stored_metrics() -> list[Metric]:
    """Return the tensors of a layer's file."""
    return [metric for metric in METRICS if metric.is_stored]


def metrics_in(view: Literal["card", "listed", "drawn"]) -> list[Metric]:
    """Return the metrics of a view, by rank."""
    ranks = [(getattr(metric, view), metric) for metric in METRICS]
    return [metric for _, metric in sorted((pair for pair in ranks if pair[0] is not None), key=lambda pair: pair[0])]


def layer_bytes(units: int, sizes: Mapping[Dimension, int]) -> int:
    """Return the bytes of a layer's tensors on disk."""
    return units * sum(metric.bytes_per_unit(sizes) for metric in METRICS)


def markdown_table(metrics: list[Metric]) -> str:
    """Return the rows of docs/atlas.md for some metrics."""
    lines = ["| name | shape | meaning |", "| --- | --- | --- |"]
    for metric in metrics:
        shape = ", ".join(["neuron", *(str(BINS) if size == "bin" else size for size in metric.shape)])
        kind = "" if metric.dtype == torch.float32 else f" ({str(metric.dtype).removeprefix('torch.')})"
        lines.append(f"| `{metric.name}` | {shape}{kind} | {metric.description} |")
    return "\n".join(lines) + "\n"
