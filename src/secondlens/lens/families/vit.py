"""Adapter: Hugging Face `ViTForImageClassification`.

No text tower: the joint space is the classifier's input, the class rows are the texts, so the lens explains a plain
ViT classifier in its own labels.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from secondlens.errors import ModelError, closest
from secondlens.lens.families.base import Adapted, Upstream
from secondlens.lens.families.hugging_face import activation_name, image_size, load_weights
from secondlens.lens.model import Classifier
from secondlens.lens.preprocessing import load_processor
from secondlens.lens.tower import MLP, AttentionWeights, Block, VisionTower

NAME, PACKAGE = "hf-vit", "transformers"
MODEL_TYPES = ("vit",)
CLASSES: tuple[str, ...] = ("ViTForImageClassification",)


def load(location: str, config: Any) -> Upstream:
    """Load weights and preprocessing from `location`."""
    from transformers import ViTForImageClassification, ViTImageProcessorPil

    architectures = config.architectures or []
    if "ViTForImageClassification" not in architectures:
        raise ModelError(
            f"{location} is a ViT without a classifier head ({', '.join(architectures) or 'architecture not given'}); "
            "expected ViTForImageClassification, whose class rows serve as texts"
        )
    model = load_weights(ViTForImageClassification, location)
    height, width = image_size(config)
    processor = ViTImageProcessorPil(size={"height": height, "width": width})
    return Upstream(model, load_processor(location, processor))


def adapt(module: Any, tokenizer: Any | None, reference: str) -> Adapted:
    """The image tower and the linear head, whose labels are the texts."""
    if tokenizer is not None:
        raise ModelError(f"{reference} has no text tower, its labels are its texts; leave the tokenizer out")
    config, head = module.config, module.classifier
    labels = tuple(str(config.id2label[index]) for index in range(config.num_labels))
    classifier = Classifier(labels, lambda: head.weight.detach(), lambda: head.bias.detach())
    return Adapted(tower(module), LabelTexts(labels, classifier.weight), classifier)


class LabelTexts:
    """A label, or one of the synonyms it lists after commas, to its class row."""

    def __init__(self, labels: Sequence[str], weight: Callable[[], Tensor]) -> None:
        self.weight = weight
        self.rows: dict[str, int] = {}
        for row, label in enumerate(labels):
            self.rows.setdefault(label.strip().lower(), row)
        # Whole labels go first: "crane" is a label of its own, not another label's synonym.
        for row, label in enumerate(labels):
            for synonym in label.split(","):
                self.rows.setdefault(synonym.strip().lower(), row)

    def __call__(self, texts: Sequence[str], device: torch.device, truncate: bool = False) -> Tensor:
        """[text, embed]: rows of the classifier's weight, wherever that is."""
        return self.weight()[[self.row(text) for text in texts]]

    def overlong(self, texts: Sequence[str]) -> list[int]:
        """None: a label has no length to the model."""
        return []

    def identity(self) -> str:
        """The labels and their rows."""
        return str(sorted(self.rows.items()))

    def row(self, text: str) -> int:
        """Index of the class that a text names; raises `ModelError` with the closest label where there is none."""
        row = self.rows.get(text.strip().lower())
        if row is None:
            # The full list of a thousand labels helps nobody.
            hint = closest(text.lower(), self.rows).split(";")[0]
            raise ModelError(
                f"the classifier has no label {text!r}{hint}; it has no text tower, so only its labels can be encoded"
            )
        return row


def tower(model: Any) -> VisionTower:
    """References into a `ViTForImageClassification` in memory."""
    vit, config = model.vit, model.config

    def block(layer: Any) -> Block:
        attention = layer.attention

        def weights() -> AttentionWeights:
            return AttentionWeights.from_linears(
                attention.q_proj,
                attention.k_proj,
                attention.v_proj,
                attention.o_proj,
                config.num_attention_heads,
            )

        def mlp(residual: Tensor) -> Tensor:
            return residual + layer.mlp(layer.layernorm_after(residual))

        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        return Block(layer, layer, layer.layernorm_before, weights, mlp, projections)

    size = image_size(config)

    def forward(pixels: Tensor) -> Tensor:
        return vit(pixels, interpolate_pos_encoding=tuple(pixels.shape[-2:]) != size).last_hidden_state[:, 0]

    blocks = tuple(block(layer) for layer in vit.layers)
    return VisionTower(
        module=nn.ModuleDict({"vit": vit}),
        forward=forward,
        readers=tuple(block.reader(layer) for layer, block in enumerate(blocks)),
        mlps=tuple(MLP(layer.mlp.fc2, norm=layer.layernorm_after, expand=layer.mlp.fc1) for layer in vit.layers),
        blocks=blocks,
        readout=lambda tokens: vit.layernorm(tokens[:, 0]),
        finish=vit.layernorm,
        final_norm=vit.layernorm,
        projection=None,
        activation=activation_name(config),
        image_size=size,
        patch=config.patch_size,
        any_size=size[0] == size[1],
    )
