"""Is an effect more selective, and nearer to rank one, than its paths are by themselves?

A neuron's effect is a sum over paths, phi - mean = sum_k c[k](I) u[k]. The null keeps everything about each path -
its write direction and all its coefficients - and breaks only what they have to do with each other: for every path the
images are permuted independently. Means and the sum of variances of the paths stay as they are. If a neuron's paths
act on images of their own, a permuted neuron looks like the real one; if they act together on the same images, the
real one has the larger norms, rarer, in fewer dimensions.

1. One pass over images; coefficients of a random sample of neurons are kept.
2. Statistics of a neuron: the share of images with at least half of the largest norm; of the top images (a tenth of
   all, at most 100) the explained variance of the first component and the participation ratio.
3. The same of each of `draws` permutations, top images chosen anew: p = (1 + draws as extreme) / (1 + draws), towards
   fewer images, more variance explained and less participation.

The same permutations serve all neurons of a layer: each p-value is exact under its null, but they are not independent
of each other, so read the share of neurons below 0.05 as a description, not as a test of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondlens.atlas.store import Atlas
from secondlens.data.loader import processing_order, stream
from secondlens.data.sources import ImageSource
from secondlens.errors import ImageError
from secondlens.lens.capture import capture
from secondlens.lens.model import LensModel
from secondlens.lens.paths import coefficients, path_weights, write_maps
from secondlens.lens.second_order import gram_root
from secondlens.progress import RUNNING, Running

STATISTICS = ("above_half_of_largest", "explained_variance", "participation")
HIGH = ("explained_variance",)
"""Statistics of which a large value is extreme; of the others a small one."""
FEWEST = 20


@dataclass(frozen=True)
class ShuffleTest:
    """One layer. neurons: those sampled. observed, p_values: by statistic. null: its median over draws.

    pairs: of each neuron-head pair, the share of images with at least half of its own largest |coefficient - mean|.
    """

    layer: int
    neurons: Int[Tensor, " neuron"]
    observed: dict[str, Float[Tensor, " neuron"]]
    null: dict[str, Float[Tensor, " neuron"]]
    p_values: dict[str, Float[Tensor, " neuron"]]
    pairs: Float[Tensor, "neuron path"]


@torch.no_grad()
def shuffle_tests(
    model: LensModel,
    atlas: Atlas,
    source: ImageSource,
    *,
    layers: Sequence[int] | None = None,
    neurons: int = 256,
    limit: int = 1000,
    draws: int = 99,
    seed: int = 0,
    running: Running = RUNNING,
) -> list[ShuffleTest]:
    """Test a random sample of each layer's neurons on images; the survey's or others.

    Memory: 4 bytes an image, neuron and path. Raises `AtlasError` for an atlas of another model, `ImageError` where
    fewer than 20 images can be read.
    """
    atlas.require_model(model)
    chosen = [atlas.layer(index).index for index in (atlas.layers if layers is None else sorted(set(layers)))]
    generator = torch.Generator().manual_seed(seed)
    count = min(neurons, model.neurons)
    rows = {index: torch.randperm(model.neurons, generator=generator)[:count].sort().values for index in chosen}
    held: dict[int, list[Tensor]] = {index: [] for index in chosen}
    order = processing_order(len(source.ids))[:limit]
    for batch in stream(source, model.preprocessing.transform, order, running):
        trace = capture(model.tower, batch.pixels, chosen)
        for index in chosen:
            activations = trace.activations[index][:, :, rows[index].to(model.device)]
            found = coefficients(path_weights(trace, model.tower, index), activations)
            held[index].append(found.transpose(0, 1).cpu())
    tests: list[ShuffleTest] = []
    for index in chosen:
        running.progress("permutations", len(tests), len(chosen))
        seen = torch.cat(held.pop(index), dim=1) if held[index] else torch.zeros(count, 0, 1)
        if seen.shape[1] < FEWEST:
            raise ImageError(f"expected at least {FEWEST} images that can be read, got {seen.shape[1]}")
        maps = write_maps(model.tower, index, atlas.manifest.convention)
        root = gram_root(maps.directions(rows[index].to(maps.values.device))).cpu()
        tests.append(shuffle_test(index, rows[index], seen, root, draws, generator))
    running.progress("permutations", len(tests), len(chosen))
    return tests


def shuffle_test(
    layer: int,
    neurons: Int[Tensor, " neuron"],
    held: Float[Tensor, "neuron image path"],
    root: Float[Tensor, "neuron path path"],
    draws: int,
    generator: torch.Generator,
) -> ShuffleTest:
    """Test one layer from its neurons' coefficients of every image and the square root of their Gram matrices."""
    centred = held.double() - held.double().mean(dim=1, keepdim=True)
    top = min(100, max(2, held.shape[1] // 10))
    observed = figures(centred, root, top)
    drawn: dict[str, list[Tensor]] = {name: [] for name in STATISTICS}
    for _ in range(draws):
        for name, values in figures(permuted(centred, generator), root, top).items():
            drawn[name].append(values)
    null = {name: torch.stack(values) for name, values in drawn.items()}
    extreme = {name: null[name] >= observed[name] if name in HIGH else null[name] <= observed[name] for name in null}
    sizes = centred.abs()
    return ShuffleTest(
        layer=layer,
        neurons=neurons,
        observed=observed,
        null={name: values.median(dim=0).values for name, values in null.items()},
        p_values={name: (1 + found.sum(dim=0)) / (1 + draws) for name, found in extreme.items()},
        pairs=(sizes >= sizes.amax(dim=1, keepdim=True) / 2).float().mean(dim=1),
    )


def permuted(
    centred: Float[Tensor, "neuron image path"], generator: torch.Generator
) -> Float[Tensor, "neuron image path"]:
    """Images in another order for every path."""
    _, images, paths = centred.shape
    order = torch.rand(images, paths, generator=generator).argsort(dim=0)
    return centred.gather(1, order.expand(len(centred), -1, -1))


def figures(
    centred: Float[Tensor, "neuron image path"], root: Float[Tensor, "neuron path path"], top: int
) -> dict[str, Float[Tensor, " neuron"]]:
    """The statistics, of |phi - mean| = |c R| and of the top images' eigenvalues; zero for a neuron without effect."""
    rows = torch.bmm(centred, root.to(centred))
    norms = rows.norm(dim=2)
    largest = norms.amax(dim=1, keepdim=True)
    picked = norms.topk(top, dim=1).indices
    kept = rows.gather(1, picked[:, :, None].expand(-1, -1, rows.shape[2]))
    # Y Y^T and Y^T Y share their non-zero eigenvalues.
    gram = torch.bmm(kept, kept.mT) if top <= kept.shape[2] else torch.bmm(kept.mT, kept)
    tiny = torch.finfo(torch.float64).tiny
    total = gram.diagonal(dim1=1, dim2=2).sum(dim=1)
    return {
        "above_half_of_largest": ((norms >= largest / 2) & (largest > 0)).double().mean(dim=1).float(),
        "explained_variance": (torch.linalg.eigvalsh(gram)[:, -1] / total.clamp(min=tiny)).float(),
        "participation": (total.square() / gram.square().sum(dim=(1, 2)).clamp(min=tiny)).float(),
    }
