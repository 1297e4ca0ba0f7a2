"""The embeddings of the surveyed images, as a Parquet table."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondlens.errors import AtlasError


def embeddings_table(positions: Int[Tensor, " image"], embeddings: Float[Tensor, "image embed"]) -> pa.Table:
    """Columns `position`, a row of images.parquet, and `embedding`, a list of half-precision numbers."""
    values = pa.array(embeddings.half().cpu().flatten().numpy())
    vectors = pa.FixedSizeListArray.from_arrays(values, embeddings.shape[1])
    return pa.table({"position": pa.array(positions.cpu().numpy()), "embedding": vectors})


def read_embeddings(path: Path, images: int, embed: int) -> Float[Tensor, "image embed"]:
    """Unit-norm embeddings, float32, one row an image of the source; zero for images that were skipped.

    Raises `AtlasError` where the file is missing or damaged.
    """
    if not path.is_file():
        raise AtlasError(f"{path} is missing: the atlas is of an older secondlens; survey the images again")
    try:
        table = pq.read_table(path)
        values = table["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        rows = torch.from_numpy(table["position"].to_numpy().copy())
        found = torch.from_numpy(values.astype(np.float32)).view(-1, embed)
    except Exception as error:
        raise AtlasError(f"cannot read {path}: {error}; 'secondlens atlas check' lists what is damaged") from error
    embeddings = torch.zeros(images, embed)
    embeddings[rows] = found
    return embeddings
