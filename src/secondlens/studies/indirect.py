"""Table 1: indirect beside second-order effects of one layer's neurons, on the same images.

1. Over reference images: the mean activation of every neuron at every token, and the second-order statistics.
2. Over the same images again: indirect effects of a sample of neurons, around those means.
3. Over labelled images: accuracy unchanged, with the whole layer's activations at their means in the running model
   (indirect), and with all the layer's second-order effects at the atlas's means.

The share that a neuron's first principal component explains is taken from as many images of largest norm for both.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from secondlens.atlas.store import Atlas
from secondlens.atlas.surveyed import require_unchanged
from secondlens.data.labelled import LabelledImages
from secondlens.data.loader import Stream, processing_order, stream
from secondlens.data.sources import ImageSource
from secondlens.errors import SecondLensError
from secondlens.lens.capture import capture
from secondlens.lens.classifier import make_head
from secondlens.lens.indirect import (
    ROWS,
    Clean,
    IndirectResult,
    IndirectStatistics,
    MeanActivations,
    effects_of,
    replaced_embeddings,
)
from secondlens.lens.layer import LayerResult, LayerStatistics
from secondlens.lens.model import LensModel
from secondlens.lens.trace import CaptureRequest
from secondlens.numerics.intervals import bootstrap_interval
from secondlens.progress import RUNNING, Running
from secondlens.studies.projections import Projector

EFFECTS = ("indirect", "second-order")


@dataclass(frozen=True)
class Table1:
    """What was found. right: by "baseline" and the name of an effect, whether each labelled image was classified right.

    neurons: the sample. indirect: of the sample, in its order. second_order: of all the layer's neurons.
    reference: how many images the means and the principal components come from; top: of these, a neuron.
    """

    layer: int
    right: dict[str, Bool[Tensor, " image"]]
    neurons: Int[Tensor, " sample"]
    indirect: IndirectResult
    second_order: LayerResult
    reference: int
    top: int

    def explained(self) -> dict[str, Float[Tensor, " sample"]]:
        """Variance explained by the first component, by effect, of the sample's neurons."""
        return {
            "indirect": self.indirect.explained_variance,
            "second-order": self.second_order.explained_variance[self.neurons],
        }


@torch.no_grad()
def study_table1(
    model: LensModel,
    atlas: Atlas,
    images: LabelledImages,
    reference: ImageSource,
    layer: int,
    *,
    neurons: int | Sequence[int] = 200,
    templates: Sequence[str] | None = None,
    limit: int = 5000,
    rows: int = ROWS,
    seed: int = 0,
    running: Running = RUNNING,
) -> Table1:
    """Both rows of the paper's table 1.

    reference: images for means and principal components, as a rule those of the atlas. neurons: how many to draw at
    random, or which. templates: of a zero-shot classifier; default: those that fit the model.
    limit: reference and labelled images at most, drawn at random.

    Raises `AtlasError` for an atlas of another model or without that layer, `SecondLensError` for neurons that are not
    there, `ImageError` for one of `surveyed_images` that was replaced since the survey.
    """
    atlas.require_model(model)
    opened = atlas.layer(layer)
    chosen = _sample(model.neurons, neurons, seed)

    def read(title: str, source: ImageSource) -> Stream:
        order = processing_order(len(source.ids))[:limit]
        return stream(source, model.preprocessing.transform, order, running, title)

    count = min(limit, len(reference.ids))
    top = min(count, max(2, round(atlas.manifest.top * count / max(1, atlas.manifest.images.count))))
    candidates = min(count, 4 * top)
    activations = MeanActivations()
    second = LayerStatistics(model.tower, layer, candidates, atlas.manifest.convention)
    for batch in read("mean activations", reference):
        trace = capture(model.tower, batch.pixels, [layer])
        require_unchanged(reference, batch.positions, trace.embeddings)
        activations.update(trace.activations[layer])
        second.update(trace, batch.positions)
    means = activations.result()
    top = min(top, activations.count)
    indirect = IndirectStatistics(len(chosen), model.embed_dim, candidates)
    for batch in read("indirect effects", reference):
        clean = Clean.run(model.tower, batch.pixels, layer)
        indirect.update(effects_of(model.tower, layer, clean, means, chosen.tolist(), rows=rows), batch.positions)
    head = make_head(model, images.classes, templates)
    projector = Projector(model, opened)
    right: dict[str, list[Tensor]] = {name: [] for name in ("baseline", *EFFECTS)}
    for batch in read("accuracy", images.source):
        trace = capture(model.tower, batch.pixels, CaptureRequest(layers=[layer], resid_post=[layer]))
        wanted = images.labels[batch.positions].to(model.device)
        after = replaced_embeddings(model.tower, layer, Clean.of(trace, layer), means)
        norms, norms_after = trace.embeddings.norm(dim=1), after.norm(dim=1)
        predicted = {
            "baseline": head.predict(trace.embeddings / norms[:, None], norms),
            "indirect": head.predict(after / norms_after[:, None], norms_after),
            "second-order": head.predict(projector.part(trace).rest, norms),
        }
        for name, classes in predicted.items():
            right[name].append((classes == wanted).cpu())
    return Table1(
        layer=layer,
        right={name: torch.cat(parts) for name, parts in right.items()},
        neurons=chosen,
        indirect=indirect.result(top),
        second_order=second.result(top),
        reference=activations.count,
        top=top,
    )


def _sample(total: int, neurons: int | Sequence[int], seed: int) -> Int[Tensor, " sample"]:
    if isinstance(neurons, int):
        if neurons < 1:
            raise SecondLensError(f"expected at least one neuron, got {neurons}")
        drawn = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
        return drawn[: min(neurons, total)].sort().values
    return torch.tensor(list(neurons), dtype=torch.int64)


def summary(study: Table1) -> dict[str, Any]:
    """The two rows, each with accuracy (95 % interval) and mean, median and quartiles of the explained variance."""
    explained = study.explained()
    return {
        "layer": study.layer,
        "images": len(study.right["baseline"]),
        "reference_images": study.reference,
        "neurons": len(study.neurons),
        "top": study.top,
        "certified": float(study.indirect.certified.float().mean()),
        "baseline": accuracy(study.right["baseline"]),
        "rows": [
            {"effect": name, **accuracy(study.right[name]), "explained_variance": _spread(explained[name])}
            for name in EFFECTS
        ],
    }


def accuracy(right: Tensor) -> dict[str, float]:
    """Share of images classified right, and its 95 % interval."""
    low, high = bootstrap_interval(right)
    return {"accuracy": float(right.float().mean()), "low": low, "high": high}


def _spread(values: Tensor) -> dict[str, float]:
    quartiles = torch.quantile(values.double(), torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)).tolist()
    names = ("lower_quartile", "median", "upper_quartile")
    return {"mean": float(values.double().mean()), **dict(zip(names, quartiles, strict=True))}
