"""Texts encoded and directions decomposed by workers, against one machine."""

from pathlib import Path
from typing import Any

import pytest
import torch

import secondlens as sl
from builders import WORDS
from secondlens.descriptions import describe, parts
from secondlens.descriptions.cluster import cluster_describe
from secondlens.descriptions.pools import open_pool
from secondlens.lens import LensModel, texts


def test_descriptions_are_those_of_one_machine(
    ray: Any, loaded: LensModel, plain: sl.Atlas, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "PART", 20)
    monkeypatch.setattr(texts, "ENCODED_AT_ONCE", 16)
    words = cache.parent / "words.txt"
    words.write_text("\n".join(WORDS))
    options: dict[str, Any] = {"null_draws": 19}
    titles: set[str] = set()
    found, nodes = cluster_describe(
        plain, words, 6, name="there", workers=1, threads=1, progress=lambda title, *_: titles.add(title), **options
    )
    # By workers: 53 texts in parts of 16, and of two layers 48 neurons in parts of 20 and 19 draws of two kinds.
    assert nodes[0].pieces == 4 + 2 * (3 + 2)
    assert nodes[0].items == len(WORDS) + 2 * (48 + 2 * 19)
    assert {"encoding texts", "decomposing"} <= titles
    pool = open_pool(words, loaded)
    encoded = texts.encode(loaded, pool.texts)
    assert torch.equal(pool.embeddings, encoded)
    monkeypatch.setattr(parts, "PART", 20)
    here = describe(plain, pool, 6, name="here", **options)
    assert here.card.files == found.card.files
    assert here.card.settings == found.card.settings
    assert not (found.folder / "progress").exists()
