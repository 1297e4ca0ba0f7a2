"""What does a set of images show more often than the survey set? Counts of concepts and neurons, with significance.

1. On each image of the set, and on each surveyed image, note which neurons are active and which texts are among the
   first `first` by score. For the surveyed images the atlas itself says it: a neuron that is active on one has it
   among its top images, with norm and projection. No surveyed image is read again.
2. For each text (and each neuron), with k of M images here and K of M + N in all: if the M were drawn at random from
   all, k would be hypergeometric. p = P(at least k), Fisher's exact test, one-sided: what a permutation test of the
   count converges to.
3. q: p-values corrected for the number of texts (neurons) that occur at all, Benjamini and Hochberg 1995: of what has
   q < 0.05, 5 % or less are expected to be false discoveries.

An atlas whose top images are fewer than the percentile asks for knows the activity above its smallest top norm alone:
then that is the threshold, on both sides.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from scipy.sparse import csr_array
from scipy.stats import false_discovery_control, hypergeom
from torch import Tensor

from secondlens.analysis.concepts.find import ConceptFinder
from secondlens.data.loader import Skipped, stream
from secondlens.data.sources import ImageSource
from secondlens.errors import ImageError
from secondlens.progress import RUNNING, Running

FIRST = 20
"""Words of an image that count as what it shows."""

CHUNK = 256
"""Surveyed images scored at once."""


@dataclass(frozen=True)
class Excess:
    """How often here and in the survey, and how surprising that is. q_value: corrected for all that were tested."""

    count: int
    images: int
    survey_count: int
    survey_images: int
    p_value: float
    q_value: float


@dataclass(frozen=True)
class Comparison:
    """concepts: text and excess. neurons: layer, neuron and excess. Both by p-value, then by share of images here."""

    images: int
    skipped: list[Skipped]
    concepts: list[tuple[str, Excess]]
    neurons: list[tuple[int, int, Excess]]
    raised: bool


def compare(
    finder: ConceptFinder,
    source: ImageSource,
    *,
    first: int = FIRST,
    running: Running = RUNNING,
) -> Comparison:
    """Compare a set of images with the survey set of the finder's atlas; all texts and neurons that occur here.

    `raised`: the thresholds were raised to the smallest top norms. The images must not be those of the survey.

    Raises `ImageError` where no image can be read.
    """
    raised = not finder.exact
    finder = finder.within_top()
    counts = {index: np.zeros(finder.model.neurons, dtype=np.int64) for index in finder.meters}
    rows: list[Tensor] = []
    images = stream(source, finder.model.preprocessing.transform, range(len(source.ids)), running)
    for batch in images:
        activity = finder.measure(batch.pixels)
        for index, seen in activity.items():
            counts[index] += seen.active.sum(dim=0).cpu().numpy()
        rows.append(finder.rows(activity, first))
    skipped = images.skipped
    if not rows:
        raise ImageError(
            f"none of {len(source.ids)} images can be read (first: {skipped[0].reason if skipped else 'none'})"
        )
    mine = torch.cat(rows)
    theirs, survey_counts = survey_rows(finder, first)
    size, survey_size = len(mine), finder.atlas.manifest.images.count
    texts = len(finder.words.texts)
    found = excesses(_occurrences(mine, texts), size, _occurrences(theirs, texts), survey_size)
    layers = list(finder.meters)
    neurons = excesses(
        np.concatenate([counts[index] for index in layers]),
        size,
        np.concatenate([survey_counts[index] for index in layers]),
        survey_size,
    )
    return Comparison(
        images=size,
        skipped=skipped,
        concepts=_ordered([(finder.words.texts[row], excess) for row, excess in found.items()]),
        neurons=_ordered(
            [
                (layers[place // finder.model.neurons], place % finder.model.neurons, excess)
                for place, excess in neurons.items()
            ]
        ),
        raised=raised,
    )


def survey_rows(finder: ConceptFinder, first: int) -> tuple[Int[Tensor, "image rank"], dict[int, np.ndarray]]:
    """First texts of each surveyed image, and how many of them each neuron is active on, from the atlas alone.

    Exact where no threshold lies below a neuron's smallest top norm.
    """
    count = len(finder.atlas.source_ids)
    weights, active_counts = {}, {}
    for index, meter in finder.meters.items():
        layer = meter.layer
        norms = layer.top_norms.double()
        active = norms > meter.thresholds.norms[:, None]
        values = norms if finder.rule == "paper" else layer.top_projections.double()
        neuron, _ = np.nonzero(active.numpy())
        places = (layer.top_positions[active].numpy(), neuron)
        weights[index] = csr_array((values[active].numpy(), places), shape=(count, len(norms)))
        active_counts[index] = active.sum(dim=1).numpy()
    found = []
    for start in range(0, count, CHUNK):
        part = {index: csr_array(matrix[start : start + CHUNK]) for index, matrix in weights.items()}
        found.append(finder.words.first(part, first))
    # Skipped images have no active neuron and so no text: they count nowhere.
    return torch.cat(found), active_counts


def excesses(here: np.ndarray, images: int, survey: np.ndarray, survey_images: int) -> dict[int, Excess]:
    """Excess of each row that occurs here, by row; q-values are corrected for all rows that occur anywhere."""
    tested = np.flatnonzero(here + survey)
    if not len(tested):
        return {}
    both = here[tested] + survey[tested]
    p = np.clip(hypergeom.sf(here[tested] - 1, images + survey_images, both, images), 0, 1)
    q = false_discovery_control(p)
    return {
        int(row): Excess(int(here[row]), images, int(survey[row]), survey_images, float(p[place]), float(q[place]))
        for place, row in enumerate(tested)
        if here[row]
    }


def _occurrences(rows: Int[Tensor, "image rank"], texts: int) -> np.ndarray:
    return torch.bincount(rows[rows >= 0], minlength=texts).numpy()


def _ordered(found: list) -> list:
    return sorted(found, key=lambda item: (item[-1].p_value, -item[-1].count))
