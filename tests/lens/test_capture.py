"""A capture keeps what was requested, all of it and no more, and an upcast copy of it forgets nothing."""

import gc
import weakref
from dataclasses import fields, is_dataclass
from typing import Any

import pytest
import torch

from builders import Spec, hooks_of, pixels
from secondlens.errors import SecondLensError
from secondlens.lens import LensModel
from secondlens.lens.capture import capture
from secondlens.lens.heads import HeadInputs
from secondlens.lens.paths import path_weights
from secondlens.lens.trace import POOL_MLP, CaptureRequest, Trace
from secondlens.lens.upper import Upper

# float32 sums over a few dozen neurons.
FLOAT32 = {"rtol": 1e-4, "atol": 1e-5}


def tensors(part: Any, name: str = "trace") -> dict[str, torch.Tensor]:
    """Every tensor of a trace by its place; anything that is neither tensor nor container of some fails."""
    if part is None:
        return {}
    if isinstance(part, torch.Tensor):
        return {name: part}
    if isinstance(part, dict):
        children = part
    else:
        assert is_dataclass(part), name
        children = {field.name: getattr(part, field.name) for field in fields(part)}
    return {place: leaf for key, child in children.items() for place, leaf in tensors(child, f"{name}.{key}").items()}


def full(model: LensModel, images: torch.Tensor) -> Trace:
    layers = range(model.layers)
    request = CaptureRequest(layers=layers, first_order=True, resid_pre=True, resid_post=layers, mlp_writes=True)
    trace = capture(model.tower, images, request)
    path_weights(trace, model.tower, 0)
    return trace


def test_an_upcast_trace_has_every_field_in_float64(model: LensModel, spec: Spec) -> None:
    trace = full(model, pixels(2, spec.size))
    before = tensors(trace)
    filled = {field.name for field in fields(trace) if tensors(getattr(trace, field.name))}
    missing = set() if spec.family != "siglip" else {"pooled_resid_post"}
    assert filled == {field.name for field in fields(trace)} - missing, "a field that is empty shows nothing"
    assert all(getattr(trace.readouts[0], field.name) is not None for field in fields(trace.readouts[0]))
    after = tensors(trace.upcast())
    assert list(after) == list(before)
    for name, tensor in after.items():
        assert tensor.dtype is torch.float64, name
        assert before[name].dtype is torch.float32, name
        assert torch.equal(tensor, before[name].double()), name


def test_what_is_not_requested_is_not_kept(model: LensModel, spec: Spec) -> None:
    images = pixels(1, spec.size)
    always = {"trace.embeddings", "trace.final_sigma"}
    assert set(tensors(capture(model.tower, images, []))) == always
    assert set(tensors(capture(model.tower, images, CaptureRequest(resid_post=[1])))) == always | {"trace.resid_post.1"}
    layers = [spec.layers - 2]
    readouts = model.tower.readers_of(layers[0])
    plain = always | {f"trace.activations.{layers[0]}"}
    plain |= {f"trace.readouts.{index}.{name}" for index in readouts for name in ("attention", "sigma")}
    assert set(tensors(capture(model.tower, images, CaptureRequest(layers=layers)))) == plain
    streams = plain | {f"trace.readouts.{index}.resid_pre" for index in readouts}
    assert set(tensors(capture(model.tower, images, CaptureRequest(layers=layers, resid_pre=True)))) == streams
    writes = plain | {f"trace.mlp_writes.{layers[0]}"}
    assert set(tensors(capture(model.tower, images, CaptureRequest(layers=layers, mlp_writes=True)))) == writes
    pooled = capture(model.tower, images, CaptureRequest(first_order=True)).pooled_activations
    assert list(pooled) == ([POOL_MLP] if spec.family == "siglip" else list(range(spec.layers)))


def test_a_sequence_of_layers_is_a_request(clip: LensModel) -> None:
    images = pixels(2, 64)
    expected = tensors(capture(clip.tower, images, CaptureRequest(layers=[1, 2])))
    for layers in ([1, 2], (1, 2), range(1, 3)):
        found = tensors(capture(clip.tower, images, layers))
        assert list(found) == list(expected)
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_residual_streams_and_writes_fit_together(model: LensModel, spec: Spec) -> None:
    trace = full(model, pixels(2, spec.size))
    for index, reader in enumerate(model.tower.readers):
        part = trace.readouts[index]
        if reader.layers_before:
            assert torch.equal(part.resid_pre, trace.resid_post[reader.layers_before - 1])
        assert torch.equal(part.pooled_resid_pre, part.resid_pre[:, 0])
    if trace.pooled_resid_post is not None:
        assert torch.equal(trace.pooled_resid_post, trace.resid_post[spec.layers - 1][:, 0])
    for layer, mlp in enumerate(model.tower.mlps):
        expected = trace.activations[layer] @ mlp.weight().T
        torch.testing.assert_close(trace.mlp_writes[layer], expected, **FLOAT32)


def test_callbacks_see_what_attentions_see(model: LensModel, spec: Spec) -> None:
    tower, seen, heads = model.tower, {}, {}

    def on_readout(index: int, tokens: torch.Tensor, attention: torch.Tensor) -> None:
        assert index not in seen
        seen[index] = (tokens, attention)

    def on_attention(inputs: HeadInputs) -> None:
        heads[len(heads)] = inputs

    layers = range(spec.layers)
    request = CaptureRequest(
        layers=layers, resid_pre=True, on_readout=on_readout, on_attention=dict.fromkeys(layers, on_attention)
    )
    trace = capture(tower, pixels(2, spec.size), request)
    assert list(seen) == list(trace.readouts) == tower.readers_of(0)
    for index, (tokens, attention) in seen.items():
        torch.testing.assert_close(tokens, tower.readers[index].norm(trace.readouts[index].resid_pre), **FLOAT32)
        assert torch.equal(attention, trace.readouts[index].attention)
        if spec.family != "siglip":
            # In the order of the forward pass; the class token's row is what a readout attention keeps.
            scale = tower.readers[index].weights().scale
            torch.testing.assert_close(heads[index].matrix(scale)[:, :, 0], attention, **FLOAT32)
    assert list(heads) == list(layers)


def test_what_a_capture_held_is_freed_at_once(clip: LensModel) -> None:
    """Reference cycles would hold activations until the garbage collector runs."""
    held: list[weakref.ref] = []

    def on_attention(inputs: HeadInputs) -> None:
        held.append(weakref.ref(inputs.residual))

    gc.collect()
    gc.disable()
    try:
        request = CaptureRequest(layers=[0], first_order=True, resid_post=[0], on_attention={1: on_attention})
        trace = capture(clip.tower, pixels(2, 64), request)
        upper = Upper(clip.tower, 0, trace.resid_post[0])
        upper.embeddings(torch.zeros(1, 2, 17), torch.zeros(1, clip.tower.width))
        held += [weakref.ref(trace.activations[0]), weakref.ref(upper)]
        del trace, upper
        assert [reference() for reference in held] == [None] * 3
    finally:
        gc.enable()


def test_low_precision_keeps_upstreams(own_clip: LensModel) -> None:
    own_clip.to(dtype=torch.bfloat16)
    images = pixels(1, 64)
    low = capture(own_clip.tower, images, CaptureRequest(layers=[0], low_precision=True, mlp_writes=True))
    high = capture(own_clip.tower, images, CaptureRequest(layers=[0], mlp_writes=True))
    assert low.activations[0].dtype is torch.bfloat16
    assert high.activations[0].dtype is torch.float32
    assert torch.equal(low.activations[0].float(), high.activations[0])
    # What half precisions would round after the bias is summed again.
    for trace in (low, high):
        assert trace.mlp_writes[0].dtype is torch.float32
        torch.testing.assert_close(
            trace.mlp_writes[0], high.activations[0] @ own_clip.tower.mlps[0].weight().float().T, **FLOAT32
        )


def test_layers_that_are_not_there_are_named(clip: LensModel) -> None:
    images = pixels(1, 64)
    for request, message in (
        ([1, 4], "layers 0 to 3, got 4"),
        (CaptureRequest(layers=[-1]), "layers 0 to 3, got -1"),
        (CaptureRequest(resid_post=[9, 7]), "layers 0 to 3, got 7, 9"),
        (CaptureRequest(on_attention={5: print}), "layers 0 to 3, got 5"),
    ):
        with pytest.raises(SecondLensError, match=message):
            capture(clip.tower, images, request)
    assert hooks_of(clip.module) == 0
