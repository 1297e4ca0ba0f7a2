"""The defender's look at labelled images of their own: which errors do which cues explain?

For a pair (a, b) and a cue, among the images of class a:

    error(with)     share of those with the cue that the model takes for b
    error(without)  share of those without it
    p               Fisher's exact test, one-sided (more errors with the cue)
    q               Benjamini and Hochberg's, over all pairs and cues

Whether an image has a cue is read from its own caption where there is one. Else the model itself says: an image has
the cue where <z - z_a, t> is among the upper quarter of its class. That is the same embedding that makes the errors, so
such a difference shows what the model *sees* go with an error, not what is there: look at the images, or give captions.

Results of audits as JSON files, which the viewer shows: a command's facts, their kind, and of which atlas.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from secondlens.analysis.audit.scores import benjamini_hochberg
from secondlens.analysis.audit.similarity import mentions
from secondlens.atlas.store import Atlas
from secondlens.disk.files import check_file, make_folder, write_text
from secondlens.disk.json_text import json_text
from secondlens.errors import AuditError

UPPER = 0.75
FEWEST = 3
"""Errors of a pair from which on it is looked at."""


@dataclass(frozen=True)
class ExplainedError:
    """A pair's errors with and without a cue. images: of the shown class; errors: those taken for the predicted one."""

    source_class: str
    target_class: str
    cue: str
    images_with: int
    images_without: int
    errors_with: int
    errors_without: int
    difference: float
    p_value: float
    q_value: float


def confusions(
    labels: Int[Tensor, " image"], predicted: Int[Tensor, " image"], fewest: int = FEWEST
) -> list[tuple[int, int, int]]:
    """(class, taken for, images) of the confusions with at least `fewest` images, most frequent first."""
    wrong = labels != predicted
    pairs, counts = torch.stack([labels[wrong], predicted[wrong]], dim=1).unique(dim=0, return_counts=True)
    found = [(int(a), int(b), int(n)) for (a, b), n in zip(pairs, counts, strict=True) if n >= fewest]
    return sorted(found, key=lambda row: (-row[2], row[:2]))


def presence_by_caption(captions: Sequence[str], cues: Sequence[str]) -> Bool[Tensor, "image cue"]:
    """Whether captions name cues."""
    return torch.tensor([[mentions(text, cue) for cue in cues] for text in captions]).view(len(captions), len(cues))


def presence_by_embedding(
    embeddings: Float[Tensor, "image embed"], atoms: Float[Tensor, "cue embed"]
) -> Bool[Tensor, "image cue"]:
    """Whether the model sees cues in images of one class: the upper quarter of <z - mean, t>."""
    along = (embeddings - embeddings.mean(dim=0)) @ atoms.to(embeddings).T
    return along > along.quantile(UPPER, dim=0)


def explain_errors(
    pairs: Sequence[tuple[str, str]],
    presences: Mapping[tuple[str, str], tuple[Sequence[str], Bool[Tensor, "image cue"], Bool[Tensor, " image"]]],
) -> list[ExplainedError]:
    """Every pair's cues, tested. presences: of each pair its cues, which images of the shown class have them, and which
    were taken for the predicted class. By p-value. Raises `AuditError` where a pair is missing.
    """
    from scipy.stats import fisher_exact

    rows: list[dict[str, Any]] = []
    for pair in pairs:
        if pair not in presences:
            raise AuditError(f"no images of the pair {pair[0]!r} to {pair[1]!r}")
        cues, present, wrong = presences[pair]
        for place, cue in enumerate(cues):
            has = present[:, place]
            count = [int(has.sum()), int((~has).sum())]
            errors = [int((has & wrong).sum()), int((~has & wrong).sum())]
            if not all(count):
                continue
            p = fisher_exact(
                [[errors[0], count[0] - errors[0]], [errors[1], count[1] - errors[1]]], alternative="greater"
            ).pvalue
            rows.append(
                {
                    "source_class": pair[0],
                    "target_class": pair[1],
                    "cue": cue,
                    "images_with": count[0],
                    "images_without": count[1],
                    "errors_with": errors[0],
                    "errors_without": errors[1],
                    "difference": errors[0] / count[0] - errors[1] / count[1],
                    "p_value": float(p),
                }
            )
    q = benjamini_hochberg(np.array([row["p_value"] for row in rows]))
    found = [ExplainedError(**row, q_value=float(value)) for row, value in zip(rows, q, strict=True)]
    return sorted(found, key=lambda row: (row.p_value, -row.difference))


Kind = Literal["pair", "matrix", "folder", "removal"]


def audit_facts(kind: Kind, atlas: Atlas, facts: dict[str, Any]) -> dict[str, Any]:
    """Facts with `audit`, their kind, and `atlas`, when the atlas was made: neuron numbers mean nothing in another."""
    return {"audit": kind, "atlas": atlas.manifest.created, **facts}


def write_audit(path: Path, facts: dict[str, Any]) -> None:
    """Write what `audit_facts` gives, atomically. Raises `OutputError` for another ending than .json."""
    check_file(path, ".json")
    make_folder(path.parent)
    write_text(path, json_text(facts, 1) + "\n")
