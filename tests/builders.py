"""Small models with random, non-trivial weights, saved as real folders and loaded as a user would load them."""

from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPConfig,
    CLIPModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipModel,
    ViTConfig,
    ViTForImageClassification,
)

SHARED = Path(__file__).resolve().parents[1] / ".." / "shared"


@dataclass(frozen=True)
class Spec:
    """One random model of a family."""

    family: str
    layers: int = 4
    heads: int = 4
    width: int = 32
    neurons: int = 48
    patch: int = 16
    size: int = 64
    embed: int = 24
    activation: str = "gelu"

    @property
    def name(self) -> str:
        return f"{self.family}-l{self.layers}-h{self.heads}-p{self.patch}-{self.activation}"


SPECS = [
    Spec("clip"),
    Spec("clip", layers=3, heads=2, patch=8, size=32, activation="quick_gelu"),
    # More paths than embedding dimensions: the Gram matrix is singular.
    Spec("clip", layers=6, heads=8, patch=32, embed=16),
    Spec("siglip", activation="gelu_pytorch_tanh"),
    Spec("siglip", layers=2, heads=8, patch=8, size=32),
    Spec("vit"),
    Spec("vit", layers=5, heads=2, patch=32, activation="quick_gelu"),
]
VIT = next(spec for spec in SPECS if spec.family == "vit")


def build(spec: Spec, seed: int = 0, vocabulary: int = 64) -> PreTrainedModel:
    """The upstream model in memory."""
    common = {
        "hidden_size": spec.width,
        "intermediate_size": spec.neurons,
        "num_hidden_layers": spec.layers,
        "num_attention_heads": spec.heads,
        "image_size": spec.size,
        "patch_size": spec.patch,
        "hidden_act": spec.activation,
    }
    text = {
        "hidden_size": spec.width,
        "intermediate_size": 48,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "vocab_size": vocabulary,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    if spec.family == "clip":
        model = CLIPModel(CLIPConfig(vision_config=common, text_config=text, projection_dim=spec.embed))
    elif spec.family == "siglip":
        model = SiglipModel(SiglipConfig(vision_config=common, text_config={**text, "projection_size": spec.width}))
    else:
        labels = {index: name for index, name in enumerate(["cat, house cat", "dog", "crane", "fire truck, crane"])}
        model = ViTForImageClassification(
            ViTConfig(**common, id2label=labels, architectures=["ViTForImageClassification"])
        )
    return randomise(model, seed)


def randomise(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Weights large enough that attention is far from uniform and layer norms far from trivial."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            if "norm" in name or "ln_" in name:
                parameter.copy_(noise * 0.2 + (1.0 if name.endswith("weight") else 0.0))
            elif parameter.ndim >= 2:
                parameter.copy_(noise * 1.2 / parameter[0].numel() ** 0.5)
            else:
                parameter.copy_(noise * 0.3)
    return model.eval()


def pixels(count: int, size: int, seed: int = 0) -> torch.Tensor:
    """Random preprocessed images."""
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def hooks_of(module: torch.nn.Module) -> int:
    """Hooks that a forward pass would call; torch keeps them in attributes that are not public."""
    return sum(len(each._forward_hooks) + len(each._forward_pre_hooks) for each in module.modules())


WORDS = ["a", "photo", "of"] + [
    f"{first}{second}" for first in "bdfghjklmn" for second in ("at", "en", "ip", "ol", "um")
]
"""The words that `save_worded`'s tokenizer knows; all others are one unknown word to it."""


def save_worded(folder: Path, seed: int = 0, words: list[str] = WORDS) -> Path:
    """A tiny CLIP with a tokenizer of whole words, so that it encodes texts (77 words at most)."""
    size = max(64, len(words) + 4)
    build(Spec("clip", layers=3, heads=2, size=32), seed, size).save_pretrained(folder)
    known = {"<pad>": 0, "<unk>": 3} | {word: 4 + row for row, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>").save_pretrained(folder)
    return folder
