"""`describe`: words for every surveyed neuron of an atlas.

1. Decompose the directions of each layer over the pool's texts, some hundred neurons at a time; each part is kept, so
   that an interrupted run goes on.
2. Decompose random directions in the same way: the nulls.
3. Group each neuron's words into senses and its top images among them.
4. Write a table and a file of figures a layer; the card last.
"""

import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

import secondlens
from secondlens.atlas.files import disk_errors, sha256, write_table, write_tensors, write_text
from secondlens.atlas.store import Atlas
from secondlens.descriptions.null import NULLS, cosines, null_cosines, p_values
from secondlens.descriptions.senses import UNGROUPED, WORDS, find_senses, image_senses
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
from secondlens.descriptions.tables import code_shares, texts_table
from secondlens.errors import AtlasError, TextError
from secondlens.pools.pool import Pool
from secondlens.text.dictionary import text_atoms
from secondlens.text.sparse import SparseCodes, sparse_decompose

SIZES = (4, 8, 16, 32, 64, 128)
PART = 1024
"""Neurons decomposed between two files of progress: a quarter of a minute at 30,000 texts."""

Progress = Callable[[str, int, int], None]


def describe(
    atlas: Atlas,
    pool: Pool,
    nonzero: int = 128,
    *,
    name: str | None = None,
    nonnegative: bool = False,
    method: str = "omp",
    normalisation: str = "unit",
    null_draws: int = 500,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Descriptions:
    """Describe every neuron of an atlas by at most `nonzero` texts of a pool.

    The files go to `ATLAS/descriptions/NAME` (default: the pool's name). nonnegative, method, normalisation: as in
    `sparse_decompose`. null_draws: random directions of each kind; 0 leaves p-values out (they are 1). progress is
    called with a layer's title, and how many of its signals are done.

    Raises `AtlasError` for a pool of another model or another description in the folder, `TextError` where nonzero is
    larger than the pool.
    """
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
        method=method,
        normalisation=normalisation,
        null_draws=null_draws,
        seed=seed,
    )
    folder = atlas.folder / FOLDER / slug(name or pool.name)
    if (folder / CARD).is_file():
        _require_same(read_card(folder).settings, settings, folder)
        return Descriptions(folder, read_card(folder))
    _Run(atlas, pool, settings, folder, device, progress or (lambda title, done, total: None)).execute()
    return Descriptions(folder, read_card(folder))


class _Run:
    def __init__(
        self, atlas: Atlas, pool: Pool, settings: DescriptionSettings, folder: Path, device: str, progress: Progress
    ) -> None:
        self.atlas, self.pool, self.settings, self.folder = atlas, pool, settings, folder
        self.device, self.progress = device, progress
        self.sizes = [size for size in SIZES if size < settings.nonzero] + [settings.nonzero]
        self.work = folder / "progress"
        self.note = self.work / "settings.json"

    def execute(self) -> None:
        started = time.monotonic()
        if self.note.is_file():
            stored = DescriptionSettings.model_validate_json(self.note.read_text(encoding="utf-8"))
            _require_same(stored, self.settings, self.folder)
        else:
            with disk_errors(self.atlas.folder):
                self.work.mkdir(parents=True, exist_ok=True)
                for unknown in (*self.folder.glob("layer-*"), *self.work.glob("layer-*")):
                    unknown.unlink()
        names = []
        for layer in self.atlas.layers:
            names += [texts_file(layer), figures_file(layer)]
            if not (self.folder / figures_file(layer)).is_file():
                self._layer(layer)
        card = DescriptionCard(
            settings=self.settings,
            sizes=self.sizes,
            layers=self.atlas.layers,
            pool_source=self.pool.card.source,
            generated=self.pool.card.generated,
            created=datetime.now(UTC).isoformat(timespec="milliseconds"),
            seconds=round(time.monotonic() - started, 1),
            secondlens=secondlens.__version__,
            files={name: sha256(self.folder / name) for name in names},
        )
        write_text(self.folder / CARD, card.model_dump_json(indent=2))
        shutil.rmtree(self.work, ignore_errors=True)

    def _layer(self, layer: int) -> None:
        opened = self.atlas.layer(layer)
        directions = opened.directions
        total = len(directions) + (len(NULLS) * self.settings.null_draws)
        title = f"layer {layer}"
        done = 0
        parts = []
        for start in range(0, len(directions), PART):
            path = self.work / f"layer-{layer:02d}-{start:06d}.safetensors"
            if not path.is_file():
                found = self._decompose(directions[start : start + PART], title, done, total)
                # Only now: settings that do not work must not be those that the next run has to have.
                if not self.note.is_file():
                    write_text(self.note, self.settings.model_dump_json())
                write_tensors(path, self._part(found))
            parts.append(load_file(path))
            done += len(parts[-1]["indices"])
            self.progress(title, done, total)
        codes = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
        figures: dict[str, Tensor] = {"cosines": codes["cosines"]}
        for kind in NULLS:
            figures[f"p_{kind}"] = torch.ones_like(codes["cosines"])
            if self.settings.null_draws:
                null = null_cosines(
                    kind,
                    self.settings.null_draws,
                    directions,
                    lambda signals, before=done: self._decompose(signals, title, before, total),  # type: ignore[misc]
                    self.sizes,
                    self.settings.seed,
                )
                figures[f"p_{kind}"] = p_values(codes["cosines"], null)
                figures[f"null_{kind}"] = null
            done += self.settings.null_draws
        atoms = text_atoms(self.pool.embeddings, self.settings.normalisation).float()
        few = codes["few_shares"].shape[1]
        senses = find_senses(codes["indices"][:, :few], codes["few_coefficients"], codes["few_shares"], atoms)
        figures |= {"senses": senses.count, "silhouette": senses.silhouette, "polysemy": senses.polysemy}
        figures["top_senses"] = self._top_senses(opened, codes, senses.sense, atoms)
        rest = torch.full((len(directions), self.settings.nonzero - few), UNGROUPED)
        table = texts_table(codes, torch.cat([senses.sense, rest], dim=1), self.pool.texts)
        write_table(self.folder / texts_file(layer), table)
        # Written last: it marks the layer as done.
        write_tensors(self.folder / figures_file(layer), {name: t.contiguous() for name, t in figures.items()})
        for path in self.work.glob(f"layer-{layer:02d}-*.safetensors"):
            path.unlink()

    def _part(self, codes: SparseCodes) -> dict[str, Tensor]:
        # The lasso's supports are not nested: there the whole code is what senses are made of.
        few = codes.prefix(min(WORDS, self.settings.nonzero)) if codes.method == "omp" else codes
        return {
            # A copy: of the lasso both are one tensor, which the file format refuses.
            "few_coefficients": few.coefficients.float().cpu().clone(),
            "few_shares": code_shares(few).float().cpu(),
            "indices": codes.indices.int().cpu(),
            "coefficients": codes.coefficients.float().cpu(),
            "shares": code_shares(codes).float().cpu(),
            "cosines": cosines(codes, self.sizes).cpu(),
        }

    def _decompose(self, signals: Tensor, title: str, before: int, total: int) -> SparseCodes:
        return sparse_decompose(
            signals.to(self.device),
            self.pool.embeddings,
            self.settings.nonzero,
            nonnegative=self.settings.nonnegative,
            method=self.settings.method,
            normalisation=self.settings.normalisation,
            progress=lambda done, _: self.progress(title, before + done, total),
        )

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


def _require_same(stored: DescriptionSettings, asked: DescriptionSettings, folder: Path) -> None:
    for field in DescriptionSettings.model_fields:
        before, now = getattr(stored, field), getattr(asked, field)
        if before != now:
            raise AtlasError(
                f"{folder} holds a description of other settings: {field.replace('_', ' ')} was {before}, now {now}; "
                "run it with the same settings, give it another name with --name, or remove the folder"
            )
