"""What all audits and attacks share on the command line: the model, its atlas and description, and classes by name."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from secondlens.analysis.audit import Auditor
    from secondlens.atlas import Atlas
    from secondlens.descriptions import Descriptions
    from secondlens.lens import LensModel


def make_auditor(
    model: str,
    atlas: Path,
    pool: str | None,
    layers: str | None,
    scoring: str,
    classes: Path | None,
    similarity: str,
    template: list[str] | None,
    device: str,
) -> "Auditor":
    """What all audits share, from the command line's words."""
    from secondlens.analysis.audit import Auditor, open_similarity
    from secondlens.cli.options import parse_layers

    opened, loaded, described = open_described(model, atlas, pool, device)
    templates = templates_of(template, loaded)
    measure = open_similarity(similarity, loaded, described, templates)
    known = classes_of(classes, loaded)
    return Auditor(loaded, opened, described, measure, templates, scoring, known, parse_layers(layers))


def split_pair(text: str) -> tuple[str, str]:
    """ "dog:deer" as two names."""
    from secondlens.errors import AuditError

    shown, colon, predicted = text.partition(":")
    if not colon or not shown.strip() or not predicted.strip():
        raise AuditError(f"expected a pair as SHOWN:PREDICTED, got {text!r}")
    return shown.strip(), predicted.strip()


def open_described(model: str, atlas: Path, pool: str | None, device: str) -> "tuple[Atlas, LensModel, Descriptions]":
    """An atlas, its model and its description; refuses another model."""
    from secondlens.atlas import Atlas
    from secondlens.descriptions import Descriptions
    from secondlens.lens import load_model

    opened = Atlas.open(atlas)
    described = Descriptions.open(opened, pool)
    loaded = load_model(model, device=device)
    opened.require_model(loaded)
    return opened, loaded, described


def templates_of(template: "Sequence[str] | None", model: "LensModel") -> tuple[str, ...]:
    """The templates that were asked for, or those that fit the model."""
    from secondlens.errors import AuditError
    from secondlens.lens.classifier import default_templates

    wrong = [text for text in template or () if text.count("{}") != 1]
    if wrong:
        raise AuditError(f"expected templates with one {{}} where the class goes, got {wrong[0]!r}")
    return tuple(template) if template else default_templates(model)


def classes_of(file: Path | None, model: "LensModel") -> list[str] | None:
    """The classes of a file, a classifier's own, the embedded world's things; None where nothing is known."""
    from secondlens.data.texts import read_texts
    from secondlens.lens.classifier import WORLD_TEMPLATES, default_templates
    from secondlens.world import NOUNS

    if file is not None:
        return read_texts(file)
    if model.classifier is not None:
        return list(model.classifier.labels)
    return list(NOUNS) if default_templates(model) == WORLD_TEMPLATES else None
