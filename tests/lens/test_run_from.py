"""A network entered half-way gives the embedding that it gives when run from the pixels."""

import torch

from builders import Spec, pixels
from secondlens.lens import LensModel
from secondlens.lens.capture import capture
from secondlens.lens.trace import CaptureRequest


def test_run_from_is_the_rest_of_the_forward_pass(model: LensModel, spec: Spec) -> None:
    images = pixels(3, spec.size)
    trace = capture(model.tower, images, CaptureRequest(resid_post=range(spec.layers)))
    for layer in range(spec.layers):
        again = model.tower.run_from(layer + 1, trace.resid_post[layer])
        # The same modules on the same numbers: only the final layer norm's shape differs (measured: 0 to 2e-7).
        torch.testing.assert_close(again, trace.embeddings, rtol=2e-6, atol=2e-6)


def test_a_layer_is_its_attention_and_its_mlp(double_model: LensModel, spec: Spec) -> None:
    """`weights` and `mlp` of a block, by a plain softmax over all tokens, give what upstream's layer gives."""
    images = pixels(2, spec.size).double()
    trace = capture(double_model.tower, images, CaptureRequest(resid_post=range(spec.layers)))
    for layer in range(1, spec.layers):
        block, before = double_model.tower.blocks[layer], trace.resid_post[layer - 1]
        weights, x = block.weights(), block.norm(before)
        q = torch.einsum("biw,hdw->bhid", x, weights.query) + weights.query_bias[:, None]
        k = torch.einsum("biw,hdw->bhid", x, weights.key)
        v = torch.einsum("biw,hdw->bhid", x, weights.value) + weights.value_bias[:, None]
        read = torch.softmax(q @ k.mT * weights.scale, dim=-1) @ v
        after = before + torch.einsum("bhid,hwd->biw", read, weights.output) + weights.output_bias
        torch.testing.assert_close(block.mlp(after), trace.resid_post[layer], rtol=1e-9, atol=1e-9)
