"""Fifth stage: what the attacked model takes every picture for."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from secondlens.analysis.attack.folder import AttackFolder
from secondlens.analysis.audit.classes import ClassPair, class_head
from secondlens.data.decode import decode
from secondlens.errors import AuditError
from secondlens.lens.classifier import TEMPLATES, Head
from secondlens.lens.model import LensModel
from secondlens.progress import Progress

BATCH = 64


def find_predictions(
    folder: AttackFolder,
    images: Sequence[dict[str, Any]],
    model: LensModel,
    pairs: Sequence[ClassPair],
    classes: Sequence[str],
    templates: Sequence[str] = TEMPLATES,
    progress: Progress | None = None,
) -> dict[str, dict[str, Any]]:
    """A line a picture: margin, the predicted class's logit less the shown one's; fooled, whether it is above zero (the
    two-class verdict); prediction, the first of all classes; fooled_among_all, whether that is the predicted one.

    classes: of the verdict among all. Raises `AuditError` where they lack a class of a pair.
    """
    names, head = class_head(model, classes, templates)
    lacking = sorted({name for pair in pairs for name in (pair.source_class, pair.target_class)} - set(names))
    if lacking:
        raise AuditError(f"the classes to predict among lack {', '.join(lacking)}; add them to --classes")
    by_name = {(pair.source_class, pair.target_class): pair.head for pair in pairs}
    journal = folder.journal(
        "predictions",
        {"model": model.reference, "weights": model.weights_hash, "templates": list(templates), "classes": names},
    )
    found = {line["name"]: line for line in journal.open(lambda line: (line["name"], line["fooled"]))}
    missing = [line for line in images if found.get(line["name"], {}).get("prompt") != line["prompt"]]
    for start in range(0, len(missing), BATCH):
        some = missing[start : start + BATCH]
        pixels = model.preprocess([decode(folder.images / f"{line['name']}.png") for line in some])
        embeddings = model.encode_images(pixels).float()
        taken = logits(head, embeddings).argmax(dim=1).tolist()
        for line, embedding, row in zip(some, embeddings, taken, strict=True):
            pair = logits(by_name[line["source_class"], line["target_class"]], embedding[None])[0]
            margin = float(pair[1] - pair[0])
            found[line["name"]] = {
                "name": line["name"],
                "prompt": line["prompt"],
                "margin": margin,
                "fooled": margin > 0,
                "prediction": names[row],
                "fooled_among_all": names[row] == line["target_class"],
            }
            journal.add(found[line["name"]])
        if progress is not None:
            progress("predictions", start + len(some), len(missing))
    return {line["name"]: found[line["name"]] for line in images}


def logits(head: Head, embeddings: Tensor) -> Tensor:
    """[image, class] of unnormalised embeddings; a zero-shot head sees them at unit norm."""
    seen = embeddings if head.own else torch.nn.functional.normalize(embeddings, dim=1)
    return seen @ head.weight.T + head.bias
