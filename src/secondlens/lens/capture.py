"""One forward pass of the upstream model, and what the lens needs of it.

1. Register hooks on three kinds of sites: the layer norm before each readout attention, the input of each MLP's output
   projection, the input of the final layer norm; on a few more where the request asks for more.
2. Run upstream's own forward pass, fused attention and all.
3. At a readout attention's layer norm: sigma of every token from its input; the pooled token's attention row from its
   output. With q the pooled query of a head, folded into the keys' weight, no key is computed:
   logit[i] = scale * (W_K^T q) . x[i].
4. Every site must have fired exactly once; the hooks are gone when the pass ends, however it ends.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import starmap
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from secondlens.errors import CaptureError
from secondlens.lens.heads import HeadSites
from secondlens.lens.heads import wide as wide
from secondlens.lens.tower import AttentionWeights, VisionTower
from secondlens.lens.trace import POOL_MLP, CaptureRequest, ReadoutTrace, Trace
from secondlens.numerics.kernels import fused, product


@torch.no_grad()
def capture(
    tower: VisionTower, pixels: Float[Tensor, "image 3 height width"], request: CaptureRequest | Sequence[int]
) -> Trace:
    """Run the model once on preprocessed pixels and keep what is requested.

    Args:
        tower: The model's image tower.
        pixels: Preprocessed images.
        request: What to keep; a sequence of layers stands for `CaptureRequest(layers=...)`.

    Raises:
        SecondLensError: The request names a layer that the model does not have.
        CaptureError: A site did not fire exactly once.
    """
    if not isinstance(request, CaptureRequest):
        request = CaptureRequest(layers=request)
    request.check(tower)
    trace = Trace(embeddings=torch.empty(0, 0))
    weight = tower.mlps[0].project.weight
    with _hooked(_Hooks(tower, request, trace).sites()):
        trace.embeddings = wide(tower.forward(pixels.to(weight.device, weight.dtype)))
    if trace.final_sigma is None:
        trace.final_sigma = torch.ones_like(trace.embeddings[:, 0])
    return trace


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


def pooled_output(weights: AttentionWeights, mixed: Float[Tensor, "image head width"]) -> Float[Tensor, "image width"]:
    """Return the same summed over heads, with the output bias."""
    return attention_output(weights, mixed).sum(dim=1) + weights.output_bias.to(mixed)


def sigma_of(norm: nn.LayerNorm, residual: Float[Tensor, "... width"]) -> Float[Tensor, "..."]:
    """sqrt(var + epsilon) over features, as the layer norm divides by; float32 or wider."""
    if fused(residual):
        from secondlens.numerics.kernels.sigma import sigma

        return sigma(residual, norm.eps)
    # The layer norm's own kernel gives 1 / sigma ten times as fast as `var` does.
    return torch.native_layer_norm(wide(residual), norm.normalized_shape, None, None, norm.eps)[2][..., 0].reciprocal()


class _Site(NamedTuple):
    """A module and the hook on it; `before`: on its input alone."""

    name: str
    module: nn.Module
    hook: Callable[..., None]
    before: bool = False


class _Hooks:
    """The hooks of one pass, each of which keeps its part of the trace."""

    def __init__(self, tower: VisionTower, request: CaptureRequest, trace: Trace) -> None:
        self.tower, self.request, self.trace = tower, request, trace

    def sites(self) -> Iterator[_Site]:
        """Yield the sites that the request needs."""
        tower, request = self.tower, self.request
        by_class_token = tower.final_norm is not None
        for index in request.readouts(tower):
            name = f"layer norm of readout attention {index}"
            yield _Site(name, tower.readers[index].norm, partial(self._readout, index))
        for layer, mlp in enumerate(tower.mlps):
            if layer in request.layers or (request.first_order and by_class_token):
                yield _Site(f"MLP of layer {layer}", mlp.project, partial(self._activations, layer), before=True)
            if layer in request.layers and request.mlp_writes:
                yield _Site(f"output of the MLP of layer {layer}", mlp.project, partial(self._mlp_writes, layer))
            if layer in request.on_attention:
                heads = HeadSites(layer, tower.attentions[layer], request.on_attention[layer])
                yield from starmap(_Site, heads.sites())
            if layer in request.resid_post:
                yield _Site(f"layer {layer}", tower.blocks[layer].module, partial(self._resid_post, layer))
        if request.first_order and tower.pool_mlp is not None:
            hook = partial(self._activations, POOL_MLP)
            yield _Site("MLP of the pooling head", tower.pool_mlp.project, hook, before=True)
        if tower.final_norm is not None:
            yield _Site("final layer norm", tower.final_norm, self._final, before=True)

    def _readout(self, index: int, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        reader, request = self.tower.readers[index], self.request
        attention = pooled_attention(reader.weights(), output, None if reader.probe is None else reader.probe())
        part = ReadoutTrace(attention, sigma_of(reader.norm, inputs[0]))
        if request.first_order:
            part.mixed = torch.bmm(attention, wide(output))
            part.pooled_resid_pre = wide(inputs[0][:, 0])
        if request.resid_pre:
            part.resid_pre = wide(inputs[0])
        self.trace.readouts[index] = part
        if request.on_readout is not None:
            request.on_readout(index, wide(output), attention)

    def _activations(self, layer: int, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if layer in self.request.layers:
            self.trace.activations[layer] = inputs[0] if self.request.low_precision else wide(inputs[0])
        if self.request.first_order:
            self.trace.pooled_activations[layer] = wide(inputs[0][:, 0])

    def _mlp_writes(self, layer: int, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        mlp, values = self.tower.mlps[layer], wide(inputs[0])
        if output.dtype is values.dtype:
            scaled = output if mlp.gain is None else output * mlp.gain()
            self.trace.mlp_writes[layer] = scaled - mlp.bias()
        else:
            # A half-precision output is rounded after the bias was added: sum again.
            self.trace.mlp_writes[layer] = values @ mlp.weight().to(values).T

    def _resid_post(self, layer: int, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        # A layer may be called with more than tensors, such as an attention mask that is None.
        self.trace.resid_post[layer] = output

    def _final(self, module: nn.LayerNorm, inputs: tuple[Tensor, ...]) -> None:
        # Some towers normalise the pooled token, some all tokens and pool then.
        residual = inputs[0] if inputs[0].ndim == 2 else inputs[0][:, 0]
        self.trace.final_sigma = sigma_of(module, residual)
        if self.request.first_order:
            self.trace.pooled_resid_post = wide(residual)


@contextmanager
def _hooked(sites: Iterable[_Site]) -> Iterator[None]:
    """Register hooks, remove them however the pass ends, and raise where one did not fire exactly once."""
    fired: dict[str, int] = {}

    def counted(site: _Site) -> Callable[..., None]:
        fired[site.name] = 0

        def hook(*args: Any) -> None:
            fired[site.name] += 1
            site.hook(*args)

        return hook

    handles = []
    try:
        for site in sites:
            register: Any = site.module.register_forward_pre_hook if site.before else site.module.register_forward_hook
            handles.append(register(counted(site)))
        yield
    finally:
        for handle in handles:
            handle.remove()
    wrong = [f"{name} fired {count} times" for name, count in fired.items() if count != 1]
    if wrong:
        raise CaptureError(
            f"expected every hook site to fire once in a forward pass: {'; '.join(wrong)}. "
            "The model does not run as its adapter describes it"
        )
