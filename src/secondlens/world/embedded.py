"""The model that this project carries (`world:`): where its folder is, and whether it is whole."""

import hashlib
import json
from pathlib import Path

from secondlens.errors import ModelError

FOLDER = Path(__file__).parent / "weights"
CARD = "card.json"


def embedded_folder(folder: Path = FOLDER) -> Path:
    """The folder of the embedded world's CLIP, its weights checked against the hash in its card.

    Raises `ModelError` where the folder is missing or the weights are not those of the card.
    """
    weights, card = folder / "model.safetensors", folder / CARD
    if not weights.is_file() or not card.is_file():
        raise ModelError(f"the embedded world's model is missing from {folder}; install secondlens again")
    expected = json.loads(card.read_text(encoding="utf-8"))["weights_sha256"]
    found = hashlib.sha256(weights.read_bytes()).hexdigest()
    if found != expected:
        raise ModelError(
            f"the embedded world's weights in {folder} are damaged or were replaced (SHA-256 {found[:12]}, expected "
            f"{expected[:12]}); install secondlens again, or give your own folder as hf:FOLDER"
        )
    return folder
