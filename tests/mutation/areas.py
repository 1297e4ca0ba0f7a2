"""What is mutated, and which tests run for it."""

from typing import NamedTuple


class Area(NamedTuple):
    """Source files (globs below the package), their share of the draw, quick tests and those that survivors see."""

    weight: int
    source: tuple[str, ...]
    quick: list[str]
    wide: list[str]


EFFECTS = ["tests/lens/test_golden.py", "tests/lens/test_effects.py", "tests/lens"]
MAPS = [f"tests/analysis/test_{name}.py" for name in ("neuron_maps", "baselines", "segment", "devices")]
CONCEPTS = ["tests/analysis/test_concepts.py", "tests/analysis/test_concept_sets.py"]
STUDIES = [f"tests/studies/test_{name}.py" for name in ("ablator", "indirect_directions", "ablation", "agreement")]

AREAS = {
    "lens": Area(
        16,
        ("lens/*.py",),
        [*EFFECTS, "tests/lens/test_intervention.py", "tests/analysis/test_attribution.py"],
        [
            "tests/numerics",
            "tests/surveys/test_survey.py",
            *STUDIES,
            "tests/studies",
            "tests/analysis",
            "tests/surveys/cluster",
        ],
    ),
    "numerics": Area(
        15,
        ("numerics/*.py",),
        ["tests/numerics", "tests/lens/test_golden.py", "tests/surveys/test_survey.py"],
        ["tests/surveys", "tests/studies"],
    ),
    "sparse": Area(
        10, ("numerics/sparse/*.py",), ["tests/numerics"], ["tests/descriptions", "tests/studies", "tests/analysis"]
    ),
    "descriptions": Area(
        8,
        ("descriptions/*.py",),
        ["tests/descriptions/test_null.py", "tests/descriptions/test_senses.py", "tests/descriptions/test_describe.py"],
        [*CONCEPTS, "tests/studies", "tests/viewer", "tests/surveys/cluster", "tests/world", "tests/cli/test_cli.py"],
    ),
    "heat maps": Area(
        9,
        ("analysis/heatmaps/*.py",),
        [*MAPS, "tests/analysis/test_segmentation_evaluate.py"],
        ["tests/analysis", "tests/viewer", "tests/analysis/attack", "tests/cli/test_cli.py"],
    ),
    "audit": Area(
        8,
        ("analysis/audit/*.py",),
        ["tests/analysis/audit"],
        ["tests/viewer/test_audits.py", "tests/analysis/attack", "tests/viewer", "tests/world"],
    ),
    "studies": Area(
        4,
        ("numerics/intervals.py",),
        ["tests/analysis/test_segmentation_metrics.py", *STUDIES],
        [
            "tests/analysis/audit",
            "tests/analysis/attack/test_results.py",
            "tests/analysis",
            "tests/viewer",
            "tests/world",
        ],
    ),
    "concepts": Area(5, ("analysis/concepts/*.py",), CONCEPTS, ["tests/viewer", "tests/analysis", "tests/world"]),
}

# Tests that run first, by a part of the path.
DIRECT = {
    "atlas/metrics": ["tests/atlas/test_metrics.py"],
    "disk/resumable": ["tests/disk/test_resumable.py"],
    "disk/lock": ["tests/disk/test_one_writer.py"],
    "lens/sources": ["tests/analysis/test_attribution.py"],
    "lens/indirect": ["tests/lens/test_indirect.py"],
    "lens/upper": ["tests/lens/test_indirect.py"],
    "lens/first_order": ["tests/lens/test_effects.py", "tests/lens/test_first_order_patches.py"],
    "lens/paths": ["tests/lens/test_conventions.py", "tests/lens/test_effects.py"],
    "lens/second_order": ["tests/lens/test_effects.py"],
    "numerics/rank_one": ["tests/lens/test_rank_one.py"],
    "lens/layer": ["tests/lens/test_golden.py", "tests/lens/test_top_fraction.py"],
    "descriptions/senses": ["tests/descriptions/test_senses.py"],
    "descriptions/null": ["tests/descriptions/test_null.py"],
    "descriptions/describe": ["tests/descriptions/test_of_each_neuron.py", "tests/descriptions/test_describe.py"],
    "descriptions/store": ["tests/descriptions/test_of_each_neuron.py", "tests/descriptions/test_describe.py"],
    "descriptions/dissect": ["tests/descriptions/test_dissect.py"],
    "heatmaps/writes": ["tests/analysis/test_writes_of_other_texts.py"],
    "heatmaps/fit": ["tests/analysis/test_fit_limits.py", "tests/analysis/test_segment.py"],
    "heatmaps/postprocess": ["tests/analysis/test_fit_limits.py", "tests/analysis/test_segment.py"],
    "heatmaps/re": ["tests/analysis/test_baselines.py"],
    "heatmaps/relevance": ["tests/analysis/test_baselines.py"],
    "heatmaps/grad": ["tests/analysis/test_baselines.py"],
    "heatmaps/attention": ["tests/analysis/test_baselines.py"],
    "audit/matrix": ["tests/analysis/audit/test_cues_named.py"],
    "audit/similarity": ["tests/analysis/audit/test_cues_named.py"],
    "concepts/find": ["tests/analysis/test_concept_lists.py"],
    "audit/images": ["tests/analysis/audit/test_cues_named.py", "tests/analysis/audit/test_images.py"],
    "audit/carrying": ["tests/analysis/audit/test_cues_named.py", "tests/analysis/audit/test_carrying.py"],
    "audit/removal": ["tests/analysis/audit/test_defence.py"],
    "audit/study": ["tests/analysis/audit/test_defence.py"],
    "numerics/intervals": ["tests/studies/test_paired.py", "tests/studies/test_ablation.py"],
}

# Names of functions and local variables that set how fast or how large, never what; and what only words or draws.
EXEMPT = {"block", "step", "piece", "block_size", "setup_block_size", "map_blocks", "statistics_bytes", "_fastest"}
EXEMPT |= {"__repr__", "draw_matrix", "listed"}

# Files whose mutants say nothing: none at present.
SKIPPED: set[str] = set()

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
UNSTEADY = ["tests/surveys/test_survey.py::test_a_full_disk_is_one_clear_error"]
