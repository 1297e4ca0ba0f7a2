"""How well a description tells a neuron's images on held-out ones, where `secondlens evaluate descriptions` was run."""

from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from secondlens.descriptions.store import QUALITY, Descriptions
from secondlens.disk.json_text import finite, json_text


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
