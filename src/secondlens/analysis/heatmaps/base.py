"""One interface for every heat map: a batch goes through the model once, and all methods read from that.

    methods = make_methods(model, ["contribution", "rollout"], atlas)
    shared = SharedPass.of(model, pixels, methods)
    for method in methods:
        maps = method.maps(shared, targets)           # [image, target, row, column]

A target is a vector of the joint space: a text's embedding, a class row. What a method explains is the score
S[image, target] = <z/|z|, t>. (Gradients are taken of <z, t> where the model is a classifier, whose head sees z.)
Maps are raw: on the patch grid, in the method's own unit, signed where that means something.
`postprocess` brings them to [0, 1] and to the image's size.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, partial
from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from secondlens.analysis.heatmaps.gradients import AttentionPass
from secondlens.analysis.heatmaps.mixing import Mixing, mix
from secondlens.errors import SecondLensError
from secondlens.lens.capture import capture
from secondlens.lens.heads import HeadInputs
from secondlens.lens.model import LensModel
from secondlens.lens.trace import CaptureRequest, Trace


class DirectTokens(NamedTuple):
    """What one reader reads: its layer norm's output and the pooled query's attention to it."""

    tokens: Float[Tensor, "image token width"]
    attention: Float[Tensor, "image head token"]


class SharedPass:
    """One batch of images through the model; each part is computed when a method first asks for it, and once.

    model, pixels: the model and the preprocessed images [image, 3, height, width], of any size that the tower takes.
    layers, direct, depths: what the first pass keeps, as in `HeatMapMethod`; what it did not keep takes another one.
    """

    def __init__(
        self,
        model: LensModel,
        pixels: Float[Tensor, "image 3 height width"],
        layers: Iterable[int] = (),
        direct: bool = False,
        depths: Mapping[Mixing, int] | None = None,
    ) -> None:
        self.model = model
        self.pixels = pixels
        self.layers = tuple(sorted(set(layers)))
        self._plan = (direct, dict(depths or {}))
        self._direct: dict[int, DirectTokens] = {}
        self._mixing: dict[Mixing, list[Tensor]] = {}
        height, width = pixels.shape[-2:]
        patch = model.tower.patch
        if height % patch or width % patch:
            raise SecondLensError(
                f"expected images whose sides are multiples of the patch of {patch} pixels, got {height} x {width}; "
                "fit them with secondlens.analysis.heatmaps.fit_images"
            )
        self.grid = (height // patch, width // patch)

    @classmethod
    def of(
        cls, model: LensModel, pixels: Float[Tensor, "image 3 height width"], methods: Sequence["HeatMapMethod"]
    ) -> "SharedPass":
        """One that keeps at once what these methods need."""
        depths: dict[Mixing, int] = {}
        for method in methods:
            for kind, depth in method.depths.items():
                depths[kind] = max(depth, depths.get(kind, 0))
        return cls(model, pixels, layers_of(methods), any(method.direct for method in methods), depths)

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.pixels)

    @cached_property
    def trace(self) -> Trace:
        """Activations of `layers`, the pooled token's attention in every later reader, scales; without gradients."""
        return self._run(*self._plan)

    def _run(self, direct: bool, depths: Mapping[Mixing, int]) -> Trace:
        tower = self.model.tower
        mixed: dict[Mixing, dict[int, Tensor]] = {kind: {} for kind in depths}

        def read(index: int, tokens: Tensor, attention: Tensor) -> None:
            self._direct[index] = DirectTokens(tokens, attention)

        def attend(inputs: HeadInputs, layer: int) -> None:
            weights = tower.attentions[layer].weights()
            for kind, depth in depths.items():
                if layer < depth:
                    mixed[kind][layer] = mix(kind, weights, inputs)

        request = CaptureRequest(
            # The last readout attention is needed where no layer's neurons are.
            layers=self.layers or [tower.lens_layers[-1]],
            first_order=direct,
            on_readout=read if direct else None,
            mlp_writes=bool(self.layers),
            on_attention={layer: partial(attend, layer=layer) for layer in range(max(depths.values(), default=0))},
        )
        trace = capture(tower, self.pixels, request)
        self._mixing |= {kind: [of_kind[layer] for layer in range(depths[kind])] for kind, of_kind in mixed.items()}
        return trace

    @property
    def direct(self) -> list[DirectTokens]:
        """Tokens and pooled attention of every reader, in order."""
        _ = self.trace
        if not self._direct:
            self._run(True, {})
        return [self._direct[index] for index in range(len(self.model.tower.readers))]

    def mixing(self, kind: Mixing, depth: int | None = None) -> list[Float[Tensor, "image token token"]]:
        """`mixing.mix` of the first `depth` attentions, all by default."""
        depth = len(self.model.tower.attentions) if depth is None else depth
        _ = self.trace
        if len(self._mixing.get(kind, ())) < depth:
            self._run(False, {kind: depth})
        return self._mixing[kind][:depth]

    @cached_property
    def embeddings(self) -> Float[Tensor, "image embed"]:
        """The model's own embedding, unnormalised, by whichever pass has been made."""
        done = "trace" in self.__dict__ or "attention" not in self.__dict__
        return self.trace.embeddings if done else self.attention.embeddings.detach()

    @cached_property
    def attention(self) -> AttentionPass:
        """Whole attention matrices of every layer, and gradients with respect to them, from one more pass."""
        return AttentionPass(self.model, self.pixels)

    def to_grid(self, tokens: Float[Tensor, "*lead token"]) -> Float[Tensor, "*lead row column"]:
        """Values of all tokens to the patch grid; those of tokens before the first patch are dropped."""
        patches = tokens[..., self.model.tower.prefix_tokens :]
        if patches.shape[-1] != self.grid[0] * self.grid[1]:
            raise SecondLensError(
                f"expected {self.grid[0]} x {self.grid[1]} patches after {self.model.tower.prefix_tokens} other "
                f"tokens, got {tokens.shape[-1]} tokens: the adapter's prefix_tokens does not fit this model"
            )
        return patches.unflatten(-1, self.grid)

    @property
    def scale(self) -> Float[Tensor, " image"]:
        """1 / (sigma_post |z|): from what is written at the pooled token to the unit-norm embedding."""
        return 1 / self.trace.final_scale

    def check_layers(self, layers: Sequence[int]) -> None:
        """Raise where this pass keeps too few layers."""
        if not set(layers) <= set(self.layers):
            raise SecondLensError(
                f"this pass keeps the neurons of layers {list(self.layers)}, the method needs {list(layers)}; "
                "make it with SharedPass.of(model, pixels, methods)"
            )

    def check_targets(self, targets: Float[Tensor, "image target embed"]) -> None:
        """Raise where targets are not one set of vectors of the joint space an image."""
        expected = (self.images, self.model.embed_dim)
        if targets.ndim != 3 or (targets.shape[0], targets.shape[2]) != expected:
            raise SecondLensError(
                f"expected targets [image, target, embed] for {expected[0]} images in {expected[1]} dimensions, "
                f"got {list(targets.shape)}; the same for all images: targets.expand({expected[0]}, -1, -1)"
            )


@runtime_checkable
class HeatMapMethod(Protocol):
    """One way to say where in an image a target is, and what the shared pass must keep for it.

    name: as in `METHODS`. layers: whose neurons' activations and outputs. direct: whether what every reader reads.
    depths: a kind of mixing, and of how many attentions from the first one on.
    """

    @property
    def name(self) -> str:
        """As in `METHODS`."""
        ...

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers of the neurons."""
        ...

    @property
    def direct(self) -> bool:
        """Whether `SharedPass.direct` is read."""
        ...

    @property
    def depths(self) -> Mapping[Mixing, int]:
        """How deep `SharedPass.mixing` is read."""
        ...

    def maps(
        self, shared: SharedPass, targets: Float[Tensor, "image target embed"]
    ) -> Float[Tensor, "image target row column"]:
        """Raw maps on the patch grid, float32 or wider."""
        ...


class PlainMethod:
    """A method that needs nothing of the shared pass but the pooled token's attention, or says what it needs."""

    @property
    def layers(self) -> tuple[int, ...]:
        """None."""
        return ()

    @property
    def direct(self) -> bool:
        """No."""
        return False

    @property
    def depths(self) -> Mapping[Mixing, int]:
        """None."""
        return {}


def layers_of(methods: Sequence[HeatMapMethod]) -> tuple[int, ...]:
    """All layers that some methods need, for their `SharedPass`."""
    return tuple(sorted({layer for method in methods for layer in method.layers}))


def same_for_all(vectors: Float[Tensor, "target embed"], images: int) -> Float[Tensor, "image target embed"]:
    """The same targets for every image."""
    return vectors.expand(images, -1, -1)


def distinct(targets: Float[Tensor, "image target embed"]) -> Float[Tensor, "set target embed"]:
    """One set where all images have the same (made by `same_for_all`), so that weights are projected once for all."""
    return targets[:1] if len(targets) == 1 or targets.stride(0) == 0 else targets
