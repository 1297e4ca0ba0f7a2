"""Pools: named lists of texts with embeddings for one model."""

from secondlens.data.generate import GenerationReport, generate_descriptions
from secondlens.data.texts import TextRules, clean_texts, read_texts
from secondlens.lens.texts import encode
from secondlens.pools.build import find_pools, open_pool, pools_folder
from secondlens.pools.builtin import BUILTIN
from secondlens.pools.pool import Pool, PoolCard

__all__ = [
    "BUILTIN",
    "GenerationReport",
    "Pool",
    "PoolCard",
    "TextRules",
    "clean_texts",
    "encode",
    "find_pools",
    "generate_descriptions",
    "open_pool",
    "pools_folder",
    "read_texts",
]
