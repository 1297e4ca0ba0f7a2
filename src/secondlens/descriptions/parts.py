"""The parts in which an atlas's directions are decomposed: some neurons of a layer, or random directions of one kind.

What a part gives depends on nothing but the part: so parts may be made in any order, on any machine, and kept.
"""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from secondlens.descriptions.null import NULLS, cosines, null_cosines
from secondlens.descriptions.senses import WORDS
from secondlens.descriptions.store import DescriptionSettings
from secondlens.descriptions.tables import code_shares
from secondlens.numerics.sparse.codes import SparseCodes, sparse_decompose

SIZES = (4, 8, 16, 32, 64, 128)
PART = 1024
"""Neurons decomposed between two files of progress: a quarter of a minute at 30,000 texts."""


@dataclass(frozen=True)
class Part:
    """kind: of random directions, one of `NULLS`; None for the layer's neurons `start` to `stop` - 1."""

    layer: int
    start: int
    stop: int
    kind: str | None = None

    @property
    def file(self) -> str:
        """Its file of progress."""
        return f"layer-{self.layer:02d}-{self.kind or format(self.start, '06d')}.safetensors"

    @property
    def signals(self) -> int:
        """How many directions it decomposes."""
        return self.stop - self.start


def parts_of(layer: int, neurons: int, null_draws: int) -> list[Part]:
    """All parts of a layer, in order."""
    parts = [Part(layer, start, min(start + PART, neurons)) for start in range(0, neurons, PART)]
    return parts + [Part(layer, 0, null_draws, kind) for kind in NULLS if null_draws]


def sizes_of(settings: DescriptionSettings) -> list[int]:
    """The numbers of texts that figures are given for."""
    return [size for size in SIZES if size < settings.nonzero] + [settings.nonzero]


def decompose_part(
    part: Part,
    directions: Float[Tensor, "neuron embed"],
    embeddings: Float[Tensor, "text embed"],
    settings: DescriptionSettings,
    device: str = "cpu",
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Tensor]:
    """What is kept of a part: the codes of neurons, or the cosines of random directions. directions: the layer's."""

    def decompose(signals: Tensor) -> SparseCodes:
        return sparse_decompose(
            signals.to(device),
            embeddings,
            settings.nonzero,
            nonnegative=settings.nonnegative,
            normalisation=settings.normalisation,
            progress=lambda done, _: progress(done),
        )

    if part.kind is not None:
        draws = null_cosines(part.kind, part.stop, directions, decompose, sizes_of(settings), settings.seed)
        return {"cosines": draws.cpu().contiguous()}
    codes = decompose(directions[part.start : part.stop])
    few = codes.prefix(min(WORDS, settings.nonzero))
    return {
        "few_coefficients": few.coefficients.float().cpu(),
        "few_fractions": code_shares(few).float().cpu(),
        "indices": codes.indices.int().cpu(),
        "coefficients": codes.coefficients.float().cpu(),
        "fractions": code_shares(codes).float().cpu(),
        "cosines": cosines(codes, sizes_of(settings)).cpu(),
    }
