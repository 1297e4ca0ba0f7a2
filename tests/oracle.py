"""Slow, readable float64 oracles written from the paper's equations and the architectures' own definitions.

`SlowTower` re-implements the forward pass from a state dict, token by token and head by head, sharing no code with the
package. `second_order` is equation 6 with the layer norms as in A.6: it materialises [token, neuron, width] a path.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


def gelu(x: Tensor, kind: str) -> Tensor:
    if kind == "quick_gelu":
        return x * torch.sigmoid(1.702 * x)
    if kind == "gelu_pytorch_tanh":
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


@dataclass
class Norm:
    weight: Tensor
    bias: Tensor
    eps: float

    def sigma(self, x: Tensor) -> Tensor:
        return ((x - x.mean(-1, keepdim=True)).square().mean(-1) + self.eps).sqrt()

    def __call__(self, x: Tensor) -> Tensor:
        return (x - x.mean(-1, keepdim=True)) / self.sigma(x)[..., None] * self.weight + self.bias


@dataclass
class Attention:
    q: tuple[Tensor, Tensor]
    k: tuple[Tensor, Tensor]
    v: tuple[Tensor, Tensor]
    o: tuple[Tensor, Tensor]
    heads: int

    def rows(self, asks: Tensor, x: Tensor) -> Tensor:
        """[image, head, query, token] attention."""
        q, k = (self.split(y @ w.T + b) for y, (w, b) in ((asks, self.q), (x, self.k)))
        return torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), dim=-1)

    def values(self, x: Tensor) -> Tensor:
        return self.split(x @ self.v[0].T + self.v[1])

    def __call__(self, asks: Tensor, x: Tensor) -> Tensor:
        mixed = self.rows(asks, x) @ self.values(x)
        return mixed.transpose(1, 2).flatten(2) @ self.o[0].T + self.o[1]

    def head(self, h: int) -> tuple[Tensor, Tensor]:
        """W_V [dim, width] and W_O [width, dim] of one head."""
        dim = self.q[0].shape[0] // self.heads
        span = slice(h * dim, (h + 1) * dim)
        return self.v[0][span], self.o[0][:, span]

    def split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


@dataclass
class Block:
    ln1: Norm
    attention: Attention
    ln2: Norm
    fc1: tuple[Tensor, Tensor]
    fc2: tuple[Tensor, Tensor]


class SlowTower:
    """The image tower of a Hugging Face CLIP, SigLIP or ViT model in float64."""

    def __init__(self, model: torch.nn.Module, family: str, dtype: torch.dtype = torch.float64) -> None:
        self.dtype = dtype
        self.state = {name: tensor.detach().to(dtype) for name, tensor in model.state_dict().items()}
        config = getattr(model.config, "vision_config", model.config)
        self.family, self.activation = family, config.hidden_act
        self.eps, self.heads, self.patch = (
            config.layer_norm_eps,
            config.num_attention_heads,
            config.patch_size,
        )
        prefix, names = {
            "clip": (
                "vision_model.encoder.layers.{}.",
                ("layer_norm1", "self_attn", "out_proj", "layer_norm2"),
            ),
            "siglip": (
                "vision_model.encoder.layers.{}.",
                ("layer_norm1", "self_attn", "out_proj", "layer_norm2"),
            ),
            "vit": ("vit.layers.{}.", ("layernorm_before", "attention", "o_proj", "layernorm_after")),
        }[family]
        self.blocks = []
        for layer in range(config.num_hidden_layers):
            at, (ln1, attention, out, ln2) = prefix.format(layer), names
            projections = [self.linear_of(f"{at}{attention}.{name}") for name in ("q_proj", "k_proj", "v_proj", out)]
            self.blocks.append(
                Block(
                    self.norm_of(at + ln1),
                    Attention(*projections, heads=self.heads),
                    self.norm_of(at + ln2),
                    self.linear_of(at + "mlp.fc1"),
                    self.linear_of(at + "mlp.fc2"),
                )
            )

    def embed(self, pixels: Tensor) -> Tensor:
        s = self.state
        if self.family == "vit":
            weight, bias = self.linear_of("vit.embeddings.patch_embeddings.projection")
        else:
            weight = s["vision_model.embeddings.patch_embedding.weight"]
            bias = s.get("vision_model.embeddings.patch_embedding.bias")
        tokens = (
            torch.nn.functional.conv2d(pixels.to(self.dtype), weight, bias, stride=self.patch)
            .flatten(2)
            .transpose(1, 2)
        )
        if self.family == "siglip":
            return tokens + s["vision_model.embeddings.position_embedding.weight"]
        if self.family == "vit":
            start, places = s["vit.embeddings.cls_token"][0], s["vit.embeddings.position_embeddings"][0]
        else:
            start = s["vision_model.embeddings.class_embedding"][None]
            places = s["vision_model.embeddings.position_embedding.weight"]
        tokens = torch.cat([start.expand(len(tokens), 1, -1), tokens], dim=1) + places
        return self.norm_of("vision_model.pre_layrnorm")(tokens) if self.family == "clip" else tokens

    def run(self, pixels: Tensor) -> dict:
        """Embedding and every intermediate: residuals before each layer and after the last, activations."""
        x = self.embed(pixels)
        residuals, activations = [x], []
        for block in self.blocks:
            y = block.ln1(x)
            x = x + block.attention(y, y)
            p = gelu(block.ln2(x) @ block.fc1[0].T + block.fc1[1], self.activation)
            activations.append(p)
            x = x + p @ block.fc2[0].T + block.fc2[1]
            residuals.append(x)
        return {"residuals": residuals, "activations": activations, "embedding": self.pool(x)}

    def pool(self, x: Tensor) -> Tensor:
        if self.family == "siglip":
            read = self.pool_attention()(self.probe(len(x)), self.pool_norm()(x))[:, 0]
            at = "vision_model.head."
            fc1, fc2 = self.linear_of(at + "mlp.fc1"), self.linear_of(at + "mlp.fc2")
            hidden = gelu(self.norm_of(at + "layernorm")(read) @ fc1[0].T + fc1[1], self.activation)
            return read + hidden @ fc2[0].T + fc2[1]
        return self.pool_norm()(x[:, 0]) @ self.projection().T

    def probe(self, count: int) -> Tensor:
        return self.state["vision_model.head.probe"].expand(count, -1, -1)

    def pool_attention(self) -> Attention:
        at = "vision_model.head.attention."
        weights = self.state[at + "in_proj_weight"].chunk(3)
        biases = self.state[at + "in_proj_bias"].chunk(3)
        return Attention(*zip(weights, biases, strict=True), self.linear_of(at + "out_proj"), heads=self.heads)

    def pool_norm(self) -> Norm:
        return self.norm_of("vit.layernorm" if self.family == "vit" else "vision_model.post_layernorm")

    def projection(self) -> Tensor:
        if self.family == "clip":
            return self.state["visual_projection.weight"]
        return torch.eye(self.blocks[0].fc2[0].shape[0], dtype=self.dtype)

    def readers(self, layer: int) -> list[tuple[Norm, Attention, Tensor | None, int]]:
        """(norm, attention, probe, index of the residual it reads) of every attention that writes to the output."""
        if self.family == "siglip":
            return [(self.pool_norm(), self.pool_attention(), self.probe(1), len(self.blocks))]
        return [(b.ln1, b.attention, None, i) for i, b in enumerate(self.blocks) if i > layer]

    def norm_of(self, name: str) -> Norm:
        return Norm(self.state[name + ".weight"], self.state[name + ".bias"], self.eps)

    def linear_of(self, name: str) -> tuple[Tensor, Tensor]:
        return self.state[name + ".weight"], self.state[name + ".bias"]


def second_order(tower: SlowTower, pixels: Tensor, layer: int, convention: str = "centred") -> Tensor:
    """phi [image, neuron, embed], one image, path and [token, neuron, width] tensor at a time."""
    run = tower.run(pixels)
    centre = (lambda x: x - x.mean(-1, keepdim=True)) if convention == "centred" else (lambda x: x)
    written = tower.blocks[layer].fc2[0].T
    result = torch.zeros(len(pixels), written.shape[0], run["embedding"].shape[1], dtype=tower.dtype)
    final = run["residuals"][-1][:, 0]
    for image in range(len(pixels)):
        tokens = run["activations"][layer][image][:, :, None] * written
        for norm, attention, probe, index in tower.readers(layer):
            x = run["residuals"][index][image : image + 1]
            normed = norm(x)
            rows = attention.rows(normed[:, :1] if probe is None else probe, normed)[0, :, 0]
            read = centre(tokens) * norm.weight / norm.sigma(x)[0][:, None, None]
            for head in range(attention.heads):
                w_v, w_o = attention.head(head)
                out = torch.einsum("i,inw->nw", rows[head], read @ w_v.T @ w_o.T)
                if tower.family != "siglip":
                    last = tower.pool_norm()
                    out = centre(out) * last.weight / last.sigma(final[image])
                    out = out @ tower.projection().T
                result[image] += out
    return result / run["embedding"].norm(dim=1)[:, None, None]
