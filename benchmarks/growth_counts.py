"""What theory says a case takes: multiplications, bytes of memory, bytes on disk; the formulas of docs/scale.md."""

import numpy as np

from benchmarks.growth_cases import SIDE, SparseCase, SurveyCase, model_of
from secondlens.numerics.histogram import BINS
from secondlens.surveys.plan import LIBRARIES, make_plan

# Measured: components of an atlas's layer, bytes of a small JPEG of smooth noise and of an image's row in two tables.
COMPONENTS, JPEG, ROW = 4, 700, 30


def survey_multiplications(case: SurveyCase) -> dict[str, float]:
    """By step; N images, T tokens, n neurons, w width, K paths, e embed, C capacity."""
    N, T, n, w, e, H = case.images, case.tokens, case.neurons, case.width, case.embed, case.heads
    C = min(N, 2 * case.top)
    patches = 3 * SIDE * SIDE * w
    each = {
        "forward pass": N * (patches + case.depth * (T * (4 * w * w + 2 * w * n) + 2 * T * T * w)),
        "attention rows": N * (case.depth - 1) * (2 * w * w + 2 * H * T * w),
    }
    for name in ("coefficients", "norms", "write maps", "Gram factors", "components"):
        each[name] = 0
    for K in case.paths():
        readers = K // H
        each["coefficients"] += N * n * K * T
        each["norms"] += N * n * K * K
        each["write maps"] += readers * w * w * (n + e)
        each["Gram factors"] += n * K * e * (w // H) + n * K * K * e + n * K**3 / 3
        each["components"] += n * (C * K * K + 2 * case.top * K * K + 9 * K**3 + K * e * (w // H))
    return each


def survey_memory(case: SurveyCase) -> float:
    """What the survey's own plan asks for beyond libraries and weights; and thumbnails, which are sorted at the end."""
    model = model_of(case)
    plan = make_plan(model, range(case.layers), case.images, case.top, case.batch, memory=2**40)
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.module.parameters())
    return plan.bytes - LIBRARIES - weights + case.thumbnails * case.images * 2 * JPEG


def survey_disk(case: SurveyCase) -> float:
    """Layers' files, embeddings, table of images, thumbnails."""
    layers = sum(
        case.neurons * (4 * (2 * case.embed + 3 * K + COMPONENTS * (K + 1)) + 16 * case.top + 4 * BINS + 18)
        for K in case.paths()
    )
    return layers + case.images * (2 * case.embed + ROW + case.thumbnails * JPEG)


def sparse_multiplications(case: SparseCase) -> float:
    """Products with all texts a step, and the orthogonalisation against the texts picked so far."""
    return case.signals * case.nonzero * case.embed * (case.texts + case.nonzero / 2)


def sparse_memory(case: SparseCase) -> float:
    """The texts in float64 and as they are searched, products of a block with all texts, bases of a block."""
    return case.texts * (12 * case.embed + 8 * case.signals) + 8 * case.signals * case.nonzero * case.embed


def slope(x: list[float], y: list[float]) -> tuple[float, float]:
    """(exponent, standard error) of y ~ x^exponent: least squares on logarithms."""
    a, b = np.log(x), np.log(y)
    centred = a - a.mean()
    exponent = float(centred @ b / (centred @ centred))
    rest = b - b.mean() - exponent * centred
    error = np.sqrt(rest @ rest / max(1, len(x) - 2) / (centred @ centred))
    return exponent, float(error)
