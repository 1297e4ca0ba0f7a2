"""The embedded world's own CLIP: a small `CLIPModel` of transformers, a tokenizer of whole words, a preprocessor.

Everything is stock: the folder loads with plain transformers. The image tower is a standard class-token ViT.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

SIDE = 64
PATCH = 8
CONTEXT = 32
# Of the rendered scenes, over all channels: pixels come out around zero with a spread of one.
MEAN, STD = 0.5, 0.25
SPECIAL = ("<pad>", "<unk>", "<bos>", "<eos>")
"""The end of text is not number 2: transformers treats that number as a sign of its oldest CLIP configurations."""


def make_model(
    words: int, *, width: int = 192, layers: int = 6, heads: int = 6, embed: int = 128, seed: int = 0
) -> Any:
    """A `CLIPModel` with fresh weights.

    words: size of the tokenizer's vocabulary, special tokens included. width, layers, heads: of the image tower, whose
    MLPs have 4 x width neurons. embed: dimensions of the joint space.
    """
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(seed)
    return CLIPModel(
        CLIPConfig(
            projection_dim=embed,
            vision_config={
                "hidden_size": width,
                "intermediate_size": 4 * width,
                "num_hidden_layers": layers,
                "num_attention_heads": heads,
                "image_size": SIDE,
                "patch_size": PATCH,
                "hidden_act": "gelu",
                "projection_dim": embed,
            },
            text_config={
                "hidden_size": 128,
                "intermediate_size": 512,
                "num_hidden_layers": 3,
                "num_attention_heads": 4,
                "vocab_size": words,
                "max_position_embeddings": CONTEXT,
                "hidden_act": "gelu",
                "projection_dim": embed,
                "pad_token_id": SPECIAL.index("<pad>"),
                "bos_token_id": SPECIAL.index("<bos>"),
                "eos_token_id": SPECIAL.index("<eos>"),
            },
        )
    )


def make_tokenizer(words: Sequence[str]) -> Any:
    """A fast tokenizer of whole lower-case words; every text begins with `<bos>` and ends with `<eos>`."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    numbers = {word: number for number, word in enumerate((*SPECIAL, *words))}
    tokenizer = Tokenizer(models.WordLevel(numbers, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[(name, numbers[name]) for name in ("<bos>", "<eos>")]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<bos>",
        eos_token="<eos>",
        model_max_length=CONTEXT,
    )


def make_processor() -> Any:
    """Resize to the scenes' side and normalise."""
    from transformers import CLIPImageProcessorPil

    return CLIPImageProcessorPil(
        size={"shortest_edge": SIDE},
        crop_size={"height": SIDE, "width": SIDE},
        image_mean=[MEAN] * 3,
        image_std=[STD] * 3,
    )


def save(model: Any, words: Sequence[str], folder: Path) -> None:
    """Model in half precision, tokenizer and preprocessor as one Hugging Face folder."""
    import copy

    folder.mkdir(parents=True, exist_ok=True)
    copy.deepcopy(model).cpu().half().save_pretrained(folder)
    make_tokenizer(words).save_pretrained(folder)
    make_processor().save_pretrained(folder)
