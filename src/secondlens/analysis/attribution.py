"""What made the score of an image and a text, or the difference between two texts? Complete to float precision.

The score is <z/|z|, d> for a direction d: a text's unit-norm embedding, or the difference of two. Three views split it
without a remainder; none mixes with another, so nothing is counted twice.

1. **By writer** (first order): the class token's start, every head, every MLP, output biases.
2. **By source**: as 1, but each head's contribution is split by where the head read it (`lens.sources`): neurons
   of an earlier layer (their second-order effect), what an earlier attention wrote to the tokens, token embeddings,
   biases. What MLPs write directly stands beside what their neurons write through later heads: two ways, each once.
3. **By place**: what all heads read at each token; everything else is one constant.

The forward pass runs in the model's precision, all sums after it in float64; `rounding` is what view 2 misses.
"""

from dataclasses import dataclass
from pathlib import Path as FilePath

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from secondlens.data.decode import read_image
from secondlens.errors import ModelError, SecondLensError
from secondlens.lens.capture import capture
from secondlens.lens.families.vit import LabelTexts
from secondlens.lens.first_order import direct_effects, direct_neurons
from secondlens.lens.model import LensModel
from secondlens.lens.paths import Path, paths_of
from secondlens.lens.sources import HeadSources, head_sources
from secondlens.lens.tower import VisionTower
from secondlens.lens.trace import POOL_MLP, CaptureRequest


@dataclass(frozen=True)
class Part:
    """One source. kind: neurons, attention, mlp, embedding or bias. through: "heads" or "direct". layer: or None."""

    kind: str
    through: str
    layer: int | None
    label: str
    value: float


@dataclass(frozen=True, eq=False, repr=False)
class Attribution:
    """A score and what made it; all values in its units.

    parts: by source, in the order of the forward pass. writers: the same score by writer; "heads" stands for `heads`
    [reader, head] and "mlps" for `mlps` [layer] (one column, the pooling head's, where that is the only writer).
    tokens: what all heads read at each token; with `elsewhere` they are the score by place.
    neurons: layer to the second-order contribution of each neuron by path, as in `paths`. direct: layer to the
    first-order contribution of each neuron (-1: the pooling head's MLP). rounding: score - sum of the parts.
    """

    score: float
    parts: list[Part]
    writers: dict[str, float]
    heads: Float[Tensor, "reader head"]
    mlps: Float[Tensor, " layer"]
    tokens: Float[Tensor, " token"]
    elsewhere: float
    neurons: dict[int, Float[Tensor, "neuron path"]]
    paths: dict[int, list[Path]]
    direct: dict[int, Float[Tensor, " neuron"]]
    rounding: float

    def __repr__(self) -> str:
        layers = f"neurons of {len(self.neurons)} layers"
        return f"Attribution(score {self.score:.4f}: {len(self.parts)} parts, {layers})"

    def top_neurons(self, limit: int) -> list[tuple[int, int, float]]:
        """(layer, neuron, second-order contribution), by falling size, over all layers."""
        totals = {layer: values.sum(dim=1) for layer, values in self.neurons.items()}
        found = [
            (layer, neuron, float(values[neuron]))
            for layer, values in totals.items()
            for neuron in values.abs().topk(min(limit, len(values))).indices.tolist()
        ]
        return sorted(found, key=lambda item: -abs(item[2]))[:limit]


def explain(
    model: LensModel, image: str | FilePath | Image.Image, text: str, against: str | None = None
) -> Attribution:
    """Explain how well an image, given as a path or a PIL image, fits a text, or how far better than another text."""
    return explain_texts(model, model.preprocess([read_image(image)]), text, against)


def explain_texts(
    model: LensModel,
    pixels: Float[Tensor, "image 3 height width"],
    text: str,
    against: str | None = None,
    *,
    logits: bool = False,
) -> Attribution:
    """Attribution of the cosine of one image (a batch of one) with a text, or of that with one text less another.

    logits: of a classifier's own logit, or difference of two, instead: of z with the class row as it is, and its bias.

    Raises `ModelError` for a text that the model cannot encode, or `logits` where there is no classifier;
    `SecondLensError` for two texts that are the same to the model.
    """
    texts = [text] if against is None else [text, against]
    factor, offset = 1.0, 0.0
    if logits:
        encoder = model.text_encoder
        if model.classifier is None or not isinstance(encoder, LabelTexts):
            raise ModelError(f"{model.reference} is no classifier and has no logits; leave out --logits")
        rows = [encoder.row(one) for one in texts]
        vectors = model.classifier.weight()[rows].double()
        bias = model.classifier.bias()[rows].double()
        offset = float(bias[0] - bias[1]) if against is not None else float(bias[0])
        with torch.no_grad():
            factor = float(model.encode_images(pixels).double().norm())
    else:
        vectors = model.encode_texts(texts).double()
    direction = vectors[0] if against is None else vectors[0] - vectors[1]
    if not bool(direction.any()):
        raise SecondLensError(f"{text!r} and {against!r} are the same to the model; expected two different texts")
    return explain_score(model, pixels, direction, factor=factor, offset=offset)


@torch.no_grad()
def explain_score(
    model: LensModel,
    pixels: Float[Tensor, "image 3 height width"],
    direction: Float[Tensor, " embed"],
    *,
    factor: float = 1.0,
    offset: float = 0.0,
) -> Attribution:
    """Attribution of factor * <z/|z|, direction> + offset, for one image (a batch of one)."""
    if len(pixels) != 1:
        raise SecondLensError(f"expected one image, got a batch of {len(pixels)}; give them one by one")
    if direction.shape != (model.embed_dim,):
        raise SecondLensError(f"expected a direction of {model.embed_dim} dimensions, got {list(direction.shape)}")
    tower = model.tower
    request = CaptureRequest(layers=tower.lens_layers, first_order=True, resid_pre=True)
    trace = capture(tower, pixels, request).upcast()
    direction = direction.to(trace.embeddings) * factor
    written = direct_effects(tower, trace)
    sources = [head_sources(tower, trace, reader, direction) for reader in range(len(tower.readers))]
    start, rest = (float(part[0] @ direction) for part in (written.start, written.rest))
    heads, mlps = written.heads[0] @ direction, written.mlps[0] @ direction
    score = float(torch.nn.functional.normalize(trace.embeddings, dim=1)[0] @ direction) + offset
    parts = _parts(tower, sources, start, mlps.tolist(), rest, offset)
    pooled = [POOL_MLP] if tower.pool_mlp is not None else list(range(len(tower.mlps)))
    direct = {}
    for layer in pooled:
        found = direct_neurons(tower, trace, layer)
        direct[layer] = (found.coefficients[0] * (found.writes @ direction)).cpu()
    tokens = torch.stack([source.tokens[0].sum(dim=0) for source in sources]).sum(dim=0)
    constants = sum(float(source.constants.sum()) for source in sources)
    return Attribution(
        score=score,
        parts=parts,
        writers={
            "start": start, "heads": float(heads.sum()), "mlps": float(mlps.sum()), "biases": rest, "classifier": offset
        },
        heads=heads.cpu(),
        mlps=mlps.cpu(),
        tokens=tokens.cpu(),
        elsewhere=start + float(mlps.sum()) + rest + constants + offset,
        neurons={
            layer: torch.cat([source.neurons[layer][0] for source in sources if layer in source.neurons]).T.cpu()
            for layer in tower.lens_layers
        },
        paths={layer: paths_of(tower, layer) for layer in tower.lens_layers},
        direct=direct,
        rounding=score - sum(part.value for part in parts),
    )  # fmt: skip


def _parts(
    tower: VisionTower, sources: list[HeadSources], start: float, mlps: list[float], rest: float, offset: float
) -> list[Part]:
    """View 2, in the order of the forward pass."""

    def read(name: str, layer: int) -> float:
        return sum(float(getattr(source, name)[layer].sum()) for source in sources if layer in getattr(source, name))

    stream = sum(float(source.stream.sum()) for source in sources)
    by_class_token = tower.pool_mlp is None
    parts = []
    if by_class_token:
        parts.append(Part("embedding", "direct", None, "class token's embedding, directly", start))
    label = "token embeddings" if by_class_token else "token embeddings and attention between tokens"
    parts.append(Part("embedding", "heads", None, f"{label}, through heads", stream))
    for layer in range(len(tower.mlps)):
        if any(layer in source.attentions for source in sources):
            text = f"attention {layer} to tokens, through later heads"
            parts.append(Part("attention", "heads", layer, text, read("attentions", layer)))
        if by_class_token:
            parts.append(Part("mlp", "direct", layer, f"MLP {layer}, directly", mlps[layer]))
        if any(layer in source.neurons for source in sources):
            text = f"neurons of layer {layer}, through heads"
            parts.append(Part("neurons", "heads", layer, text, read("neurons", layer)))
    if not by_class_token:
        parts.append(Part("mlp", "direct", None, "MLP of the pooling head, directly", mlps[0]))
    biases = sum(float(part.sum()) for source in sources for part in source.mlp_biases.values())
    constants = sum(float(source.constants.sum()) for source in sources)
    parts += [
        Part("bias", "heads", None, "biases of MLPs, through heads", biases),
        Part("bias", "heads", None, "biases of layer norms and values, through heads", constants),
        Part("bias", "direct", None, "biases of attention outputs and the last layer norm", rest),
    ]
    if offset:
        parts.append(Part("bias", "direct", None, "bias of the classifier", offset))
    return parts
