"""The weights that come with the project: whole, loadable by plain transformers, and as good as their card says."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, CLIPModel

from secondlens.errors import ModelError
from secondlens.lens import LensModel
from secondlens.studies.laboratory.measure import measure
from secondlens.world.embedded import CARD, FOLDER, embedded_folder


def test_plain_transformers_load_them(embedded: LensModel) -> None:
    model, tokenizer = CLIPModel.from_pretrained(FOLDER), AutoTokenizer.from_pretrained(FOLDER)
    texts = ["a red boat on the sea", "a cat"]
    tokens = tokenizer(texts, padding=True, return_tensors="pt")
    features = (
        model.float().eval().get_text_features(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
    )
    theirs = torch.nn.functional.normalize(features.pooler_output.detach(), dim=1)
    torch.testing.assert_close(embedded.encode_texts(texts), theirs)
    assert (FOLDER / "model.safetensors").stat().st_size < 8e6


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "weights")
    assert embedded_folder(tmp_path / "weights") == tmp_path / "weights"
    with (tmp_path / "weights" / "model.safetensors").open("r+b") as file:
        file.seek(100_000)
        file.write(b"x")
    with pytest.raises(ModelError, match="damaged or were replaced"):
        embedded_folder(tmp_path / "weights")
    with pytest.raises(ModelError, match="missing"):
        embedded_folder(tmp_path)


def test_figures_of_the_card_in_a_small_form(embedded: LensModel) -> None:
    card = json.loads((FOLDER / CARD).read_text())["figures"]
    found = measure(embedded, scenes=150, groups=1)
    for name, value in card.items():
        # Four standard deviations of a share of 150 (a group of 100 for retrieval), and one scene.
        spread = 4 * (max(value * (1 - value), 0.01) / 100) ** 0.5 + 0.01
        assert abs(found[name] - value) <= spread, name
