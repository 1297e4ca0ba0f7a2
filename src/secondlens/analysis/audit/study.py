"""The defender's studies on images: errors that cues explain, and what removal does."""

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from secondlens.analysis.audit.auditor import Auditor
from secondlens.analysis.audit.carrying import SPARE, carried_cues
from secondlens.analysis.audit.classes import ClassPair, class_head
from secondlens.analysis.audit.folder import (
    confusions,
    explain_errors,
    presence_by_caption,
    presence_by_embedding,
)
from secondlens.analysis.audit.removal import SIZES, Projection, RemovalResult, Remover, predictions
from secondlens.atlas.surveyed import surveyed_images
from secondlens.data.decode import decode
from secondlens.data.labelled import LabelledImages, open_labelled
from secondlens.data.loader import processing_order, stream
from secondlens.data.texts import read_utf8
from secondlens.descriptions.pools import described_pool
from secondlens.errors import AuditError, ImageError
from secondlens.lens.classifier import Head
from secondlens.numerics.sparse.dictionary import text_atoms
from secondlens.progress import RUNNING, Running


def study_folder(
    auditor: Auditor,
    images: str | Path,
    pairs_wanted: Sequence[tuple[str, str]] | None = None,
    captions: Path | None = None,
    *,
    pairs: int = 10,
    cues: int = 10,
    running: Running = RUNNING,
) -> dict[str, Any]:
    """Errors of labelled images, explained by cues: see `folder`. As plain data: images, accuracy, presence (what says
    whether a cue is there), pairs with their errors and cues, and the tests, by p-value.

    pairs_wanted: default, the `pairs` most frequent confusions. captions: a CSV with file and caption. Raises
    `AuditError` where the model makes no such error, `ImageError` for images that cannot be used.
    """
    labelled = open_labelled(images, auditor.model)
    names, head = class_head(auditor.model, labelled.classes, auditor.templates)
    positions, embeddings, norms = _embed(auditor, labelled, running)
    truth = labelled.labels[positions]
    predicted = head.predict(embeddings.to(head.weight), norms.to(head.weight)).cpu()
    told = None if captions is None else _captions(captions, labelled, positions)
    if pairs_wanted is None:
        chosen = [(names[a], names[b]) for a, b, _ in confusions(truth, predicted)[:pairs]]
    else:
        chosen = [(auditor.pair(*names_).source_class, auditor.pair(*names_).target_class) for names_ in pairs_wanted]
    if not chosen:
        raise AuditError("the model makes no error three times or more on these images; name pairs with --pair")
    atoms = None
    presences, listed = {}, []
    for shown, taken in chosen:
        if shown not in names or taken not in names:
            raise AuditError(f"the images have no class {shown if shown not in names else taken!r}")
        found = auditor.audit(auditor.pair(shown, taken), cues=cues, draws=0)
        texts = [cue.text for cue in found.cues]
        mine = (truth == names.index(shown)).nonzero()[:, 0]
        wrong = predicted[mine] == names.index(taken)
        if told is not None:
            present = presence_by_caption([told[int(row)] for row in mine], texts)
        else:
            pool = described_pool(auditor.model, auditor.descriptions)
            atoms = text_atoms(pool.embeddings, "unit").float() if atoms is None else atoms
            rows = [pool.texts.index(text) for text in texts]
            present = presence_by_embedding(embeddings[mine], atoms[torch.tensor(rows, dtype=torch.int64)])
        presences[shown, taken] = (texts, present, wrong)
        listed.append({"source_class": shown, "target_class": taken, "images": len(mine), "errors": int(wrong.sum())})
    tests = explain_errors(chosen, presences)
    return {
        "images": len(positions),
        "accuracy": float((predicted == truth).float().mean()),
        "presence": "captions" if told is not None else "the model's own embedding",
        "pairs": listed,
        "explained": [vars(row) for row in tests],
    }


def study_removal(
    auditor: Auditor,
    pair: ClassPair,
    images: str | Path,
    attack: Path | None = None,
    cue: Sequence[str] | None = None,
    *,
    cues: int = 3,
    sizes: Sequence[int] = SIZES,
    cost: float = 0.02,
    spare: float = SPARE,
    limit: int = 2000,
    methods: Sequence[str] | None = None,
    running: Running = RUNNING,
) -> dict[str, Any]:
    """Accuracy on clean images and success of adversarial ones, against the number of neurons held at their mean.

    attack: a folder whose valid pictures of this pair that fooled the two-class verdict are looked at again; methods:
    only those of these. cue: default, the audit's first `cues`. As plain data: curve, a row a size; best, the row with
    the least adversarial success that costs at most `cost`; projection, of `removal`. spare: see `carrying`. Raises
    `AuditError` for cues that are not in the pool, `ImageError` where the survey's images are gone.
    """
    labelled = open_labelled(images, auditor.model)
    if auditor.classes is None:
        auditor.classes = labelled.classes
    chosen = list(cue) if cue else [each.text for each in auditor.audit(pair, cues=cues, draws=0).cues]
    carried = carried_cues(
        auditor.model, auditor.atlas, surveyed_images(auditor.atlas), auditor.within, pair, chosen,
        auditor.layers or auditor.descriptions.card.layers, running=running,
    )  # fmt: skip
    neurons = carried.strongest(max(sizes), spare)
    remover = Remover(auditor.model, auditor.atlas, neurons, [size for size in sizes if size <= len(neurons)])
    _, head = class_head(auditor.model, labelled.classes, auditor.templates)
    pictures = [] if attack is None else _successes(attack, pair, methods)
    pool = described_pool(auditor.model, auditor.descriptions)
    atoms = text_atoms(pool.embeddings, "unit")[[pool.texts.index(text) for text in chosen]]
    results = []
    for way in (remover, Projection(auditor.model, auditor.atlas, atoms)):
        clean = _clean(way, auditor, labelled, head, limit, running)
        taken = predictions(way, auditor.model, pair.head, pictures, "adversarial pictures", running.progress)
        results.append(RemovalResult(way.sizes, clean, taken == 1))
    found, projected = results
    return {
        "source_class": pair.source_class,
        "target_class": pair.target_class,
        "cues": chosen,
        "scoring": auditor.scoring,
        "clean_images": clean.shape[1],
        "adversarial_images": len(pictures),
        "curve": found.facts(),
        "best": found.best(cost),
        "projection": {name: value for name, value in projected.facts()[1].items() if name != "neurons"},
        "neurons": [list(neuron) for neuron in neurons],
    }


def class_means(auditor: Auditor, images: str | Path, classes: Sequence[str], running: Running = RUNNING) -> Tensor:
    """[class, embed], mean unit-norm embedding of labelled images by class; NaN for a class without images."""
    given = None if auditor.model.classifier is not None else classes
    labelled = open_labelled(images, auditor.model, given)
    positions, embeddings, _ = _embed(auditor, labelled, running)
    of = torch.nn.functional.one_hot(labelled.labels[positions], len(labelled.classes)).double()
    return (of.T @ embeddings.double()) / of.sum(dim=0)[:, None]


def _embed(auditor: Auditor, labelled: LabelledImages, running: Running) -> tuple[Tensor, Tensor, Tensor]:
    """Positions of the readable images, their unit-norm embeddings and |z|."""
    order = range(len(labelled.source.ids))
    positions, parts = [], []
    for batch in stream(labelled.source, auditor.model.preprocessing.transform, order, running):
        positions.append(batch.positions)
        parts.append(auditor.model.encode_images(batch.pixels).float().cpu())
    if not parts:
        raise ImageError("none of the images can be read")
    found = torch.cat(parts)
    norms = found.norm(dim=1)
    return torch.cat(positions), found / norms[:, None], norms


def _clean(
    remover: Remover, auditor: Auditor, labelled: LabelledImages, head: Head, limit: int, running: Running
) -> Tensor:
    """[size, image], whether each is right."""
    order = processing_order(len(labelled.source.ids))[:limit]
    right = []
    for batch in stream(labelled.source, auditor.model.preprocessing.transform, order, running, "clean images"):
        changed, norms = remover.embeddings(batch.pixels)
        truth = labelled.labels[batch.positions]
        right.append(torch.stack([head.predict(each, norms).cpu() == truth for each in changed]))
    if not right:
        raise ImageError("none of the clean images can be read")
    return torch.cat(right, dim=1)


def _successes(attack: Path, pair: ClassPair, methods: Sequence[str] | None) -> list[Callable[[], Image.Image]]:
    """The pictures of an attack's table that succeeded for a pair."""
    import pyarrow.parquet as pq

    table = attack / "report" / "predictions.parquet"
    if not table.is_file():
        raise AuditError(f"{attack} has no {table.relative_to(attack)}; finish the attack first")
    rows = pq.read_table(
        table, columns=["name", "method", "source_class", "target_class", "valid", "fooled"]
    ).to_pylist()
    names = [
        row["name"]
        for row in rows
        if (row["source_class"], row["target_class"]) == (pair.source_class, pair.target_class)
        and row["valid"]
        and row["fooled"]
        and (methods is None or row["method"] in methods)
    ]
    return [lambda name=name: decode(attack / "images" / f"{name}.png") for name in names]  # type: ignore[misc]


def _captions(path: Path, labelled: LabelledImages, positions: Tensor) -> list[str]:
    """The caption of each image, by its file's name."""
    rows = list(csv.DictReader(io.StringIO(read_utf8(path), newline="")))
    if not rows or not {"file", "caption"} <= set(rows[0]):
        raise AuditError(f"expected a CSV with the columns file and caption, got {path}")
    known = {row["file"]: row["caption"] or "" for row in rows}
    ids = [str(labelled.source.ids[int(position)]) for position in positions]
    missing = [name for name in ids if name not in known]
    if missing:
        raise AuditError(f"{path} has no caption of {missing[0]!r} and {len(missing) - 1} more images")
    return [known[name] for name in ids]
