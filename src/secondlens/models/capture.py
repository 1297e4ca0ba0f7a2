"""One forward pass of the upstream model, and what the lens needs of it.

1. Register hooks on three kinds of sites: the layer norm before each reader, the input of each MLP's output
   projection, the input of the final layer norm.
2. Run upstream's own forward pass, fused attention and all.
3. At a reader's layer norm: sigma of every token from its input; the pooled token's attention row from its output.
   With q the pooled query of a head, folded into the keys' weight, no key is computed:
   logit[i] = scale * (W_K^T q) . x[i].
4. Every site must have fired exactly once; the hooks are gone when the pass ends, however it ends.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from secondlens.errors import CaptureError
from secondlens.kernels import fused, product
from secondlens.models.heads import EachAttention, HeadSites
from secondlens.models.heads import wide as wide
from secondlens.models.tower import AttentionWeights, Reader, VisionTower


@dataclass
class ReaderTrace:
    """What one reader saw.

    attention: the pooled query's attention to each token.
    sigma: standard deviation (with the layer norm's epsilon) of the residual stream at each token.
    Only with `first_order`: `mixed`, the attention-weighted mean of the layer norm's output a head, and `residual`,
    the residual stream at token 0 before the reader. Only with `streams`: `stream`, that at every token.
    """

    attention: Float[Tensor, "image head token"]
    sigma: Float[Tensor, "image token"]
    mixed: Float[Tensor, "image head width"] | None = None
    residual: Float[Tensor, "image width"] | None = None
    stream: Float[Tensor, "image token width"] | None = None


@dataclass
class Trace:
    """The captured parts of one forward pass, float32 or wider.

    embeddings: the model's own output, unnormalised.
    activations: layer to post-activation values of its neurons at every token.
    readers: reader index to what it saw. residuals: layer to the residual stream after it, in upstream's precision.
    final_sigma: sigma of the final layer norm at the pooled token; ones where there is no such norm.
    Only with `written`: `written`, layer to what its neurons wrote together at every token (no bias). Only with
    `first_order`: `pooled_activations`, layer to activations at token 0 (-1: the pooling head's MLP), and
    `final_residual`, the input of the final layer norm at token 0. path_weights: made by `effects.paths` when first
    asked for.
    """

    embeddings: Float[Tensor, "image embed"]
    activations: dict[int, Float[Tensor, "image token neuron"]] = field(default_factory=dict)
    readers: dict[int, ReaderTrace] = field(default_factory=dict)
    residuals: dict[int, Float[Tensor, "image token width"]] = field(default_factory=dict)
    final_sigma: Float[Tensor, " image"] | None = None
    written: dict[int, Float[Tensor, "image token width"]] = field(default_factory=dict)
    pooled_activations: dict[int, Float[Tensor, "image neuron"]] = field(default_factory=dict)
    final_residual: Float[Tensor, "image width"] | None = None
    path_weights: Float[Tensor, "image path token"] | None = None


POOL_MLP = -1

EachReader = Callable[[int, Tensor, Tensor, Tensor], None]
"""Called with a reader's index, its layer norm's output [image, token, width], the pooled attention, and the residual
stream before the layer norm.
"""


@torch.no_grad()
def capture(
    tower: VisionTower,
    pixels: Float[Tensor, "image 3 height width"],
    layers: Sequence[int],
    *,
    first_order: bool = False,
    residuals: Sequence[int] = (),
    each_reader: EachReader | None = None,
    streams: bool = False,
    written: bool = False,
    each_attention: EachAttention | None = None,
    attentions: Sequence[int] = (),
    narrow: bool = False,
) -> Trace:
    """Run the model once on preprocessed pixels and keep the parts that `layers` need.

    layers: whose neurons' activations to keep, with the readers after the first of them.
    first_order: keep the parts of the direct contributions of every layer as well.
    residuals: layers after which to keep the residual stream.
    each_reader: called at each of these readers while what it sees exists; nothing of it is kept.
    streams: keep the residual stream before each reader at every token.
    written: keep what each of `layers` wrote to the residual stream, from the output of its MLP.
    each_attention: called at the layers `attentions` with queries, keys and values; nothing of it is kept.
    narrow: keep activations in upstream's precision.

    Raises `CaptureError` where a site did not fire exactly once.
    """
    weight = tower.mlps[0].project.weight
    trace = Trace(embeddings=torch.empty(0, 0))
    sites = _Sites()
    needed = range(len(tower.readers)) if first_order else tower.readers_of(min(layers)) if layers else []
    for index in needed:
        sites.add(
            f"layer norm of reader {index}",
            tower.readers[index].norm,
            _on_norm(tower, index, trace, first_order, streams, each_reader),
        )
    for layer, mlp in enumerate(tower.mlps):
        if layer in layers or (first_order and tower.final_norm is not None):
            sites.add(
                f"MLP of layer {layer}",
                mlp.project,
                _on_mlp(layer, trace, layer in layers, first_order, narrow),
                before=True,
            )
        if layer in layers and written:
            sites.add(f"output of the MLP of layer {layer}", mlp.project, _on_written(tower, layer, trace))
    if each_attention is not None:
        for layer in attentions:
            for site in HeadSites(layer, tower.attentions[layer], each_attention).sites:
                sites.add(*site)
    for layer in residuals:
        sites.add(f"layer {layer}", tower.blocks[layer].module, _on_layer(layer, trace))
    if first_order and tower.pool_mlp is not None:
        sites.add(
            "MLP of the pooling head",
            tower.pool_mlp.project,
            _on_mlp(POOL_MLP, trace, False, True, narrow),
            before=True,
        )
    if tower.final_norm is not None:
        sites.add("final layer norm", tower.final_norm, _on_final(tower.final_norm, trace, first_order), before=True)
    with sites.hooked():
        trace.embeddings = wide(tower.forward(pixels.to(weight.device, weight.dtype)))
    sites.check()
    if trace.final_sigma is None:
        trace.final_sigma = torch.ones_like(trace.embeddings[:, 0])
    return trace


def wide_trace(trace: Trace) -> Trace:
    """The same parts in float64: for sums whose terms cancel. The forward pass itself stays as precise as it was."""

    def double(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.double()

    readers = {
        index: ReaderTrace(
            seen.attention.double(), seen.sigma.double(), double(seen.mixed), double(seen.residual), double(seen.stream)
        )
        for index, seen in trace.readers.items()
    }
    return Trace(
        embeddings=trace.embeddings.double(),
        activations={layer: values.double() for layer, values in trace.activations.items()},
        readers=readers,
        final_sigma=double(trace.final_sigma),
        pooled_activations={layer: values.double() for layer, values in trace.pooled_activations.items()},
        final_residual=double(trace.final_residual),
    )


def pooled_attention(
    weights: AttentionWeights,
    tokens: Float[Tensor, "image token width"],
    probe: Float[Tensor, " width"] | None,
) -> Float[Tensor, "image head token"]:
    """softmax_i(scale * (W_Q x[0] + b_Q) . W_K x[i]) a head; with a probe, its query instead of token 0's.

    Float32 or wider, whatever the tokens are.
    """
    first = wide(tokens[:, 0])
    asks = first if probe is None else probe.to(first).expand(len(tokens), -1)
    heads, dim, width = weights.query.shape
    query = product(asks[None], weights.query.reshape(-1, width).T[None])[0] + weights.query_bias.flatten()
    folded = product(query.view(-1, heads, dim).transpose(0, 1), weights.key).transpose(0, 1)
    return torch.softmax(product(folded, tokens.transpose(1, 2)) * weights.scale, dim=-1)


def attention_output(weights: AttentionWeights, mixed: Float[Tensor, "image head width"]) -> Tensor:
    """[image, head, width]: W_O (W_V mixed + b_V) a head, without the output bias."""
    values = torch.einsum("bhw,hdw->bhd", mixed, weights.value.to(mixed)) + weights.value_bias.to(mixed)
    return torch.einsum("bhd,hwd->bhw", values, weights.output.to(mixed))


def sigma_of(norm: nn.LayerNorm, residual: Float[Tensor, "... width"]) -> Float[Tensor, "..."]:
    """sqrt(var + epsilon) over features, as the layer norm divides by; float32 or wider."""
    if fused(residual):
        from secondlens.kernels.sigma import sigma

        return sigma(residual, norm.eps)
    # The layer norm's own kernel gives 1 / sigma ten times as fast as `var` does.
    return torch.native_layer_norm(wide(residual), norm.normalized_shape, None, None, norm.eps)[2][..., 0].reciprocal()


def _on_norm(
    tower: VisionTower, index: int, trace: Trace, first_order: bool, streams: bool, each_reader: EachReader | None
) -> Callable[..., None]:
    reader: Reader = tower.readers[index]

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        probe = None if reader.probe is None else reader.probe()
        attention = pooled_attention(reader.weights(), output, probe)
        seen = ReaderTrace(attention, sigma_of(reader.norm, inputs[0]))
        if first_order:
            seen.mixed = torch.bmm(attention, wide(output))
            seen.residual = wide(inputs[0][:, 0])
        if streams:
            seen.stream = wide(inputs[0])
        trace.readers[index] = seen
        if each_reader is not None:
            each_reader(index, wide(output), attention, wide(inputs[0]))

    return hook


def _on_mlp(layer: int, trace: Trace, keep: bool, first_order: bool, narrow: bool) -> Callable[..., None]:
    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if keep:
            trace.activations[layer] = inputs[0] if narrow else wide(inputs[0])
        if first_order:
            trace.pooled_activations[layer] = wide(inputs[0][:, 0])

    return hook


def _on_written(tower: VisionTower, layer: int, trace: Trace) -> Callable[..., None]:
    mlp = tower.mlps[layer]

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        values = wide(inputs[0])
        if output.dtype is not values.dtype:
            # A half-precision output is rounded after the bias was added: sum again.
            trace.written[layer] = values @ mlp.weight().to(values).T
            return
        scaled = output if mlp.gain is None else output * mlp.gain()
        trace.written[layer] = scaled - mlp.bias()

    return hook


def _on_layer(layer: int, trace: Trace) -> Callable[..., None]:
    # A layer may be called with more than tensors, such as an attention mask that is None.
    def hook(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        trace.residuals[layer] = output

    return hook


def _on_final(norm: nn.LayerNorm, trace: Trace, first_order: bool) -> Callable[..., None]:
    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        # Some towers normalise the pooled token, some all tokens and pool then.
        residual = inputs[0] if inputs[0].ndim == 2 else inputs[0][:, 0]
        trace.final_sigma = sigma_of(norm, residual)
        if first_order:
            trace.final_residual = wide(residual)

    return hook


class _Sites:
    """Hooks that count how often they fired."""

    def __init__(self) -> None:
        self._sites: list[tuple[str, nn.Module, Callable[..., None], bool]] = []
        self._fired: dict[str, int] = {}

    def add(self, name: str, module: nn.Module, hook: Callable[..., None], before: bool = False) -> None:
        self._sites.append((name, module, hook, before))
        self._fired[name] = 0

    @contextmanager
    def hooked(self) -> Iterator[None]:
        handles = []
        try:
            for name, module, hook, before in self._sites:
                register: Any = module.register_forward_pre_hook if before else module.register_forward_hook
                handles.append(register(self._counted(name, hook)))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _counted(self, name: str, hook: Callable[..., None]) -> Callable[..., None]:
        def counted(*args: Any) -> None:
            self._fired[name] += 1
            hook(*args)

        return counted

    def check(self) -> None:
        wrong = [f"{name} fired {count} times" for name, count in self._fired.items() if count != 1]
        if wrong:
            raise CaptureError(
                f"expected every hook site to fire once in a forward pass: {'; '.join(wrong)}. "
                "The model does not run as its adapter describes it"
            )
