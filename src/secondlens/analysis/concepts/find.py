"""What is in this image? Concept discovery through active neurons (Gandelsman et al. 2025, appendix).

1. A neuron is active where the norm of its effect, around the survey's mean, is above a percentile of the survey.
2. The score of a text is the sum over active neurons of the neuron's weight on the image times its factor for the text;
   `words` has three rules for both, the paper's among them.
3. What stands behind a text: the terms of that sum are its neurons. As both weights are linear in the neurons'
   coefficients on the image (`activity`), each term is also a sum over paths, and over tokens and one constant, the
   survey's mean. So neurons, paths, and tokens with the constant, sum to the score.
"""

from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path as FilePath

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from secondlens.analysis.concepts.activity import LayerActivity, LayerMeter, layer_meters
from secondlens.analysis.concepts.words import (
    AlignedWords,
    DescribedWords,
    Rule,
    Words,
    check_rule,
    sparse,
)
from secondlens.atlas.store import Atlas
from secondlens.data.decode import read_image
from secondlens.descriptions.pool import Pool
from secondlens.descriptions.pools import described_pool
from secondlens.descriptions.store import Descriptions
from secondlens.errors import SecondLensError
from secondlens.lens.capture import capture
from secondlens.lens.model import LensModel
from secondlens.lens.paths import Path
from secondlens.lens.second_order import token_contributions
from secondlens.lens.trace import Trace


@dataclass(frozen=True)
class ActiveNeuron:
    """A neuron whose effect is unusually large on the image. weight: what its words are multiplied by."""

    layer: int
    neuron: int
    norm: float
    threshold: float
    projection: float
    weight: float


@dataclass(frozen=True)
class NeuronTerm:
    """A neuron's part in a concept: contribution = factor * weight."""

    layer: int
    neuron: int
    factor: float
    contribution: float


@dataclass(frozen=True, eq=False)
class Concept:
    """A text and what stands behind it. neurons, paths: by falling size; each sums to the score.

    tokens: contribution of each token, as in the model; with `constant` (what the mean takes away) they sum to it too.
    """

    text: str
    row: int
    score: float
    neurons: list[NeuronTerm]
    paths: list[tuple[Path, float]]
    tokens: Float[Tensor, " token"]
    constant: float


@dataclass(frozen=True, eq=False, repr=False)
class ImageConcepts:
    """neurons: active ones, by how far they are above their threshold. concepts: by falling score."""

    neurons: list[ActiveNeuron]
    concepts: list[Concept]

    def __repr__(self) -> str:
        first = ", ".join(concept.text for concept in self.concepts[:3])
        return f"ImageConcepts({len(self.concepts)} concepts: {first}; {len(self.neurons)} active neurons)"


def find_concepts(
    model: LensModel,
    atlas: Atlas,
    image: str | FilePath | Image.Image,
    descriptions: Descriptions | None = None,
    *,
    limit: int = 20,
) -> ImageConcepts:
    """Name what one image shows, with the neurons, paths and tokens behind each word.

    image: a path, or a PIL image. descriptions: of the atlas, by default the latest. `ConceptFinder` is for many
    images and has further options.
    """
    finder = ConceptFinder(model, atlas, descriptions or Descriptions.open(atlas))
    return finder.find(model.preprocess([read_image(image)]), limit)


class ConceptFinder:
    """Finds concepts in images, by an atlas and its descriptions over one pool.

    pool: that of the descriptions, opened by its name where it is not given and the rule needs it. percentile: see
    `norm_thresholds`. rule: see `words`. meters: of the atlas's layers, where they are there already; they hold the
    write directions' Gram factors.

    Raises `AtlasError` for an atlas of another model or a layer that is not described, `TextError` where the pool is
    not there any more, `SecondLensError` for an unknown rule or a percentile outside 0 to 100.
    """

    def __init__(
        self,
        model: LensModel,
        atlas: Atlas,
        descriptions: Descriptions,
        pool: Pool | None = None,
        *,
        percentile: float = 98.0,
        rule: Rule = "alignment",
        meters: dict[int, LayerMeter] | None = None,
    ) -> None:
        check_rule(rule)
        atlas.require_model(model)
        self.model, self.atlas, self.rule = model, atlas, rule
        self.words: Words
        if rule == "alignment":
            self.words = AlignedWords(atlas, pool or described_pool(model, descriptions))
        else:
            self.words = DescribedWords(atlas, descriptions)
        self.meters = meters or layer_meters(model, atlas, percentile)

    @property
    def exact(self) -> bool:
        """Whether all thresholds come from the top norms alone."""
        return all(meter.thresholds.exact for meter in self.meters.values())

    def within_top(self) -> "ConceptFinder":
        """The same with thresholds raised to the smallest top norms, above which the atlas knows every image."""
        other = copy(self)
        other.meters = {index: meter.within_top() for index, meter in self.meters.items()}
        return other

    @torch.no_grad()
    def measure(self, pixels: Float[Tensor, "image 3 height width"]) -> dict[int, LayerActivity]:
        """The neurons' activity on a batch, by layer."""
        return self.activity(capture(self.model.tower, pixels, self.atlas.layers))

    def activity(self, trace: Trace) -> dict[int, LayerActivity]:
        """The same from a trace of the atlas's layers."""
        return {index: meter.measure(trace) for index, meter in self.meters.items()}

    def rows(self, activity: dict[int, LayerActivity], limit: int) -> Int[Tensor, "image rank"]:
        """Rows of the pool with the largest scores on each image of a batch; -1 where there are fewer."""
        return self.words.first(sparse({i: seen.weights(self.rule) for i, seen in activity.items()}), limit)

    @torch.no_grad()
    def find(self, pixels: Float[Tensor, "image 3 height width"], limit: int = 20) -> ImageConcepts:
        """Neurons and concepts of one preprocessed image (a batch of one), with all that stands behind them."""
        if len(pixels) != 1:
            raise SecondLensError(f"expected one image, got a batch of {len(pixels)}; give them one by one")
        if limit < 1:
            raise SecondLensError(f"expected at least one concept, got a limit of {limit}")
        # float64 from here on: a concept's parts cancel, and shall still sum to its score.
        trace = capture(self.model.tower, pixels, self.atlas.layers).upcast()
        activity = self.activity(trace)
        weights = {index: seen.weights(self.rule) for index, seen in activity.items()}
        rows = self.words.first(sparse(weights), limit)[0]
        rows = rows[rows >= 0]
        neurons: list[ActiveNeuron] = []
        terms: list[list[NeuronTerm]] = [[] for _ in rows]
        paths: list[dict[Path, float]] = [{} for _ in rows]
        tokens = torch.zeros(len(rows), next(iter(trace.activations.values())).shape[1], dtype=torch.float64)
        constants = torch.zeros(len(rows), dtype=torch.float64)
        for index, seen in activity.items():
            meter = self.meters[index]
            active = seen.active[0].nonzero()[:, 0]
            if not len(active):
                continue
            neurons += _active(index, active, seen, weights[index], meter)
            if not len(rows):
                continue
            factors = self.words.factors(index, active, rows).to(seen.centred)
            centred = seen.centred[0, active]
            along = factors[:, :, None] * meter.sensitivity(centred, active, self.rule)
            some = replace(trace, activations={index: trace.activations[index][:, :, active]})
            tokens += token_contributions(some, self.model.tower, index, along.transpose(1, 2))[0].cpu()
            constants -= torch.einsum("tnk,nk->t", along, meter.mean[active]).cpu()
            by_path = torch.einsum("tnk,nk->tk", along, centred)
            contribution = factors * weights[index][0, active]
            for place in range(len(rows)):
                for path, value in zip(meter.layer.paths, by_path[place].tolist(), strict=True):
                    paths[place][path] = paths[place].get(path, 0.0) + value
                terms[place] += [
                    NeuronTerm(index, neuron, factor, part)
                    for neuron, factor, part in zip(
                        active.tolist(), factors[place].tolist(), contribution[place].tolist(), strict=True
                    )
                    if factor != 0
                ]
        concepts = [
            Concept(
                text=self.words.texts[row],
                row=row,
                score=sum(term.contribution for term in terms[place]),
                neurons=sorted(terms[place], key=lambda term: -abs(term.contribution)),
                paths=sorted(paths[place].items(), key=lambda item: -abs(item[1])),
                tokens=tokens[place],
                constant=float(constants[place]),
            )
            for place, row in enumerate(rows.tolist())
        ]
        return ImageConcepts(sorted(neurons, key=lambda one: -one.norm / max(one.threshold, 1e-30)), concepts)


def _active(
    layer: int, active: Tensor, seen: LayerActivity, weights: Float[Tensor, "image neuron"], meter: LayerMeter
) -> list[ActiveNeuron]:
    columns = (
        active,
        seen.norms[0, active],
        meter.thresholds.norms.to(active.device)[active],
        seen.projections[0, active],
        weights[0, active],
    )
    return [ActiveNeuron(layer, *row) for row in zip(*(column.tolist() for column in columns), strict=True)]
