"""Every replacement against a float64 oracle that makes the effects, on small random models of every family."""

import pytest
import torch

from builders import SPECS, Spec, build, pixels
from oracle import SlowTower, second_order
from secondlens.lens import LensModel
from secondlens.lens.capture import capture
from secondlens.lens.layer import LayerResult, LayerStatistics
from secondlens.studies.ablator import LayerAblator, group_layers

SURVEYED, EVALUATED, TOP = 30, 8, 8
# float32 sums over some thousand (neuron, path) pairs, relative to the change: measured at most 9e-6.
FLOAT32 = 3e-5


def survey(model: LensModel, layer: int, images: torch.Tensor, top: int = TOP) -> LayerResult:
    statistics = LayerStatistics(model.tower, layer, len(images))
    statistics.update(capture(model.tower, images, [layer]), torch.arange(len(images)))
    return statistics.result(top)


def ablator(model: LensModel, layer: int, found: LayerResult, thresholds: torch.Tensor | None = None) -> LayerAblator:
    chosen = found.top_norms[:, -1] if thresholds is None else thresholds
    return LayerAblator(model.tower, layer, found.mean_coefficients, chosen, found.components)


def apart(ours: torch.Tensor, theirs: torch.Tensor, scale: torch.Tensor) -> float:
    return float((ours.double() - theirs).norm() / scale.norm())


class Oracle:
    """Ablated embeddings from dense effects, as the paper defines them."""

    def __init__(self, spec: Spec, layer: int, seen: torch.Tensor, new: torch.Tensor, model: LensModel) -> None:
        slow = SlowTower(build(spec), spec.family)
        phi = second_order(slow, seen, layer)
        self.mean = phi.mean(dim=0)
        centred = phi - self.mean
        norms, order = centred.norm(dim=2).topk(TOP, dim=0)
        self.thresholds = norms[-1]
        top = centred.gather(0, order[:, :, None].expand(-1, -1, centred.shape[2])).transpose(0, 1)
        self.components = torch.linalg.svd(top, full_matrices=False).Vh
        self.centred = second_order(slow, new, layer) - self.mean
        self.unit = torch.nn.functional.normalize(slow.run(new)["embedding"], dim=1)

    def variants(self) -> dict[str, torch.Tensor]:
        large = self.centred.norm(dim=2, keepdim=True) >= self.thresholds[:, None]
        # A norm within float32 of a threshold could go either way.
        margin = (self.centred.norm(dim=2) / self.thresholds - 1).abs()
        assert float(margin.min()) > 1e-5
        assert 0.01 < float(large.double().mean()) < 0.99
        found = {
            "baseline": self.unit,
            "without_all": self.replaced(torch.zeros_like(self.centred)),
            "without_large": self.replaced(self.centred * ~large),
            "without_small": self.replaced(self.centred * large),
        }
        for name, rank in (("rank_one", 1), ("rank_two", 2), ("rank_four", 4)):
            kept = self.components[:, :rank]
            x = torch.einsum("bne,nje->bnj", self.centred, kept)
            found[name] = self.replaced(torch.einsum("bnj,nje->bne", x, kept))
        return found

    def texts(self, target: torch.Tensor) -> torch.Tensor:
        x = torch.einsum("bne,ne->bn", self.centred, self.components[:, 0])
        return self.replaced(x[:, :, None] * target)

    def replaced(self, effects: torch.Tensor) -> torch.Tensor:
        return self.unit + (effects - self.centred).sum(dim=1)


def test_every_variant_is_the_oracles(spec: Spec, model: LensModel) -> None:
    seen, new = pixels(SURVEYED, spec.size), pixels(EVALUATED, spec.size, seed=1)
    oracle = Oracle(spec, 0, seen, new, model)
    found = survey(model, 0, seen)
    ours = ablator(model, 0, found)
    signs = (found.directions.double() * oracle.components[:, 0]).sum(dim=1).sign()
    target = torch.randn(found.directions.shape, generator=torch.Generator().manual_seed(2))
    ours.add("texts", target * signs[:, None].float())
    variants = ours.ablate(capture(model.tower, new, [0]))
    expected = oracle.variants() | {"texts": oracle.texts(target.double())}
    assert list(variants) == list(expected) == ours.variants
    change = oracle.unit - expected["without_all"]
    for name, embeddings in variants.items():
        assert apart(embeddings, expected[name], change) < FLOAT32, name
    assert float(change.norm()) > 0.05 * float(oracle.unit.norm()), "nothing to replace"
    large = (oracle.centred.norm(dim=2) >= oracle.thresholds).sum(dim=0)
    assert torch.equal(ours.large, large)


def test_replacing_nothing_changes_nothing(spec: Spec, model: LensModel) -> None:
    """No effect is above an infinite threshold, none below zero; and the images' own effects are a fixed point."""
    seen, new = pixels(SURVEYED, spec.size), pixels(EVALUATED, spec.size, seed=1)
    found, trace = survey(model, 0, seen), capture(model.tower, new, [0])
    none = ablator(model, 0, found, torch.full((spec.neurons,), torch.inf)).ablate(trace)
    unit = torch.nn.functional.normalize(model.encode_images(new), dim=1)
    assert torch.equal(none["without_large"], none["baseline"])
    assert torch.equal(none["without_small"], none["without_all"])
    # A capture runs the same forward pass.
    torch.testing.assert_close(none["baseline"], unit, rtol=0, atol=1e-6)
    every = ablator(model, 0, found, torch.zeros(spec.neurons)).ablate(trace)
    torch.testing.assert_close(every["without_large"], every["without_all"], rtol=0, atol=2e-5)
    torch.testing.assert_close(every["without_small"], every["baseline"], rtol=0, atol=2e-5)
    # One image is its own mean: replacing its effects by their mean is replacing them by themselves.
    alone = survey(model, 0, new[:1], top=1)
    own = ablator(model, 0, alone).ablate(capture(model.tower, new[:1], [0]))
    assert float((own["baseline"] - unit[:1]).norm()) < 1e-6
    for name, embeddings in own.items():
        assert float((embeddings - unit[:1]).norm()) < FLOAT32 * float((none["without_all"] - unit).norm()), name


def test_all_components_are_the_effects_themselves() -> None:
    """Two heads and one later layer: two paths, so that two components span all effects of a neuron."""
    spec = Spec("clip", layers=2, heads=2)
    model = loaded(spec)
    seen, new = pixels(SURVEYED, spec.size), pixels(EVALUATED, spec.size, seed=1)
    found = survey(model, 0, seen)
    ours = ablator(model, 0, found)
    assert ours.variants == ["baseline", "without_all", "without_large", "without_small", "rank_one", "rank_two"]
    variants = ours.ablate(capture(model.tower, new, [0]))
    change = (variants["baseline"] - variants["without_all"]).norm()
    assert float((variants["rank_two"] - variants["baseline"]).norm() / change) < 1e-4
    assert float((variants["rank_one"] - variants["baseline"]).norm() / change) > 0.01


def test_all_layers_at_once_is_layer_by_layer_in_any_batches(spec: Spec, model: LensModel) -> None:
    layers = list(model.tower.lens_layers)
    seen, new = pixels(SURVEYED, spec.size), pixels(EVALUATED, spec.size, seed=1)
    found = {layer: survey(model, layer, seen) for layer in layers}
    together = capture(model.tower, new, layers)
    for layer in layers:
        ours = ablator(model, layer, found[layer])
        joint = ours.ablate(together)
        alone = ours.ablate(capture(model.tower, new, [layer]))
        parts = [ours.ablate(capture(model.tower, part, layers)) for part in new.split(3)]
        for name in ours.variants:
            torch.testing.assert_close(joint[name], alone[name], rtol=0, atol=1e-6)
            # Another batch size, another order of float32 sums.
            torch.testing.assert_close(joint[name], torch.cat([p[name] for p in parts]), rtol=0, atol=2e-5)


def test_groups() -> None:
    assert group_layers({4: 3, 2: 4, 3: 5}, 9) == [[2, 3], [4]]
    assert group_layers({1: 10, 2: 10}, 5) == [[1], [2]]
    assert group_layers({0: 1, 1: 1}, 2) == [[0, 1]]


def loaded(spec: Spec) -> LensModel:
    from secondlens.lens.families.clip import tower
    from secondlens.lens.model import Preprocessing

    module = build(spec)
    return LensModel("random", "hf-clip", module, tower(module), Preprocessing(torch.stack, {}), None)


@pytest.mark.parametrize("spec", [SPECS[0]])
def test_half_precision_sums_in_float32(spec: Spec) -> None:
    model = loaded(spec)
    seen, new = pixels(SURVEYED, spec.size), pixels(EVALUATED, spec.size, seed=1)
    found = survey(model, 1, seen)
    full = ablator(model, 1, found).ablate(capture(model.tower, new, [1]))
    model.to(dtype=torch.bfloat16)
    half = ablator(model, 1, found).ablate(capture(model.tower, new, [1]))
    assert all(value.dtype == torch.float32 for value in half.values())
    effects = [variants["baseline"] - variants["without_all"] for variants in (full, half)]
    # bfloat16 keeps 2^-8 of every weight and activation. Measured: 0.014.
    assert apart(effects[1], effects[0].double(), effects[0]) < 0.05
