"""Heat maps from the papers' formulas in float64: explicit attention matrices, autograd, one image at a time."""

import torch
from torch import Tensor

from oracle import Attention, SlowTower, gelu


class SlowPass:
    """A forward pass whose attention matrices are tensors on the graph, as a model that returns them would have."""

    def __init__(self, slow: SlowTower, pixels: Tensor) -> None:
        self.slow = slow
        x = slow.embed(pixels).requires_grad_(True)
        self.layers: list[dict[str, Tensor]] = []
        for block in slow.blocks:
            y = block.ln1(x)
            matrix = block.attention.rows(y, y)
            matrix.retain_grad()
            mixed = matrix @ block.attention.values(y)
            middle = x + mixed.transpose(1, 2).flatten(2) @ block.attention.o[0].T + block.attention.o[1]
            hidden = block.ln2(middle) @ block.fc1[0].T + block.fc1[1]
            p = gelu(hidden, slow.activation)
            after = middle + p @ block.fc2[0].T + block.fc2[1]
            self.layers.append(
                {
                    "x": x,
                    "y": y,
                    "A": matrix,
                    "mixed": mixed,
                    "m": middle,
                    "n": block.ln2(middle),
                    "p": p,
                    "after": after,
                }
            )
            x = after
        if slow.family == "siglip":
            y = slow.pool_norm()(x)
            attention = slow.pool_attention()
            self.row = attention.rows(slow.probe(len(x)), y)
            self.row.retain_grad()
            read = (self.row @ attention.values(y)).transpose(1, 2).flatten(2) @ attention.o[0].T + attention.o[1]
            fc1, fc2 = slow.linear_of("vision_model.head.mlp.fc1"), slow.linear_of("vision_model.head.mlp.fc2")
            hidden = gelu(slow.norm_of("vision_model.head.layernorm")(read) @ fc1[0].T + fc1[1], slow.activation)
            self.z = (read + hidden @ fc2[0].T + fc2[1])[:, 0]
        else:
            self.z = slow.pool(x)

    def backward(self, targets: Tensor) -> None:
        """Gradients of each image's score to the matrices."""
        z = self.z if self.slow.family == "vit" else torch.nn.functional.normalize(self.z, dim=-1)
        for layer in self.layers:
            layer["A"].grad = None
        if self.slow.family == "siglip":
            self.row.grad = None
        (z * targets).sum().backward(retain_graph=True)

    def last_row(self, tensor: str = "A") -> Tensor:
        """[image, head, patch] of the last reader; tensor "A" or its gradient "grad"."""
        matrix = self.row if self.slow.family == "siglip" else self.layers[-1]["A"]
        chosen = matrix.grad if tensor == "grad" else matrix.detach()
        return chosen[:, :, 0] if self.slow.family == "siglip" else chosen[:, :, 0, 1:]


def rollout(run: SlowPass) -> Tensor:
    joint = None
    for layer in run.layers:
        matrix = layer["A"].detach().mean(dim=1)
        matrix = matrix + torch.eye(matrix.shape[-1], dtype=matrix.dtype)
        matrix = matrix / matrix.sum(dim=-1, keepdim=True)
        joint = matrix if joint is None else matrix @ joint
    if run.slow.family == "siglip":
        return (run.row.detach()[:, :, 0].mean(dim=1)[:, None] @ joint)[:, 0]
    return joint[:, 0, 1:]


def grad_cam(run: SlowPass, targets: Tensor) -> Tensor:
    run.backward(targets)
    weights = run.last_row("grad").mean(dim=-1, keepdim=True)
    return (weights * run.last_row()).mean(dim=1).clamp(min=0)


def legrad(run: SlowPass, targets: Tensor) -> Tensor:
    total = 0.0
    for layer in run.layers:
        pooled = run.slow.pool_norm()(layer["after"].mean(dim=1)) @ run.slow.projection().T
        score = (torch.nn.functional.normalize(pooled, dim=-1) * targets).sum()
        gradient = torch.autograd.grad(score, layer["A"], retain_graph=True)[0]
        total = total + gradient.clamp(min=0).mean(dim=(1, 2))[:, 1:]
    return total


def attribution(run: SlowPass, targets: Tensor, relevances: list[Tensor] | None) -> Tensor:
    """Chefer et al.: with relevances of the matrices (CVPR), or with the matrices themselves (ICCV)."""
    run.backward(targets)
    joint = None
    for index, layer in enumerate(run.layers):
        other = layer["A"].detach() if relevances is None else relevances[index]
        matrix = (layer["A"].grad * other).clamp(min=0).mean(dim=1)
        matrix = matrix + torch.eye(matrix.shape[-1], dtype=matrix.dtype)
        joint = matrix if joint is None else matrix @ joint
    return joint[:, 0, 1:]


def ratio(a: Tensor, b: Tensor) -> Tensor:
    return torch.where(b == 0, 0.0, a / (b + 1e-9))


def rule_linear(weight: Tensor, x: Tensor, relevance: Tensor) -> Tensor:
    """One output at a time: sum_i of each input's positive part of the product, over its sum, times R_i."""
    result = torch.zeros_like(x)
    for out in range(len(weight)):
        products = x * weight[out]
        # x+ w+ and x- w-: both have a positive product.
        positive = torch.where((x > 0) == (weight[out] > 0), products, 0.0).clamp(min=0)
        result = result + positive * ratio(relevance[..., out], positive.sum(dim=-1))[..., None]
    return result


def rule_product(left: Tensor, right: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    left, right = left.detach().requires_grad_(True), right.detach().requires_grad_(True)
    product = left @ right
    grads = torch.autograd.grad(product, (left, right), ratio(relevance, product.detach()))
    return (left * grads[0]).detach() / 2, (right * grads[1]).detach() / 2


def rule_sum(left: Tensor, right: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    share = ratio(relevance, left + right)
    a, b = left * share, right * share
    size = a.sum().abs() + b.sum().abs()
    return (
        a * ratio(ratio(a.sum().abs(), size) * relevance.sum(), a.sum()),
        b * ratio(ratio(b.sum().abs(), size) * relevance.sum(), b.sum()),
    )


def relevance(run: SlowPass, targets: Tensor, image: int) -> tuple[Tensor, list[Tensor]]:
    """Relevance of one image's input tokens [token] and of its attention matrices, rule after rule."""
    slow = run.slow
    at = [{name: tensor.detach()[image] for name, tensor in layer.items()} for layer in run.layers]
    start = rule_linear(targets[image][None], run.z.detach()[image], torch.ones(1, dtype=torch.float64))
    if slow.family == "clip":
        start = rule_linear(slow.projection(), slow.pool_norm()(at[-1]["after"][0]), start)
    now = torch.zeros_like(at[-1]["after"])
    now[0] = start
    matrices: list[Tensor] = []
    for block, seen in list(zip(slow.blocks, at, strict=True))[::-1]:
        kept, through = rule_sum(seen["m"], seen["p"] @ block.fc2[0].T + block.fc2[1], now)
        through = rule_linear(block.fc1[0], seen["n"], rule_linear(block.fc2[0], seen["p"], through))
        kept, through = rule_sum(seen["x"], seen["m"] - seen["x"], kept + through)
        attention: Attention = block.attention
        through = rule_linear(attention.o[0], seen["mixed"].transpose(0, 1).flatten(1), through)
        of_matrix, of_values = rule_product(
            seen["A"], attention.values(seen["y"][None])[0], through.unflatten(1, (attention.heads, -1)).transpose(0, 1)
        )
        query = attention.split((seen["y"] @ attention.q[0].T + attention.q[1])[None])[0]
        key = attention.split((seen["y"] @ attention.k[0].T)[None])[0]
        of_query, of_key = rule_product(query, key.mT, of_matrix)
        for weight, part in ((attention.q[0], of_query), (attention.k[0], of_key.mT), (attention.v[0], of_values)):
            kept = kept + rule_linear(weight, seen["y"], part.transpose(0, 1).flatten(1))
        now = kept
        matrices.insert(0, of_matrix)
    return now.sum(dim=-1), matrices


def shares(run: SlowPass, layer: int) -> Tensor:
    """|sum_h A[h,q,i] W_O[h] v[h,i] + [q = i] x[q]| over its sum, with [token, token, width] made."""
    seen, attention = run.layers[layer], run.slow.blocks[layer].attention
    values = attention.values(seen["y"].detach())
    moved = torch.zeros(*seen["A"].shape[:1], *seen["A"].shape[2:], seen["x"].shape[-1], dtype=torch.float64)
    for head in range(attention.heads):
        written = values[:, head] @ attention.head(head)[1].T
        moved += seen["A"].detach()[:, head, :, :, None] * written[:, None]
    for token in range(moved.shape[1]):
        moved[:, token, token] += seen["x"].detach()[:, token]
    norms = moved.norm(dim=-1)
    return norms / norms.sum(dim=-1, keepdim=True)
