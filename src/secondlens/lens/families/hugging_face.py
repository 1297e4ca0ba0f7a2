"""What the Hugging Face adapters share: loading a class from safetensors, tokenised texts, encoder layers."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from secondlens.errors import ModelError
from secondlens.lens.preprocessing import quiet
from secondlens.lens.tower import AttentionWeights, Block


def load_weights(cls: Any, location: str) -> Any:
    """`cls.from_pretrained` in float32 and from safetensors only; a missing or surplus weight is an error.

    Raises `ModelError` for a folder without safetensors, a damaged file, or weights that do not fit the configuration.
    """
    folder = Path(location)
    if folder.is_dir() and not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"{location} has no *.safetensors file; other formats (pickles) are never loaded. "
            "Convert it with: model.save_pretrained(folder, safe_serialization=True)"
        )
    try:
        with quiet():
            module, info = cls.from_pretrained(
                location, dtype=torch.float32, use_safetensors=True, output_loading_info=True
            )
    except Exception as error:
        raise ModelError(f"cannot load the weights of {location} as {cls.__name__}: {error}") from error
    missing = sorted(info["missing_keys"])
    if missing:
        raise ModelError(
            f"{location} lacks {len(missing)} weights of {cls.__name__} (first: {missing[0]}): "
            "the checkpoint does not belong to this configuration"
        )
    return module


def load_tokenizer(location: str) -> Any | None:
    """The tokenizer stored beside a model, or None where a local folder has none."""
    from transformers import AutoTokenizer

    folder = Path(location)
    names = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "spiece.model")
    if folder.is_dir() and not any((folder / name).exists() for name in names):
        return None
    try:
        with quiet():
            return AutoTokenizer.from_pretrained(location)
    except Exception as error:
        raise ModelError(f"cannot load the tokenizer of {location}: {error}") from error


class TokenisedTexts:
    """Texts through a tokenizer and a text tower, in batches; longer texts than the context are an error."""

    def __init__(
        self,
        tokenizer: Any,
        features: Callable[..., Any],
        context: int,
        pad_to_context: bool = False,
        batch_size: int = 256,
    ) -> None:
        self.tokenizer = tokenizer
        self.features = features
        self.context = context
        self.padding = "max_length" if pad_to_context else "longest"
        self.batch_size = batch_size

    def __call__(self, texts: Sequence[str], device: torch.device, truncate: bool = False) -> Tensor:
        """[text, embed], unnormalised."""
        starts = range(0, len(texts), self.batch_size)
        return torch.cat([self._encode(texts[start : start + self.batch_size], device, truncate) for start in starts])

    def overlong(self, texts: Sequence[str]) -> list[int]:
        """Rows of texts with more tokens than the context has."""
        return [row for row, length in enumerate(self._lengths(texts)) if length > self.context]

    def identity(self) -> str:
        """The tokenizer as its own file format, the context and the padding."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        spelled = backend.to_str() if backend is not None else str(sorted(self.tokenizer.get_vocab().items()))
        return f"{type(self.tokenizer).__name__} {self.context} {self.padding} {spelled}"

    def unknown_words(self, text: str) -> list[str]:
        """Words of a text that the tokenizer has no token for: of one that only knows whole words; else none."""
        unknown = self.tokenizer.unk_token_id
        if unknown is None:
            model = getattr(getattr(self.tokenizer, "backend_tokenizer", None), "model", None)
            unknown = self.tokenizer.convert_tokens_to_ids(getattr(model, "unk_token", None) or "")
        if unknown is None:
            return []
        known = self.tokenizer(text.split(), add_special_tokens=False, verbose=False)["input_ids"]
        return [word for word, ids in zip(text.split(), known, strict=True) if unknown in ids]

    def _lengths(self, texts: Sequence[str]) -> list[int]:
        # `verbose` would warn of the texts that are counted here.
        return [len(ids) for ids in self.tokenizer(list(texts), verbose=False)["input_ids"]]

    def _encode(self, texts: Sequence[str], device: torch.device, truncate: bool) -> Tensor:
        lengths = self._lengths(texts)
        if max(lengths) > self.context and not truncate:
            worst = max(range(len(texts)), key=lengths.__getitem__)
            raise ModelError(
                f"{sum(length > self.context for length in lengths)} of {len(texts)} texts are longer than the "
                f"model's context of {self.context} tokens (longest: {lengths[worst]} tokens, "
                f"{texts[worst][:60]!r}); shorten them"
            )
        tokens = self.tokenizer(list(texts), padding=self.padding, max_length=self.context, truncation=truncate)
        # SigLIP's tokenizer gives no mask, and its text tower was trained without one.
        names = [name for name in ("input_ids", "attention_mask") if name in tokens]
        return self.features(**{name: torch.tensor(tokens[name], device=device) for name in names}).pooler_output


def encoder_block(layer: Any) -> Block:
    """A layer of the CLIP and SigLIP encoders, which name their parts alike."""
    attention = layer.self_attn

    def weights() -> AttentionWeights:
        return AttentionWeights.from_linears(
            attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj, attention.num_heads
        )

    def run(residual: Tensor) -> Tensor:
        return layer(residual, attention_mask=None)

    def mlp(residual: Tensor) -> Tensor:
        return residual + layer.mlp(layer.layer_norm2(residual))

    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    return Block(layer, run, layer.layer_norm1, weights, mlp, projections)


def activation_name(config: Any) -> str:
    """The activation function as the configuration names it."""
    return str(config.hidden_act)


def image_size(config: Any) -> tuple[int, int]:
    """(height, width) that the position embeddings were made for."""
    size = config.image_size
    return (int(size), int(size)) if isinstance(size, int) else (int(size[0]), int(size[1]))
