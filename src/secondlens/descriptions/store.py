"""Descriptions on disk: a folder a pool inside the atlas, a table of texts and a file of figures a layer."""

import json
import re
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Int
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import safe_open
from torch import Tensor

from secondlens.atlas.store import Atlas
from secondlens.disk.json_text import finite
from secondlens.errors import AtlasError, closest

CARD, FOLDER = "description.json", "descriptions"
QUALITY = "quality.parquet"
SCHEMA_VERSION: Literal[2] = 2


class DescriptionSettings(BaseModel):
    """Everything that changes the numbers of a description; an interrupted one goes on only with the same."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    atlas_created: str
    pool: str
    pool_key: str
    texts: int
    nonzero: int
    nonnegative: bool
    method: str
    normalisation: str
    n_resamples: int
    seed: int


class DescriptionCard(BaseModel):
    """Everything in description.json, written last. sizes: the numbers of texts that figures are given for.
    null: of each kind of random direction, the median cosine and the 95 % quantile at each size, by layer.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[2] = SCHEMA_VERSION
    settings: DescriptionSettings
    sizes: list[int]
    layers: list[int]
    pool_source: str
    generated: dict[str, Any] | None
    created: str
    seconds: float
    secondlens: str
    files: dict[str, str]


def slug(name: str) -> str:
    """A pool's name as that of a folder."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "pool"


def texts_file(layer: int) -> str:
    """Parquet: neuron, rank, row (of the pool), text, coefficient, fraction, sense; sorted by neuron and rank."""
    return f"layer-{layer:02d}.parquet"


def figures_file(layer: int) -> str:
    """safetensors: cosines, p_values by null [neuron, size]; senses, silhouette, polysemy [neuron]; top_senses."""
    return f"layer-{layer:02d}.safetensors"


class Descriptions:
    """The descriptions of an atlas over one pool."""

    def __init__(self, folder: Path, card: DescriptionCard) -> None:
        self.folder = folder
        self.card = card
        self._figures: dict[int, dict[str, Tensor]] = {}

    def __repr__(self) -> str:
        layers = ", ".join(map(str, self.card.layers))
        return f"Descriptions({self.name}: layers {layers}, at most {self.card.settings.nonzero} texts per neuron)"

    @property
    def name(self) -> str:
        """The pool's name."""
        return self.card.settings.pool

    @classmethod
    def names(cls, atlas: Atlas) -> list[str]:
        """Folders of complete descriptions of an atlas, the latest first."""
        cards = [
            (read_card(path.parent).created, path.parent.name) for path in (atlas.folder / FOLDER).glob(f"*/{CARD}")
        ]
        return [name for _, name in sorted(cards, reverse=True)]

    @classmethod
    def open(cls, atlas: Atlas, name: str | None = None) -> "Descriptions":
        """The descriptions over one pool, by default the latest; `AtlasError` where there are none of that name."""
        names = cls.names(atlas)
        if not names:
            raise AtlasError(
                f"{atlas.folder} has no descriptions yet; make them with: secondlens describe {atlas.folder} --pool ..."
            )
        chosen = names[0] if name is None else slug(name)
        if chosen not in names:
            raise AtlasError(f"{atlas.folder} has no descriptions over {name!r}{closest(chosen, names)}")
        folder = atlas.folder / FOLDER / chosen
        return cls(folder, read_card(folder))

    def table(self, layer: int, neuron: int | None = None) -> pa.Table:
        """The texts of a layer or of one neuron; see `texts_file`."""
        self._require_layer(layer)
        filters = None if neuron is None else [("neuron", "=", neuron)]
        return pq.read_table(self.folder / texts_file(layer), filters=filters)

    def indices(self, layer: int, neurons: int) -> Int[Tensor, "neuron nonzero"]:
        """Rows of the pool in the order picked, -1 where a description has fewer texts."""
        table = self.table(layer)
        found = torch.full((neurons, self.card.settings.nonzero), -1, dtype=torch.int64)
        neuron, rank, row = (
            torch.from_numpy(table[name].to_numpy().astype("int64")) for name in ("neuron", "rank", "row")
        )
        found[neuron, rank] = row
        return found

    def figures(self, layer: int) -> dict[str, Tensor]:
        """The figures of a layer; see `figures_file`. Read once."""
        self._require_layer(layer)
        if layer not in self._figures:
            with safe_open(self.folder / figures_file(layer), framework="pt") as file:
                self._figures[layer] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return self._figures[layer]

    def _require_layer(self, layer: int) -> None:
        if layer not in self.card.layers:
            raise AtlasError(
                f"layer {layer} is not described; {self.folder} has layers {', '.join(map(str, self.card.layers))}"
            )

    @cached_property
    def sizes(self) -> list[int]:
        """Numbers of texts for which figures are there."""
        return self.card.sizes

    def _held_out(self, layer: int, neuron: int) -> dict[str, Any] | None:
        """The figures of one neuron on held-out images, where they were evaluated; None for undefined ones."""
        if not (self.folder / QUALITY).is_file():
            return None
        rows = pq.read_table(
            self.folder / QUALITY, filters=[("layer", "=", layer), ("neuron", "=", neuron)]
        ).to_pylist()
        if not rows:
            return None
        return {name: finite(value) for name, value in rows[0].items() if name not in ("layer", "neuron")}

    def words(self, layer: int, neuron: int) -> str:
        """A neuron's words on one line: four a sense, three senses; "-" stands before what it writes against."""
        return "; ".join(", ".join(sense["texts"][:4]) for sense in self.neuron(layer, neuron)["senses"][:3])

    def neuron(self, layer: int, neuron: int) -> dict[str, Any]:
        """What is said of one neuron, as plain data: texts by falling fraction, senses, and figures by size."""
        neurons = len(self.figures(layer)["senses"])
        if not 0 <= neuron < neurons:
            raise AtlasError(f"layer {layer} has neurons 0 to {neurons - 1}, got {neuron}")
        table = self.table(layer, neuron)
        texts = sorted(table.to_pylist(), key=lambda row: -abs(row["fraction"]))
        for row in texts:
            del row["neuron"]
        figures = {name: values[neuron] for name, values in self.figures(layer).items() if "null" not in name}
        senses: list[dict[str, Any]] = []
        for sense in range(int(figures["senses"])):
            mine = [row for row in texts if row["sense"] == sense]
            senses.append(
                {
                    "texts": [("-" if row["coefficient"] < 0 else "") + row["text"] for row in mine],
                    "fraction": sum(abs(row["fraction"]) for row in mine),
                    "images": int((figures["top_senses"] == sense).sum()),
                }
            )
        return {
            "pool": self.name,
            "held_out": self._held_out(layer, neuron),
            "texts": texts,
            "senses": senses,
            "polysemy": float(figures["polysemy"]),
            "top_senses": figures["top_senses"].tolist(),
            "quality": [
                {"texts": size, "cosine": cosine, "p_isotropic": isotropic, "p_matched": matched}
                for size, cosine, isotropic, matched in zip(
                    self.sizes,
                    figures["cosines"].tolist(),
                    figures["p_isotropic"].tolist(),
                    figures["p_matched"].tolist(),
                    strict=True,
                )
            ],
        }


def read_card(folder: Path) -> DescriptionCard:
    """description.json of a folder; `AtlasError` where it does not fit."""
    try:
        content = json.loads((folder / CARD).read_text(encoding="utf-8"))
        if isinstance(content, dict) and content.get("schema_version") == 1:
            raise AtlasError(
                f"{folder / CARD} has schema version 1, this secondlens reads version {SCHEMA_VERSION}; "
                f"run 'secondlens atlas upgrade {folder.parent.parent}'"
            )
        return DescriptionCard.model_validate(content)
    except (OSError, ValueError, ValidationError) as error:
        raise AtlasError(f"cannot read {folder / CARD}: {error}; remove the folder and describe again") from error
