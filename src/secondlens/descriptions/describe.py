"""`describe`: words for every surveyed neuron of an atlas.

1. Decompose the directions of each layer over the pool's texts, some hundred neurons at a time; each part is kept, so
   that an interrupted run goes on.
2. Decompose random directions in the same way: the nulls.
3. Group each neuron's words into senses and its top images among them.
4. Write a table and a file of figures a layer; the card last.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import secondlens
from secondlens.atlas.store import Atlas
from secondlens.descriptions.null import NULLS, p_values
from secondlens.descriptions.parts import Part, decompose_part, parts_of, sizes_of
from secondlens.descriptions.pool import Pool
from secondlens.descriptions.pools import open_pool
from secondlens.descriptions.senses import UNGROUPED, find_senses, image_senses
from secondlens.descriptions.store import (
    CARD,
    FOLDER,
    DescriptionCard,
    Descriptions,
    DescriptionSettings,
    figures_file,
    read_card,
    slug,
    texts_file,
)
from secondlens.descriptions.tables import texts_table
from secondlens.disk.files import sha256, write_table, write_tensors, write_text
from secondlens.disk.journal import settings_differ
from secondlens.disk.lock import one_writer
from secondlens.disk.resumable import JOURNAL, Resumable
from secondlens.errors import AtlasError, TextError
from secondlens.lens.model import LensModel
from secondlens.numerics.sparse.dictionary import text_atoms
from secondlens.progress import Progress, silent

ADVICE = "run it with the same settings, give it another name with --name, or remove the folder"

Elsewhere = Callable[[DescriptionSettings, list[Part]], Iterable[tuple[Part, dict[str, Tensor]]]]


def describe(
    atlas: Atlas,
    pool: Pool | str | Path | Sequence[str],
    nonzero: int | None = None,
    *,
    model: LensModel | None = None,
    name: str | None = None,
    nonnegative: bool = False,
    normalisation: str = "unit",
    null_draws: int = 500,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
    elsewhere: Elsewhere | None = None,
) -> Descriptions:
    """Describe every neuron of an atlas by at most `nonzero` texts of a pool (default: 128, or the whole pool).

    pool: a pool, or what `open_pool` takes, which `model`, the atlas's, encodes.
    The files go to `ATLAS/descriptions/NAME` (default: the pool's name). nonnegative, normalisation: as in
    `sparse_decompose`. null_draws: random directions of each kind; 0 leaves p-values out (they are 1). progress is
    called with a layer's title, and how many of its signals are done. elsewhere: makes all parts that are missing, as
    `decompose_part` would here, and yields them in any order.

    Raises `AtlasError` for a pool of another model or another description in the folder, `TextError` where nonzero is
    larger than the pool.
    """
    if not isinstance(pool, Pool):
        if model is None:
            raise TextError(f"expected a model to encode {pool!r}, got none; give describe(..., model=...)")
        atlas.require_model(model)
        pool = open_pool(pool, model)
    if nonzero is None:
        nonzero = min(128, len(pool.texts))
    if pool.card.weights_sha256 != atlas.manifest.model.weights_sha256:
        raise AtlasError(
            f"the pool {pool.name!r} was encoded by {pool.card.model}, {atlas.folder} is an atlas of "
            f"{atlas.manifest.model.reference}: their weights differ; create the pool for the atlas's model"
        )
    if not 1 <= nonzero <= len(pool.texts):
        raise TextError(
            f"a description of {nonzero} texts needs a pool of as many; {pool.name!r} has {len(pool.texts)}: "
            f"give -m {len(pool.texts)} or less"
        )
    if null_draws < 0:
        raise TextError(f"expected 0 or more random directions, got {null_draws}")
    settings = DescriptionSettings(
        atlas_created=atlas.manifest.created,
        pool=pool.name,
        pool_key=pool.card.key,
        texts=len(pool.texts),
        nonzero=nonzero,
        nonnegative=nonnegative,
        method="omp",
        normalisation=normalisation,
        n_resamples=null_draws,
        seed=seed,
    )
    folder = atlas.folder / FOLDER / slug(name or pool.name)
    if (folder / CARD).is_file():
        differ = settings_differ(_named(read_card(folder).settings), _named(settings))
        if differ:
            raise AtlasError(f"{folder} was made with other settings: {differ}; {ADVICE}")
        return Descriptions(folder, read_card(folder))
    with one_writer(folder):
        _Run(atlas, pool, settings, folder, device, progress or silent).execute(elsewhere)
    return Descriptions(folder, read_card(folder))


class _Run:
    def __init__(
        self, atlas: Atlas, pool: Pool, settings: DescriptionSettings, folder: Path, device: str, progress: Progress
    ) -> None:
        self.atlas, self.pool, self.settings, self.folder = atlas, pool, settings, folder
        self.device, self.progress = device, progress
        begun = (folder / "progress" / JOURNAL).is_file()
        self.kept = Resumable(folder / "progress", _named(settings), AtlasError, ADVICE)
        for unknown in () if begun else folder.glob("layer-*"):
            unknown.unlink()

    def execute(self, elsewhere: Elsewhere | None) -> None:
        started = time.monotonic()
        layers = [layer for layer in self.atlas.layers if not (self.folder / figures_file(layer)).is_file()]
        if elsewhere is not None:
            missing = [part for layer in layers for part in self._parts(layer) if part.file not in self.kept]
            for part, tensors in elsewhere(self.settings, missing):
                self._keep(part, tensors)
        names = []
        for layer in self.atlas.layers:
            names += [texts_file(layer), figures_file(layer)]
            if layer in layers:
                self._layer(layer)
        card = DescriptionCard(
            settings=self.settings,
            sizes=sizes_of(self.settings),
            layers=self.atlas.layers,
            pool_source=self.pool.card.source,
            generated=self.pool.card.generated,
            created=datetime.now(UTC).isoformat(timespec="milliseconds"),
            seconds=round(time.monotonic() - started, 1),
            secondlens=secondlens.__version__,
            files={name: sha256(self.folder / name) for name in names},
        )
        write_text(self.folder / CARD, card.model_dump_json(indent=2))
        self.kept.done()

    def _layer(self, layer: int) -> None:
        opened = self.atlas.layer(layer)
        directions = opened.directions
        wanted = self._parts(layer)
        total, done = sum(part.signals for part in wanted), 0
        title = f"layer {layer}"
        parts: list[dict[str, Tensor]] = []
        nulls: dict[str, Tensor] = {}
        for part in wanted:
            if part.file not in self.kept:
                tensors = decompose_part(
                    part,
                    directions,
                    self.pool.embeddings,
                    self.settings,
                    self.device,
                    lambda some, before=done: self.progress(title, before + some, total),  # type: ignore[misc]
                )
                self._keep(part, tensors)
            found = load_file(self.kept[part.file])
            if part.kind is None:
                parts.append(found)
            else:
                nulls[part.kind] = found["cosines"]
            done += part.signals
            self.progress(title, done, total)
        codes = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
        figures: dict[str, Tensor] = {"cosines": codes["cosines"]}
        for kind in NULLS:
            figures[f"p_{kind}"] = torch.ones_like(codes["cosines"])
            if kind in nulls:
                figures[f"p_{kind}"] = p_values(codes["cosines"], nulls[kind])
                figures[f"null_{kind}"] = nulls[kind]
        atoms = text_atoms(self.pool.embeddings, self.settings.normalisation).float()
        few = codes["few_fractions"].shape[1]
        senses = find_senses(codes["indices"][:, :few], codes["few_coefficients"], codes["few_fractions"], atoms)
        figures |= {"senses": senses.count, "silhouette": senses.silhouette, "polysemy": senses.polysemy}
        figures["top_senses"] = self._top_senses(opened, codes, senses.sense, atoms)
        rest = torch.full((len(directions), self.settings.nonzero - few), UNGROUPED)
        table = texts_table(codes, torch.cat([senses.sense, rest], dim=1), self.pool.texts)
        write_table(self.folder / texts_file(layer), table)
        # Written last: it marks the layer as done.
        write_tensors(self.folder / figures_file(layer), {name: t.contiguous() for name, t in figures.items()})

    def _parts(self, layer: int) -> list[Part]:
        return parts_of(layer, self.atlas.manifest.model.neurons, self.settings.n_resamples)

    def _keep(self, part: Part, tensors: dict[str, Tensor]) -> None:
        self.kept.keep(part.file, lambda path: save_file(tensors, path))

    def _top_senses(self, opened: Any, codes: dict[str, Tensor], senses: Tensor, atoms: Tensor) -> Tensor:
        images = self.atlas.image_embeddings
        mean = images.sum(dim=0) / self.atlas.manifest.images.count
        found = []
        for start in range(0, len(senses), 64):
            rows = slice(start, start + 64)
            top = images[opened.top_positions[rows]] - mean
            found.append(
                image_senses(
                    senses[rows],
                    codes["indices"][rows, : senses.shape[1]].long(),
                    codes["few_coefficients"][rows],
                    atoms,
                    top,
                    opened.top_projections[rows],
                )
            )
        return torch.cat(found).to(torch.int8)


def _named(settings: DescriptionSettings) -> dict[str, Any]:
    """The settings as a message names them."""
    return {field.replace("_", " "): value for field, value in settings.model_dump().items()}
