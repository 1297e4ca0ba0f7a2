"""First stage: the phrases of every cell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from secondlens.analysis.attack.folder import AttackFolder, Cell
from secondlens.analysis.attack.settings import AttackSettings
from secondlens.analysis.audit.audit import select_cues
from secondlens.analysis.audit.classes import ClassPair
from secondlens.analysis.audit.images import STRONG, WithinClasses, pick_image_cues
from secondlens.analysis.audit.scores import neuron_weights, score_phrases, similar_words, strongest
from secondlens.analysis.audit.similarity import Similarity
from secondlens.analysis.audit.table import NeuronTable
from secondlens.descriptions.pools import described_pool
from secondlens.descriptions.store import Descriptions
from secondlens.errors import AuditError
from secondlens.lens.model import LensModel
from secondlens.numerics.sparse.dictionary import text_atoms
from secondlens.progress import Progress


@dataclass(frozen=True, eq=False)
class CueSources:
    """What cues are taken from. tables: "second order" and, where there are such directions, "indirect".

    within: the survey's images by class, for the method "images".
    """

    model: LensModel
    descriptions: Descriptions
    similarity: Similarity
    tables: Mapping[str, NeuronTable]
    identity: Mapping[str, Any] = field(default_factory=dict)
    within: WithinClasses | None = None

    def table(self, method: str) -> NeuronTable:
        """The neurons of a method; raises `AuditError` where they are missing."""
        name = "indirect" if method == "indirect" else "second order"
        if name not in self.tables:
            raise AuditError(
                "the method 'indirect' needs the directions of indirect effects; give them with --indirect FILE, or "
                "leave the method out"
            )
        return self.tables[name]


def find_cues(
    folder: AttackFolder,
    pairs: Sequence[ClassPair],
    methods: Sequence[str],
    sources: CueSources,
    settings: AttackSettings,
    progress: Progress | None = None,
) -> dict[Cell, list[dict[str, Any]]]:
    """text and score of the phrases of every cell, by falling score. Cells that are in the journal are not made again.

    Raises `AuditError` for a method without its directions.
    """
    keys = ("cues", "neurons", "synonym", "layers", "seed")
    made_with = {name: value for name, value in settings.model_dump().items() if name in keys}
    journal = folder.journal("cues", {**sources.identity, "similarity": sources.similarity.name, **made_with})
    found = {Cell.of(line): line["cues"] for line in journal.open(lambda line: (Cell.of(line), line["cues"]))}
    cells = cells_of(pairs, methods, settings)
    by_name = {(pair.source_class, pair.target_class): pair for pair in pairs}
    for done, cell in enumerate(cells):
        if cell not in found:
            found[cell] = _cues(cell, by_name[cell.source_class, cell.target_class], sources, settings)
            journal.add({**cell.facts(), "cues": found[cell]})
        if progress is not None:
            progress("cues", done + 1, len(cells))
    return {cell: found[cell] for cell in cells}


def cells_of(pairs: Sequence[ClassPair], methods: Sequence[str], settings: AttackSettings) -> list[Cell]:
    """All cells, in order."""
    return [
        Cell(pair.source_class, pair.target_class, method, repeat)
        for pair in pairs
        for method in methods
        for repeat in range(1, settings.repeats + 1)
    ]


def _cues(cell: Cell, pair: ClassPair, sources: CueSources, settings: AttackSettings) -> list[dict[str, Any]]:
    if cell.method == "none":
        return []
    if cell.method == "images":
        if sources.within is None:
            raise AuditError("the method 'images' needs the classes of the survey's images; give them with --classes")
        # The faint ones would take the place of the strong in captions.
        picked, _ = pick_image_cues(
            sources.within, sources.within.push(pair), pair.source_class, pair.target_class, sources.similarity,
            settings.cues, settings.synonym, STRONG,
        )  # fmt: skip
        return [{"text": sources.within.texts[cue.row], "score": cue.score} for cue in picked]
    if cell.method == "similar-words":
        return _similar(pair, sources, settings)
    table = sources.table(cell.method)
    weights = neuron_weights(table, pair.vector, "effect" if cell.method == "effect" else "paper")
    if cell.method == "random":
        rng = np.random.default_rng(cell.seed(settings.seed))
        rows = rng.choice(len(table), min(settings.neurons, len(table)), replace=False)
    else:
        rows = strongest(weights, settings.neurons)
    scores = score_phrases(table, rows, weights)
    kept, _ = select_cues(table.texts, scores, pair.target_class, sources.similarity, settings.cues, settings.synonym)
    return [{"text": table.texts[scores.phrases[place]], "score": float(scores.scores[place])} for place, _ in kept]


def _similar(pair: ClassPair, sources: CueSources, settings: AttackSettings) -> list[dict[str, Any]]:
    pool = described_pool(sources.model, sources.descriptions)
    ranked = similar_words(pair.vector, text_atoms(pool.embeddings, "unit"), pool.texts)
    cues: list[dict[str, Any]] = []
    step = 2 * settings.cues
    for start in range(0, len(ranked), step):
        some = ranked[start : start + step]
        likeness = sources.similarity([text for text, _ in some], pair.target_class)
        cues += [
            {"text": text, "score": score}
            for (text, score), alike in zip(some, likeness, strict=True)
            if alike < settings.synonym and score > 0
        ]
        if len(cues) >= settings.cues:
            break
    return cues[: settings.cues]
