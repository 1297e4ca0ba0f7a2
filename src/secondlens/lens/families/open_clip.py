"""Adapter: open_clip's own `VisionTransformer` with a class token (extra: openclip).

Its projections inside `nn.MultiheadAttention` are called functionally, so a hook on them never fires: only the layer
norms and the MLP's `c_proj` are hook sites. LayerScale, where present, is folded into the weights that are handed out.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from secondlens.errors import MissingExtra, ModelError, closest
from secondlens.lens.families.base import Adapted, Upstream
from secondlens.lens.preprocessing import quiet
from secondlens.lens.reference import ModelReference
from secondlens.lens.tower import MLP, AttentionWeights, Block, VisionTower

NAME, PACKAGE = "openclip", "open_clip"
# CoCa, which pools by attention, is refused by `tower`, with that reason.
CLASSES: tuple[str, ...] = ("CLIP", "CustomTextCLIP", "CoCa")


def load(reference: ModelReference) -> Upstream:
    """Load `openclip:NAME/TAG` or `openclip:/file.safetensors?model=NAME`; safetensors only."""
    try:
        import open_clip
    except ImportError as error:
        raise MissingExtra("open_clip", "openclip", f"the model {reference.text}") from error

    name = reference.options.get("model") if reference.path else reference.location.rpartition("/")[0]
    if not name:
        raise ModelError(
            f"expected 'openclip:NAME/TAG' or 'openclip:/file.safetensors?model=NAME', got {reference.text!r}"
        )
    if name not in open_clip.list_models():
        raise ModelError(f"open_clip knows no model {name!r}{closest(name, open_clip.list_models())}")
    weights = reference.path or _download(open_clip, name, reference.location.rpartition("/")[2])
    if weights.suffix != ".safetensors":
        raise ModelError(f"expected weights in a .safetensors file, got {weights.name}; pickles are never loaded")
    try:
        with quiet():
            model = open_clip.create_model(name, pretrained=str(weights), precision="fp32")
    except Exception as error:
        raise ModelError(f"cannot load {weights} as open_clip's {name}: {error}") from error
    return Upstream(model, _processor(model.visual), open_clip.get_tokenizer(name))


def adapt(module: Any, tokenizer: Any | None, reference: str) -> Adapted:
    """The image tower, and texts where there is a tokenizer."""
    return Adapted(tower(module, reference), None if tokenizer is None else _Texts(module, tokenizer))


def _download(open_clip: Any, name: str, tag: str) -> Path:
    known = open_clip.list_pretrained_tags_by_model(name)
    if tag not in known:
        raise ModelError(f"open_clip has no weights {tag!r} for {name}{closest(tag, known)}")
    try:
        with quiet():
            return Path(open_clip.download_pretrained(open_clip.get_pretrained_cfg(name, tag)))
    except Exception as error:
        raise ModelError(f"cannot download {name}/{tag}: {error}") from error


def _processor(visual: Any) -> Any:
    from transformers import CLIPImageProcessorPil

    config = visual.preprocess_cfg
    size = config["size"]
    height, width = (size, size) if isinstance(size, int) else size
    modes = {"bilinear": 2, "bicubic": 3}
    if config.get("resize_mode", "shortest") not in ("shortest", "squash") or config["interpolation"] not in modes:
        raise ModelError(
            f"unsupported open_clip preprocessing: {config}; expected shortest or squash, bicubic/bilinear"
        )
    squash = config.get("resize_mode") == "squash" or height != width
    return CLIPImageProcessorPil(
        size={"height": height, "width": width} if squash else {"shortest_edge": height},
        crop_size={"height": height, "width": width},
        image_mean=config["mean"],
        image_std=config["std"],
        resample=modes[config["interpolation"]],
    )


# Texts encoded at a time.
BATCH_SIZE = 256


class _Texts:
    """Texts through open_clip's tokenizer and text tower; the tokenizer cuts silently, so lengths are tested first."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model = model
        self.tokenizer = tokenizer

    def __call__(self, texts: Sequence[str], device: torch.device, truncate: bool = False) -> Tensor:
        """[text, embed], unnormalised."""
        long = [] if truncate else self.overlong(texts)
        if long:
            raise ModelError(
                f"{len(long)} of {len(texts)} texts are longer than the model's context of "
                f"{self.tokenizer.context_length} tokens (first: {texts[long[0]][:60]!r}); shorten them"
            )
        starts = range(0, len(texts), BATCH_SIZE)
        parts = [self.tokenizer(list(texts[start : start + BATCH_SIZE])).to(device) for start in starts]
        return torch.cat([self.model.encode_text(part) for part in parts])

    def overlong(self, texts: Sequence[str]) -> list[int]:
        """Rows of texts that the tokenizer would cut; none where it does not tell lengths."""
        if not hasattr(self.tokenizer, "encode"):
            return []
        # Start and end tokens are added to what `encode` gives.
        room = self.tokenizer.context_length - 2
        return [row for row, text in enumerate(texts) if len(self.tokenizer.encode(text)) > room]

    def identity(self) -> str:
        """The kind of tokenizer, its vocabulary's size and its context."""
        kind = self.tokenizer
        return f"{type(kind).__name__} {getattr(kind, 'vocab_size', None)} {kind.context_length}"


def tower(model: Any, name: str) -> VisionTower:
    """References into an open_clip `CLIP` or `CustomTextCLIP` in memory; raises `ModelError` for other towers."""
    visual = model.visual
    if type(visual).__name__ != "VisionTransformer":
        raise ModelError(
            f"{name}: the image tower is a {type(visual).__name__}; expected open_clip's VisionTransformer. "
            "Models with a timm tower are often on the Hugging Face hub in a supported form (hf:...)"
        )
    if visual.attn_pool is not None or visual.pool_type != "tok":
        raise ModelError(f"{name}: pooling {visual.pool_type!r} is not supported; expected the class token ('tok')")
    layers = visual.transformer.resblocks

    def block(layer: Any) -> Block:
        def weights() -> AttentionWeights:
            attention = AttentionWeights.from_multihead(layer.attn)
            gain = _layer_scale(layer.ls_1)
            return attention if gain is None else attention.scaled(gain())

        def mlp(residual: Tensor) -> Tensor:
            return residual + layer.ls_2(layer.mlp(layer.ln_2(residual)))

        return Block(layer, layer, layer.ln_1, weights, mlp)

    def finish(pooled: Tensor) -> Tensor:
        normed = visual.ln_post(pooled)
        return normed if visual.proj is None else normed @ visual.proj

    blocks = tuple(block(layer) for layer in layers)

    return VisionTower(
        module=visual,
        forward=visual,
        readers=tuple(block.reader(layer) for layer, block in enumerate(blocks)),
        mlps=tuple(MLP(layer.mlp.c_proj, _layer_scale(layer.ls_2), layer.ln_2, layer.mlp.c_fc) for layer in layers),
        blocks=blocks,
        readout=lambda tokens: finish(tokens[:, 0]),
        finish=finish,
        final_norm=visual.ln_post,
        projection=None if visual.proj is None else lambda: visual.proj.detach().T,
        activation=type(layers[0].mlp.gelu).__name__,
        image_size=tuple(visual.image_size),
        patch=visual.patch_size[0],
    )


def _layer_scale(module: nn.Module) -> Callable[[], Tensor] | None:
    """LayerScale's gain [width], or None where the block has none."""
    if isinstance(module, nn.Identity):
        return None
    return lambda: module.gamma.detach()  # type: ignore[operator]
