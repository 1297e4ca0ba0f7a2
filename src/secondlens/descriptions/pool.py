"""`Pool`: a named list of texts with their embeddings for one model, and its folder on disk."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors.torch import load_file
from torch import Tensor

from secondlens.disk.files import make_folder, write_table, write_tensors, write_text
from secondlens.errors import TextError
from secondlens.lens.model import LensModel

CARD, TEXTS, EMBEDDINGS = "pool.json", "texts.parquet", "embeddings.safetensors"
SCHEMA_VERSION: Literal[1] = 1


class PoolCard(BaseModel):
    """Everything in pool.json.

    source: where the texts came from. left_out: how many texts, by reason. templates: each text is put into all of
    them and the unit-norm embeddings are averaged. truncated: whether texts beyond the model's context were cut.
    key: SHA-256 of everything that changes the embeddings. generated: how a language model wrote the texts, or None.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = SCHEMA_VERSION
    name: str
    source: str
    count: int
    left_out: dict[str, int]
    templates: tuple[str, ...]
    truncated: bool
    model: str
    weights_sha256: str
    texts_sha256: str
    key: str
    generated: dict[str, Any] | None
    created: str
    secondlens: str


@dataclass(frozen=True)
class Pool:
    """A list of texts for one model. texts: in order. embeddings: unit norm, float32, [text, embed]."""

    card: PoolCard
    texts: list[str] = field(repr=False)
    embeddings: Float[Tensor, "text embed"] = field(repr=False)

    @property
    def name(self) -> str:
        """What the pool is called."""
        return self.card.name

    def require_model(self, model: LensModel) -> None:
        """Raise `TextError` unless the pool was encoded by that model."""
        if self.card.weights_sha256 != model.weights_hash or self.card.texts_sha256 != model.texts_hash:
            raise TextError(
                f"the pool {self.name!r} was encoded by {self.card.model} (weights {self.card.weights_sha256[:12]}), "
                f"not by {model.reference} (weights {model.weights_hash[:12]}); create it for this model with: "
                f"secondlens pool create"
            )

    def save(self, folder: Path) -> None:
        """Write the pool's folder; the card last, so that a folder with one is complete."""
        make_folder(folder)
        write_table(folder / TEXTS, pa.table({"text": pa.array(self.texts, pa.string())}))
        write_tensors(folder / EMBEDDINGS, {"embeddings": self.embeddings.cpu().contiguous()})
        write_text(folder / CARD, self.card.model_dump_json(indent=2))

    @classmethod
    def open(cls, folder: str | Path) -> "Pool":
        """Read a pool's folder; raises `TextError` for one that is incomplete, damaged or of another schema."""
        folder = Path(folder)
        card = read_card(folder)
        try:
            texts = pq.read_table(folder / TEXTS)["text"].to_pylist()
            embeddings = load_file(folder / EMBEDDINGS)["embeddings"]
        except Exception as error:
            raise TextError(f"cannot read the pool in {folder}: {error}; remove it and create it again") from error
        if len(texts) != card.count or len(embeddings) != card.count:
            raise TextError(
                f"the pool in {folder} has {len(texts)} texts and {len(embeddings)} embeddings, expected {card.count}; "
                "remove it and create it again"
            )
        return cls(card, texts, embeddings)


def read_card(folder: Path) -> PoolCard:
    """pool.json of a folder; raises `TextError` where there is none or it does not fit."""
    path = folder / CARD
    if not path.is_file():
        raise TextError(f"{folder} holds no pool: it has no {CARD}; create one with: secondlens pool create")
    try:
        return PoolCard.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, ValidationError) as error:
        raise TextError(f"cannot read {path}: {error}; remove the folder and create the pool again") from error
