"""What an attack's cues are taken from: neurons, indirect effects, the survey's images, a measure of likeness.

Directions of other effects than second-order ones come from a file: a baseline's source is pluggable.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

from secondlens.analysis.attack.cues import CueSources
from secondlens.analysis.attack.folder import INDIRECT, AttackFolder
from secondlens.analysis.attack.settings import AttackSettings
from secondlens.analysis.audit.classes import class_head
from secondlens.analysis.audit.images import within_classes
from secondlens.analysis.audit.similarity import open_similarity
from secondlens.analysis.audit.table import neuron_table, table_of_directions
from secondlens.analysis.indirect_directions import IMAGES, write_indirect_directions
from secondlens.atlas.store import Atlas
from secondlens.atlas.surveyed import surveyed_images
from secondlens.descriptions.pools import described_pool
from secondlens.descriptions.store import Descriptions
from secondlens.disk.files import sha256
from secondlens.errors import AuditError
from secondlens.lens.model import LensModel
from secondlens.progress import Progress, Running, silent

NAME = re.compile(r"layer-(\d+)")


def read_directions(path: Path, layers: Sequence[int] | None = None) -> tuple[dict[int, Tensor], str]:
    """Layer to directions [neuron, embed], of a safetensors file with tensors `layer-09` and so on; and its SHA-256.

    layers: only these. Raises `AuditError` for a file that cannot be read, or lacks a layer.
    """
    try:
        with safe_open(path, framework="pt") as file:
            found = {int(match[1]): file.get_tensor(name) for name in file.keys() if (match := NAME.fullmatch(name))}  # noqa: SIM118
    except Exception as error:
        raise AuditError(f"cannot read directions from {path}: {error}; expected safetensors") from error
    lacking = [layer for layer in layers or () if layer not in found]
    if lacking or not found:
        raise AuditError(
            f"{path} has directions of layers {', '.join(map(str, sorted(found))) or 'none'} (tensors 'layer-09' ...)"
            + (f", expected {', '.join(map(str, lacking))} too" if lacking else "")
        )
    return {layer: found[layer] for layer in sorted(found) if layers is None or layer in layers}, sha256(path)


COMPUTE = "compute"
"""In the place of a file of indirect effects: make it in the attack's folder."""


def open_sources(
    model: LensModel,
    atlas: Atlas,
    described: Descriptions,
    methods: Sequence[str],
    settings: AttackSettings,
    *,
    similarity: str = "auto",
    templates: Sequence[str],
    classes: Sequence[str] | None = None,
    indirect: str | None = None,
    indirect_images: int = IMAGES,
    folder: AttackFolder | None = None,
    progress: Progress | None = None,
) -> CueSources:
    """The sources that some methods need.

    classes: of the label set, for "images". indirect: a file of `study indirect`, or `COMPUTE`: exact indirect effects
    of the layers' neurons over the first `indirect_images` of the atlas's images, kept in `folder`. Raises what its
    parts raise.
    """
    tables = {"second order": neuron_table(atlas, described, settings.layers)}
    identity = {
        "weights": model.weights_hash,
        "atlas": atlas.manifest.created,
        "description": described.card.created,
        "templates": list(templates),
    }
    if indirect is not None and "indirect" in methods:
        layers = list(settings.layers or described.card.layers)
        path = Path(indirect)
        if indirect == COMPUTE and folder is not None:
            path = folder.prepare() / INDIRECT
            write_indirect_directions(
                model, atlas, surveyed_images(atlas), layers, path, limit=indirect_images,
                running=Running(progress=progress or silent),
            )  # fmt: skip
        directions, digest = read_directions(path, layers)
        pool = described_pool(model, described)
        tables["indirect"] = table_of_directions("indirect", directions, pool, described.card.settings.nonzero)
        identity["indirect"] = digest
    within = None
    if classes is not None and "images" in methods:
        names, head = class_head(model, classes, templates)
        within = within_classes(atlas, described_pool(model, described), names, head)
        identity["classes"] = names
    return CueSources(
        model, described, open_similarity(similarity, model, described, templates), tables, identity, within
    )
