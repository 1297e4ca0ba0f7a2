"""Descriptions on the site: headline words, a neuron's words at every length, and an index from words to neurons.

How well a description tells a neuron's images on held-out ones, where `secondlens evaluate descriptions` was run.
"""

import warnings
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor

from secondlens.atlas.store import Atlas
from secondlens.descriptions.pool import Pool
from secondlens.descriptions.pools import described_pool
from secondlens.descriptions.store import QUALITY, Descriptions, texts_file
from secondlens.descriptions.tables import code_shares
from secondlens.disk.json_text import finite, json_text
from secondlens.errors import TextError
from secondlens.numerics.sparse.codes import SparseCodes
from secondlens.numerics.sparse.dictionary import text_atoms
from secondlens.viewer.layout import Field, pack


class HeldOut:
    """The figures of one description by layer; `there` says whether it was evaluated."""

    def __init__(self, description: Descriptions) -> None:
        path = description.folder / QUALITY
        self._table = pq.read_table(path) if path.is_file() else None
        # The last layer's rows by neuron: an export asks for one layer's slices after the other.
        self._kept: tuple[int, dict[int, dict[str, Any]]] = (-1, {})

    @property
    def there(self) -> bool:
        """Whether there are any figures."""
        return self._table is not None and self._table.num_rows > 0

    @property
    def predicts(self) -> bool:
        """Whether the ROC-AUC is among them."""
        return self.there and "auc" in self._columns

    def auc(self, layer: int, neurons: int) -> np.ndarray:
        """ROC-AUC of the words on held-out images [neuron], NaN where it is not known."""
        found = np.full(neurons, np.nan)
        for neuron, row in self._rows(layer).items():
            found[neuron] = np.nan if row["auc"] is None else row["auc"]
        return found

    def part(self, layer: int, rows: slice) -> bytes:
        """JSON list over some neurons: the figures of each as `secondlens neurons show --json` has them, or null."""
        known = self._rows(layer)
        found = [known.get(neuron) for neuron in range(rows.start, rows.stop)]
        return json_text(found).encode()

    @property
    def _columns(self) -> list[str]:
        return [] if self._table is None else self._table.column_names

    def _rows(self, layer: int) -> dict[int, dict[str, Any]]:
        if self._kept[0] != layer and self._table is not None:
            mine = self._table.filter(pc.equal(self._table["layer"], layer)).drop_columns(["layer"]).to_pylist()
            self._kept = (
                layer,
                {row.pop("neuron"): finite(row) for row in mine},
            )
        return self._kept[1]


HEADLINE = 6
"""Words of a neuron that grids show."""

TEXTS = 512
"""Texts a slice of the index."""

FOUND = 24
"""Neurons kept a text, by their direction's product with it."""

DESCRIBED = 60
"""Neurons kept a text, by its share in their description."""


class WordFiles:
    """Files of one description of an atlas.

    Where the pool it was made over is still in the cache, coefficients are solved for again at every length and each
    text's nearest neurons are found; without it the site has the full length's coefficients and the index of words.
    """

    def __init__(self, atlas: Atlas, description: Descriptions) -> None:
        self.atlas = atlas
        self.description = description
        self.settings = description.card.settings
        self.layers = description.card.layers
        self.held_out = HeldOut(description)
        # The last layer's: an export goes layer by layer, and all of them together are large.
        self._kept: tuple[int, dict[str, Tensor]] | None = None

    @cached_property
    def pool(self) -> Pool | None:
        """The pool of the description, from the cache."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            try:
                return described_pool(None, self.description)
            except TextError:
                return None

    @property
    def refitted(self) -> bool:
        """Whether shorter descriptions have coefficients of their own."""
        return self.pool is not None and self.settings.method == "omp"

    @cached_property
    def lengths(self) -> list[int]:
        """Numbers of texts for which coefficients are stored."""
        return self.description.sizes if self.refitted else [self.settings.nonzero]

    def columns(self) -> list[str]:
        """Names of the columns of `column_file`."""
        predicted = ["prediction_auc"] if self.held_out.predicts else []
        return ["polysemy", "senses", "cosine", "p_isotropic", "p_matched", *predicted]

    def fields(self) -> list[Field]:
        """The arrays of a neuron's slice; coefficients and fractions of each length follow one another."""
        nonzero, stored, sizes = self.settings.nonzero, sum(self.lengths), len(self.description.sizes)
        return [
            Field("texts", "int32", (nonzero,)),
            Field("coefficients", "float32", (stored,)),
            Field("fractions", "float32", (stored,)),
            Field("cosines", "float32", (sizes,)),
            Field("p_isotropic", "float32", (sizes,)),
            Field("p_matched", "float32", (sizes,)),
            Field("senses", "int8", (nonzero,)),
            Field("top_senses", "int8", (self.atlas.manifest.top,)),
        ]

    def described(self, folder: str) -> dict[str, Any]:
        """As it stands in `site.json`."""
        return {
            "folder": folder,
            "name": self.description.name,
            "settings": self.settings.model_dump(),
            "layers": self.layers,
            "sizes": self.description.sizes,
            "lengths": self.lengths,
            "columns": self.columns(),
            "headline": HEADLINE,
            "fields": [field.described() for field in self.fields()],
            "texts_per_file": TEXTS,
            "found": self._found_count() if self.pool is not None else 0,
            "held_out": self.held_out.there,
        }

    def texts(self) -> bytes:
        """JSON list of the pool's texts; without the pool, those of the descriptions, others empty."""
        return json_text(self._texts).encode()

    def column_file(self, layer: int) -> bytes:
        """float32 [column, neuron], then int32 [neuron, HEADLINE]: rows of the texts with the largest shares, -1 for
        none, and -2 - row where the neuron writes against the text.
        """
        figures = self.description.figures(layer)
        last = len(self.description.sizes) - 1
        rows = [
            figures["polysemy"], figures["senses"], figures["cosines"][:, last], figures["p_isotropic"][:, last],
            figures["p_matched"][:, last],
        ]  # fmt: skip
        columns = [row.float().numpy() for row in rows]
        if self.held_out.predicts:
            columns.append(self.held_out.auc(layer, len(columns[0])))
        return np.stack(columns).astype("<f4").tobytes() + self._headline(layer).astype("<i4").tobytes()

    def part(self, layer: int, rows: slice) -> bytes:
        """One slice of neurons: see `fields`."""
        codes, figures = self._codes(layer), self.description.figures(layer)
        coefficients, shares = [], []
        for length in self.lengths:
            if length == self.settings.nonzero:
                found = codes["coefficients"][rows], codes["fractions"][rows]
            else:
                fitted = self._refit(layer, rows, length)
                found = fitted.coefficients, code_shares(fitted)
            coefficients.append(found[0].float())
            shares.append(found[1].float())
        arrays = {
            "texts": codes["rows"][rows],
            "coefficients": torch.cat(coefficients, dim=1),
            "fractions": torch.cat(shares, dim=1),
            "senses": codes["senses"][rows],
            **{name: figures[name][rows] for name in ("cosines", "p_isotropic", "p_matched", "top_senses")},
        }
        return pack(self.fields(), arrays, rows.stop - rows.start)

    def found(self, rows: slice) -> bytes:
        """Of each text the neurons with the largest <r, t>: int32 [text, FOUND] numbers, float32 [text, FOUND]."""
        assert self.pool is not None
        scores = self.pool.embeddings[rows].float() @ self._directions.T
        best = scores.topk(self._found_count(), dim=1)
        return best.indices.numpy().astype("<i4").tobytes() + best.values.numpy().astype("<f4").tobytes()

    def index(self, rows: slice) -> bytes:
        """Of each text the neurons described by it: int32 offsets [text + 1], numbers, float32 shares."""
        starts, numbers, shares = self._index
        low, high = starts[rows.start], starts[rows.stop]
        offsets = (starts[rows.start : rows.stop + 1] - low).astype("<i4")
        return offsets.tobytes() + numbers[low:high].astype("<i4").tobytes() + shares[low:high].astype("<f4").tobytes()

    @cached_property
    def _texts(self) -> list[str]:
        if self.pool is not None:
            return self.pool.texts
        texts = [""] * self.settings.texts
        for layer in self.layers:
            table = self.description.table(layer)
            for row, text in zip(table["row"].to_pylist(), table["text"].to_pylist(), strict=True):
                texts[row] = text
        return texts

    @cached_property
    def _directions(self) -> Tensor:
        return torch.cat([self.atlas.layer(index).directions.float() for index in self.atlas.layers])

    def _found_count(self) -> int:
        return min(FOUND, len(self.atlas.layers) * self.atlas.manifest.model.neurons)

    def _codes(self, layer: int) -> dict[str, Tensor]:
        """rows, coefficients, shares and senses [neuron, nonzero] of a layer, in the order picked."""
        if self._kept is None or self._kept[0] != layer:
            self._kept = (layer, self._read_codes(layer))
        return self._kept[1]

    def _read_codes(self, layer: int) -> dict[str, Tensor]:
        table = pq.read_table(
            self.description.folder / texts_file(layer),
            columns=["neuron", "rank", "row", "coefficient", "fraction", "sense"],
        )
        neuron, rank = (torch.from_numpy(table[name].to_numpy().astype("int64")) for name in ("neuron", "rank"))
        shape = (self.atlas.manifest.model.neurons, self.settings.nonzero)
        wanted = {
            "rows": ("row", torch.full(shape, -1)),
            "coefficients": ("coefficient", torch.zeros(shape)),
            "fractions": ("fraction", torch.zeros(shape)),
            "senses": ("sense", torch.full(shape, -1)),
        }
        for column, into in wanted.values():
            into[neuron, rank] = torch.from_numpy(table[column].to_numpy().copy()).to(into)
        return {name: into for name, (_, into) in wanted.items()}

    @cached_property
    def _atoms(self) -> Tensor:
        assert self.pool is not None
        return text_atoms(self.pool.embeddings, self.settings.normalisation)

    def _refit(self, layer: int, rows: slice, length: int) -> SparseCodes:
        codes = self._codes(layer)
        picked = codes["rows"][rows].long()
        whole = SparseCodes(
            indices=picked,
            coefficients=codes["coefficients"][rows],
            residual_norms=torch.zeros(picked.shape),
            counts=(picked >= 0).sum(dim=1),
            signals=self.atlas.layer(layer).directions[rows],
            dictionary=self._atoms,
            nonnegative=self.settings.nonnegative,
        )
        return whole.prefix(length)

    def _headline(self, layer: int) -> np.ndarray:
        codes = self._codes(layer)
        count = min(HEADLINE, self.settings.nonzero)
        order = torch.where(codes["rows"] >= 0, codes["fractions"].abs(), -1.0).argsort(
            dim=1, descending=True, stable=True
        )
        order = order[:, :count]
        rows, coefficients = codes["rows"].gather(1, order), codes["coefficients"].gather(1, order)
        signed = torch.where((coefficients < 0) & (rows >= 0), -2 - rows, rows)
        return torch.nn.functional.pad(signed, (0, HEADLINE - count), value=-1).numpy()

    @cached_property
    def _index(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Starts [text + 1], numbers and shares, each text's by falling size of share, the first DESCRIBED."""
        rows, numbers, shares = [], [], []
        for layer in self.layers:
            table = pq.read_table(self.description.folder / texts_file(layer), columns=["neuron", "row", "fraction"])
            start = self.atlas.layers.index(layer) * self.atlas.manifest.model.neurons
            rows.append(table["row"].to_numpy())
            numbers.append(table["neuron"].to_numpy() + start)
            shares.append(table["fraction"].to_numpy())
        row, number, share = np.concatenate(rows), np.concatenate(numbers), np.concatenate(shares)
        order = np.lexsort((number, -np.abs(share), row))
        row, number, share = row[order], number[order], share[order]
        first = np.searchsorted(row, np.arange(self.settings.texts))
        kept = np.arange(len(row)) - first[row] < DESCRIBED
        row, number, share = row[kept], number[kept], share[kept]
        return np.searchsorted(row, np.arange(self.settings.texts + 1)), number, share
