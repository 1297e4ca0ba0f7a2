"""What is mutated, and which tests run for it."""

from typing import NamedTuple


class Area(NamedTuple):
    """Source files (globs below the package), their share of the draw, quick tests and those that survivors see."""

    weight: int
    source: tuple[str, ...]
    quick: list[str]
    wide: list[str]


EFFECTS = ["tests/test_golden.py", "tests/test_effects.py", "tests/test_statistics.py", "tests/effects"]
MAPS = [f"tests/applications/test_{name}.py" for name in ("neuron_maps", "baselines", "segment", "devices")]
CONCEPTS = ["tests/applications/test_concepts.py", "tests/applications/test_concept_sets.py"]
STUDIES = [f"tests/studies/test_{name}.py" for name in ("ablator", "indirect_directions", "ablation", "agreement")]

AREAS = {
    "effects": Area(
        16,
        ("effects/*.py",),
        [*EFFECTS, "tests/test_intervention.py", "tests/applications/test_attribution.py"],
        ["tests/kernels", "tests/test_survey.py", *STUDIES, "tests/studies", "tests/applications", "tests/cluster"],
    ),
    "numerics": Area(
        15,
        ("numerics/*.py",),
        ["tests/numerics", "tests/test_statistics.py", "tests/test_golden.py", "tests/test_survey.py"],
        ["tests/surveys", "tests/kernels", "tests/cluster", "tests/studies"],
    ),
    "text": Area(10, ("text/*.py",), ["tests/text"], ["tests/descriptions", "tests/studies", "tests/applications"]),
    "descriptions": Area(
        8,
        ("descriptions/*.py",),
        ["tests/descriptions/test_null.py", "tests/descriptions/test_senses.py", "tests/descriptions/test_describe.py"],
        [*CONCEPTS, "tests/studies", "tests/viewer", "tests/cluster", "tests/world", "tests/test_cli.py"],
    ),
    "heat maps": Area(
        9,
        ("applications/heatmaps/*.py",),
        [*MAPS, "tests/applications/test_segmentation_evaluate.py"],
        ["tests/applications", "tests/viewer", "tests/attack", "tests/test_cli.py"],
    ),
    "audit": Area(
        8,
        ("applications/audit/*.py",),
        ["tests/audit"],
        ["tests/viewer/test_audits.py", "tests/attack", "tests/viewer", "tests/world"],
    ),
    "studies": Area(
        4,
        ("studies/paired.py", "studies/intervals.py"),
        ["tests/studies/test_intervals.py", "tests/applications/test_segmentation_metrics.py", *STUDIES],
        ["tests/audit", "tests/attack/test_results.py", "tests/applications", "tests/viewer", "tests/world"],
    ),
    "concepts": Area(
        5, ("applications/concepts/*.py",), CONCEPTS, ["tests/viewer", "tests/applications", "tests/world"]
    ),
}

# Tests that run first, by a part of the path.
DIRECT = {
    "effects/sources": ["tests/applications/test_attribution.py"],
    "effects/indirect": ["tests/effects/test_indirect.py"],
    "effects/upper": ["tests/effects/test_indirect.py"],
    "effects/first_order": ["tests/test_effects.py", "tests/effects/test_first_order_patches.py"],
    "effects/paths": ["tests/effects/test_conventions.py", "tests/test_effects.py"],
    "effects/factored": ["tests/test_effects.py"],
    "effects/patches": ["tests/test_effects.py"],
    "effects/rank_one": ["tests/test_statistics.py"],
    "effects/layer": ["tests/test_golden.py", "tests/effects/test_top_fraction.py"],
    "descriptions/senses": ["tests/descriptions/test_senses.py"],
    "descriptions/null": ["tests/descriptions/test_null.py"],
    "descriptions/describe": ["tests/descriptions/test_of_each_neuron.py", "tests/descriptions/test_describe.py"],
    "descriptions/store": ["tests/descriptions/test_of_each_neuron.py", "tests/descriptions/test_describe.py"],
    "descriptions/dissect": ["tests/descriptions/test_dissect.py"],
    "heatmaps/writes": ["tests/applications/test_writes_of_other_texts.py"],
    "heatmaps/fit": ["tests/applications/test_fit_limits.py", "tests/applications/test_segment.py"],
    "heatmaps/postprocess": ["tests/applications/test_fit_limits.py", "tests/applications/test_segment.py"],
    "heatmaps/re": ["tests/applications/test_baselines.py"],
    "heatmaps/lrp": ["tests/applications/test_baselines.py"],
    "heatmaps/grad": ["tests/applications/test_baselines.py"],
    "heatmaps/attention": ["tests/applications/test_baselines.py"],
    "audit/matrix": ["tests/audit/test_cues_named.py"],
    "audit/similarity": ["tests/audit/test_cues_named.py"],
    "concepts/find": ["tests/applications/test_concept_lists.py"],
    "audit/images": ["tests/audit/test_cues_named.py", "tests/audit/test_images.py"],
    "audit/carrying": ["tests/audit/test_cues_named.py", "tests/audit/test_carrying.py"],
    "audit/removal": ["tests/audit/test_defence.py"],
    "audit/study": ["tests/audit/test_defence.py"],
    "studies/paired": ["tests/studies/test_paired.py", "tests/applications/test_segmentation_metrics.py"],
    "studies/intervals": ["tests/studies/test_ablation.py", "tests/studies/test_agreement.py"],
}

# Names of functions and local variables that set how fast or how large, never what; and what only words or draws.
EXEMPT = {"block", "step", "piece", "block_size", "setup_block_size", "map_blocks", "statistics_bytes", "_fastest"}
EXEMPT |= {"__repr__", "draw_matrix", "listed"}

# Files that draw, and files that the package `numerics` replaces.
SKIPPED = {"applications/concepts/picture.py", "applications/heatmaps/pictures.py"}
SKIPPED |= {f"effects/{name}.py" for name in ("statistics", "candidates", "runners", "waiting", "top", "norms", "sums")}
SKIPPED |= {"effects/histogram.py"}

# Known equivalents, (path, the changed line) with the reason; the draw replaces them by the next mutant.
EQUIVALENT = {
    (
        "src/secondlens/lens/upper.py",
        "self.matrix = torch.cat([part.reshape(width, -1) for part in parts]).to(residual)",
    ): "heads times dim is the width in every tower: both shapes hold the same numbers in the same order",
    (
        "src/secondlens/numerics/sparse/screen.py",
        "bar = (threshold.clamp(max=0) * (1 - 2 * level.result)).to(scores.dtype)",
    ): "more candidates are computed in float64 and the same one wins: slower, which is for benchmarks, but not other",
}

# Tests that can fail without a mutant: they would count as caught. (This one mounts and unmounts a file system.)
UNSTEADY = ["tests/test_survey.py::test_a_full_disk_is_one_clear_error"]
