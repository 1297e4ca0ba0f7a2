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

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from secondlens.applications.heatmaps.gradients import AttentionPass, attention_matrix, mixing_shares
from secondlens.errors import SecondLensError
from secondlens.models.capture import Trace, capture, wide
from secondlens.models.model import LensModel

Mixing = Literal["norms", "attention"]
"""How tokens are followed back through an attention: by the norms of what it moves, or as rollout does (cheaper)."""


class DirectTokens(NamedTuple):
    """What one reader reads: its layer norm's output, the pooled query's attention to it, and what came before."""

    tokens: Float[Tensor, "image token width"]
    attention: Float[Tensor, "image head token"]
    residual: Float[Tensor, "image token width"]


class SharedPass:
    """One batch of images through the model; each part is computed when a method first asks for it, and once.

    model, pixels: the model and the preprocessed images [image, 3, height, width], of any size that the tower takes.
    layers: whose neurons' activations `trace` keeps. whole: whether some method reads every layer's tokens (`direct`,
    `mixing`): then the first pass keeps them, else another one is made when they are asked for.
    """

    def __init__(
        self,
        model: LensModel,
        pixels: Float[Tensor, "image 3 height width"],
        layers: Iterable[int] = (),
        whole: bool = False,
    ) -> None:
        self.model = model
        self.pixels = pixels
        self.layers = tuple(sorted(set(layers)))
        self.whole = whole
        height, width = pixels.shape[-2:]
        patch = model.tower.patch
        if height % patch or width % patch:
            raise SecondLensError(
                f"expected images whose sides are multiples of the patch of {patch} pixels, got {height} x {width}; "
                "fit them with secondlens.applications.heatmaps.fit_images"
            )
        self.grid = (height // patch, width // patch)

    @classmethod
    def of(
        cls, model: LensModel, pixels: Float[Tensor, "image 3 height width"], methods: Sequence["HeatMapMethod"]
    ) -> "SharedPass":
        """One that keeps at once what these methods need."""
        return cls(model, pixels, layers_of(methods), any(method.whole for method in methods))

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.pixels)

    @cached_property
    def trace(self) -> Trace:
        """Activations of `layers`, the pooled token's attention in every later reader, scales; without gradients."""
        if self.whole and self.model.tower.pool_mlp is None:
            _ = self.direct
            return self.__dict__["trace"]
        # The last reader's attention is needed where no layer's neurons are.
        return capture(self.model.tower, self.pixels, self.layers or [self.model.tower.lens_layers[-1]])

    @cached_property
    def direct(self) -> list[DirectTokens]:
        """Tokens and pooled attention of every reader, in order; the same pass serves a `trace` yet to come."""
        found: dict[int, DirectTokens] = {}

        def keep(index: int, tokens: Tensor, attention: Tensor, residual: Tensor) -> None:
            found[index] = DirectTokens(tokens, attention, residual)

        trace = capture(self.model.tower, self.pixels, self.layers, first_order=True, each_reader=keep)
        self.__dict__.setdefault("trace", trace)
        return [found[index] for index in range(len(self.model.tower.readers))]

    @cached_property
    def embeddings(self) -> Float[Tensor, "image embed"]:
        """The model's own embedding, unnormalised, by whichever pass has been made."""
        done = "trace" in self.__dict__ or "attention" not in self.__dict__
        return self.trace.embeddings if done else self.attention.embeddings.detach()

    def mixing(self, kind: Mixing) -> list[Float[Tensor, "image token token"]]:
        """How much of each token after an attention came from each token before it; rows sum to one."""
        return self.halves if kind == "attention" else self.shares

    @cached_property
    def halves(self) -> list[Float[Tensor, "image token token"]]:
        """(I + mean over heads A) / 2 of every layer, as in rollout."""
        found = []
        for matrix in self.matrices:
            mean = matrix.mean(dim=1) / 2
            mean.diagonal(dim1=1, dim2=2).add_(0.5)
            found.append(mean)
        return found

    @cached_property
    def matrices(self) -> list[Float[Tensor, "image head token token"]]:
        """Attention matrices of every layer, from whichever pass is made anyway."""
        tower = self.model.tower
        if tower.pool_mlp is not None or "attention" in self.__dict__:
            return self.attention.matrices
        # Every layer's attention is a reader: its tokens are at hand.
        return [
            attention_matrix(reader.weights(), seen.tokens)
            for reader, seen in zip(tower.readers, self.direct, strict=True)
        ]

    @cached_property
    def shares(self) -> list[Float[Tensor, "image token token"]]:
        """The same by the norms of what is moved, every layer.

        w[q,i] = |sum_h A[h,q,i] W_O[h] v[h,i] + [q = i] x[q]|,    shares = w / sum_i w        x: the residual stream

        (Kobayashi et al. 2021, without their layer norm after.)
        """
        tower = self.model.tower
        if tower.pool_mlp is not None or "attention" in self.__dict__:
            layers = [(wide(layer.normed.detach()), wide(layer.before.detach())) for layer in self.attention.layers]
        else:
            layers = [(seen.tokens, seen.residual) for seen in self.direct]
        return [
            mixing_shares(reader.weights(), *tensors, matrix)
            for reader, tensors, matrix in zip(tower.attentions, layers, self.matrices, strict=True)
        ]

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
        assert self.trace.final_sigma is not None
        return 1 / (self.trace.final_sigma * self.trace.embeddings.norm(dim=-1))

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
    """One way to say where in an image a target is.

    name: as in `METHODS`. layers: whose neurons' activations `SharedPass.trace` must hold for it.
    whole: whether it reads every layer's tokens.
    """

    @property
    def name(self) -> str:
        """As in `METHODS`."""
        ...

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers that `SharedPass` must be told of."""
        ...

    @property
    def whole(self) -> bool:
        """Whether it reads every layer's tokens."""
        ...

    def maps(
        self, shared: SharedPass, targets: Float[Tensor, "image target embed"]
    ) -> Float[Tensor, "image target row column"]:
        """Raw maps on the patch grid, float32 or wider."""
        ...


def layers_of(methods: Sequence[HeatMapMethod]) -> tuple[int, ...]:
    """All layers that some methods need, for their `SharedPass`."""
    return tuple(sorted({layer for method in methods for layer in method.layers}))


def same_for_all(vectors: Float[Tensor, "target embed"], images: int) -> Float[Tensor, "image target embed"]:
    """The same targets for every image."""
    return vectors.expand(images, -1, -1)


def distinct(targets: Float[Tensor, "image target embed"]) -> Float[Tensor, "set target embed"]:
    """One set where all images have the same (made by `same_for_all`), so that weights are projected once for all."""
    return targets[:1] if len(targets) == 1 or targets.stride(0) == 0 else targets
