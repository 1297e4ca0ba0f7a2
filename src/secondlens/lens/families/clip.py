"""Adapter: Hugging Face `CLIPModel` and `CLIPVisionModelWithProjection` (OpenAI, LAION, MetaCLIP, DFN, TinyCLIP)."""

from typing import Any

from torch import Tensor, nn

from secondlens.errors import ModelError
from secondlens.lens.families.base import Adapted, Upstream
from secondlens.lens.families.hugging_face import (
    TokenisedTexts,
    activation_name,
    encoder_block,
    image_size,
    load_tokenizer,
    load_weights,
)
from secondlens.lens.preprocessing import OPENAI_MEAN, OPENAI_STD, load_processor
from secondlens.lens.tower import MLP, VisionTower

NAME, PACKAGE = "hf-clip", "transformers"
MODEL_TYPES = ("clip", "clip_vision_model")
CLASSES: tuple[str, ...] = ("CLIPModel", "CLIPVisionModelWithProjection")


def load(location: str, config: Any) -> Upstream:
    """Load weights, tokenizer and preprocessing from `location`."""
    from transformers import CLIPImageProcessorPil, CLIPModel, CLIPVisionModelWithProjection

    full = config.model_type == "clip"
    model = load_weights(CLIPModel if full else CLIPVisionModelWithProjection, location)
    vision = config.vision_config if full else config
    size = {"height": image_size(vision)[0], "width": image_size(vision)[1]}
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": vision.image_size},
        crop_size=size,
        image_mean=OPENAI_MEAN,
        image_std=OPENAI_STD,
    )
    return Upstream(model, load_processor(location, processor), load_tokenizer(location) if full else None)


def adapt(module: Any, tokenizer: Any | None, reference: str) -> Adapted:
    """The image tower, and texts where there is a tokenizer."""
    if tokenizer is None:
        return Adapted(tower(module))
    if not hasattr(module, "get_text_features"):
        raise ModelError(f"{reference} has no text tower, so a tokenizer is of no use to it; leave it out")
    context = module.config.text_config.max_position_embeddings
    return Adapted(tower(module), TokenisedTexts(tokenizer, module.get_text_features, context))


def tower(model: Any) -> VisionTower:
    """References into a `CLIPModel` or `CLIPVisionModelWithProjection` in memory."""
    vision, config = model.vision_model, model.vision_model.config

    size = image_size(config)

    def forward(pixels: Tensor) -> Tensor:
        return model.visual_projection(
            vision(pixels, interpolate_pos_encoding=tuple(pixels.shape[-2:]) != size).pooler_output
        )

    def finish(pooled: Tensor) -> Tensor:
        return model.visual_projection(vision.post_layernorm(pooled))

    layers = vision.encoder.layers
    blocks = tuple(encoder_block(layer) for layer in layers)
    return VisionTower(
        module=nn.ModuleDict({"vision": vision, "projection": model.visual_projection}),
        forward=forward,
        readers=tuple(block.reader(layer) for layer, block in enumerate(blocks)),
        mlps=tuple(MLP(layer.mlp.fc2, norm=layer.layer_norm2, expand=layer.mlp.fc1) for layer in layers),
        blocks=blocks,
        readout=lambda tokens: finish(tokens[:, 0]),
        finish=finish,
        final_norm=vision.post_layernorm,
        projection=lambda: model.visual_projection.weight.detach(),
        activation=activation_name(config),
        image_size=size,
        patch=config.patch_size,
        any_size=size[0] == size[1],
    )
