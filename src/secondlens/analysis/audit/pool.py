"""The pool that a description was made over, found again."""

import torch
from jaxtyping import Float
from torch import Tensor

from secondlens.descriptions.pool import Pool
from secondlens.descriptions.pools import BUILTIN, find_pools, open_pool
from secondlens.descriptions.store import Descriptions
from secondlens.errors import AuditError
from secondlens.lens.model import LensModel
from secondlens.lens.texts import encode


def described_pool(model: LensModel, descriptions: Descriptions) -> Pool:
    """The pool of a description, from the cache or made again where it is a built-in list.

    Raises `AuditError` where it is in neither.
    """
    settings = descriptions.card.settings
    for folder, card in find_pools():
        if card.key == settings.pool_key:
            return Pool.open(folder)
    if settings.pool in BUILTIN:
        pool = open_pool(settings.pool, model)
        if pool.card.key == settings.pool_key:
            return pool
    raise AuditError(
        f"the pool {settings.pool!r} of {descriptions.folder} is not in the cache any more; create it again for this "
        f"model from its source ({descriptions.card.pool_source}) with: secondlens pool create"
    )


def pool_centre(model: LensModel, descriptions: Descriptions) -> Float[Tensor, " embed"]:
    """Mean embedding of the pool; where the pool is gone, of those of its texts that describe some neuron."""
    try:
        return described_pool(model, descriptions).embeddings.mean(dim=0)
    except AuditError:
        tables = [descriptions.table(layer)["text"].combine_chunks() for layer in descriptions.card.layers]
        texts = sorted({text for table in tables for text in table.unique().to_pylist()})
        return encode(model, texts).mean(dim=0) if texts else torch.zeros(model.embed_dim)
