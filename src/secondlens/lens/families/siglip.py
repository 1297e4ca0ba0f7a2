"""Adapter: Hugging Face `SiglipModel` and the SigLIP 2 checkpoints of the same class.

There is no class token. An attention-pooling head reads the tokens after the last layer norm, its probe is the query,
and its own MLP adds to what it read: the embedding is (attention) + MLP(layer norm(attention)). So the pooling head's
heads are the only paths of a neuron.
"""

from typing import Any

from torch import Tensor

from secondlens.lens.families.base import Adapted, Upstream
from secondlens.lens.families.hugging_face import (
    TokenisedTexts,
    activation_name,
    encoder_block,
    image_size,
    load_tokenizer,
    load_weights,
)
from secondlens.lens.preprocessing import load_processor
from secondlens.lens.tower import MLP, AttentionWeights, Reader, VisionTower

NAME, PACKAGE = "hf-siglip", "transformers"
MODEL_TYPES = ("siglip",)
CLASSES: tuple[str, ...] = ("SiglipModel",)


def load(location: str, config: Any) -> Upstream:
    """Load weights, tokenizer and preprocessing from `location`."""
    from transformers import SiglipImageProcessorPil, SiglipModel

    model = load_weights(SiglipModel, location)
    height, width = image_size(config.vision_config)
    processor = SiglipImageProcessorPil(size={"height": height, "width": width})
    return Upstream(model, load_processor(location, processor), load_tokenizer(location))


def adapt(module: Any, tokenizer: Any | None, reference: str) -> Adapted:
    """The image tower, and texts where there is a tokenizer."""
    if tokenizer is None:
        return Adapted(tower(module))
    # SigLIP was trained on texts padded to the full context, and reads its last token.
    context = module.config.text_config.max_position_embeddings
    return Adapted(tower(module), TokenisedTexts(tokenizer, module.get_text_features, context, pad_to_context=True))


def tower(model: Any) -> VisionTower:
    """References into a `SiglipModel` in memory."""
    vision, config = model.vision_model, model.vision_model.config
    head, layers = vision.head, vision.encoder.layers

    def weights() -> AttentionWeights:
        return AttentionWeights.from_multihead(head.attention)

    def probe() -> Tensor:
        return head.probe.detach()[0, 0]

    size = image_size(config)

    def forward(pixels: Tensor) -> Tensor:
        return vision(pixels, interpolate_pos_encoding=tuple(pixels.shape[-2:]) != size).pooler_output

    def readout(tokens: Tensor) -> Tensor:
        return head(vision.post_layernorm(tokens))

    def finish(read: Tensor) -> Tensor:
        return read + head.mlp(head.layernorm(read))

    return VisionTower(
        module=vision,
        forward=forward,
        readers=(Reader(vision.post_layernorm, weights, layers_before=len(layers), probe=probe),),
        mlps=tuple(MLP(layer.mlp.fc2, norm=layer.layer_norm2, expand=layer.mlp.fc1) for layer in layers),
        blocks=tuple(encoder_block(layer) for layer in layers),
        readout=readout,
        finish=finish,
        final_norm=None,
        projection=None,
        activation=activation_name(config),
        image_size=size,
        patch=config.patch_size,
        prefix_tokens=0,
        pool_mlp=MLP(head.mlp.fc2, norm=head.layernorm, expand=head.mlp.fc1),
        any_size=size[0] == size[1],
    )
