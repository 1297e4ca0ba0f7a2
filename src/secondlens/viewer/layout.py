"""How numbers are laid out in the site's binary files: slices of rows, field after field.

A slice holds some consecutive rows (neurons, texts). Its fields follow each other without gaps, each an array
[row, *shape] in row-major order, little-endian. Wide types come first, so that every array is aligned. The names,
types and shapes are in `site.json`, so that a reader needs no other knowledge.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from secondlens.errors import SecondLensError

SLICE = 32
"""Neurons a slice: a page of one neuron reads about a hundred kilobytes."""

Kind = Literal["int32", "float32", "float16", "int8"]


@dataclass(frozen=True)
class Field:
    """One array of a slice: its name, element type and the shape of one row."""

    name: str
    kind: Kind
    shape: tuple[int, ...]

    def described(self) -> dict[str, Any]:
        """As it stands in `site.json`."""
        return {"name": self.name, "type": self.kind, "shape": list(self.shape)}


def pack(fields: Sequence[Field], arrays: dict[str, Any], rows: int) -> bytes:
    """The bytes of a slice of `rows` rows; arrays: numpy or torch, by name, [row, *shape].

    Raises `SecondLensError` for an array of another shape: a file must not say what it does not hold.
    """
    parts = []
    for field in fields:
        values = np.ascontiguousarray(arrays[field.name], dtype=np.dtype(field.kind).newbyteorder("<"))
        if values.shape != (rows, *field.shape):
            raise SecondLensError(
                f"expected {field.name} of shape {[rows, *field.shape]}, got {list(values.shape)}; the atlas is "
                "damaged: 'secondlens atlas check' lists what is wrong"
            )
        parts.append(values.tobytes())
    return b"".join(parts)


def slices(rows: int, size: int = SLICE) -> Iterator[tuple[int, slice]]:
    """(number, rows) of each slice of so many rows."""
    for number, start in enumerate(range(0, rows, size)):
        yield number, slice(start, min(start + size, rows))
