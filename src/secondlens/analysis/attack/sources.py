"""What an attack's cues are taken from: neurons, indirect effects, the survey's images, a measure of likeness."""

from collections.abc import Sequence
from pathlib import Path

from secondlens.analysis.attack.cues import CueSources
from secondlens.analysis.attack.directions import read_directions
from secondlens.analysis.attack.folder import INDIRECT, AttackFolder
from secondlens.analysis.attack.settings import AttackSettings
from secondlens.analysis.audit.classes import class_head
from secondlens.analysis.audit.images import within_classes
from secondlens.analysis.audit.pool import described_pool
from secondlens.analysis.audit.similarity import open_similarity
from secondlens.analysis.audit.table import neuron_table, table_of_directions
from secondlens.analysis.indirect_directions import IMAGES, write_indirect_directions
from secondlens.atlas.store import Atlas
from secondlens.atlas.surveyed import surveyed_images
from secondlens.descriptions.store import Descriptions
from secondlens.lens.model import LensModel
from secondlens.progress import Progress

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
                model, atlas, surveyed_images(atlas), layers, path, limit=indirect_images, progress=progress
            )
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
