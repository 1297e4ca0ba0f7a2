"""Heat maps against the exact masks of the embedded world: tuned on scenes of their own, reported on held-back ones.

    python reproduction/world_segmentation.py OUT [MODEL]

1. Draw unbiased scenes, with one thing and with two, to tune on (seeds 1000 and 1001) and held back (seeds 0 and 7);
   survey 2,000 biased ones (seed 500). The target is the name of the thing whose mask it is.
2. Tune our traced methods: layers, the rule for neurons, the mixing. One setting for both kinds of scenes: that whose
   smallest lead over the best baseline, in mIoU and mAP on both, is largest.
3. All methods on the held-back scenes, ours also as tuned; `rollout` with our mixing beside them, which is no published
   method but tells what the mixing alone does. Intervals, and paired differences from the tuned method.

Written to OUT: tuning.csv, alone/ and two/ (reports), table.md. A run that was killed goes on there.
"""

import csv
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from secondlens.analysis.heatmaps import METHODS, HeatMapMethod, Options, make_methods
from secondlens.analysis.heatmaps.attention import Rollout
from secondlens.analysis.segmentation.evaluate import Evaluation, Plan, evaluate_segmentation
from secondlens.analysis.segmentation.metrics import metrics
from secondlens.analysis.segmentation.summary import summary
from secondlens.analysis.segmentation.targets import make_targets
from secondlens.atlas import Atlas
from secondlens.data.masks import read_pairs
from secondlens.lens import LensModel, load_model
from secondlens.surveys.run import survey
from secondlens.viewer.reports.segmentation import make_panels, write_report
from secondlens.world import scene_at, write_dataset

KINDS = {"alone": (1, 1000, 0), "two": (2, 1001, 7)}
"""Things in a scene, and the seeds of the scenes to tune on and of those held back."""
TUNE, HELD = {"alone": 300, "two": 200}, {"alone": 500, "two": 300}
"""Scenes; one with two things is looked at twice."""
FIGURES = ("miou", "map")
RULES: tuple[dict[str, Any], ...] = (
    {"rule": "all"},
    *({"rule": "share", "share": share} for share in (0.3, 0.5, 0.8)),
    *({"rule": rule, "neurons": count} for rule in ("paper", "signed") for count in (50, 100, 200)),
)
PLAN = Plan(batch_size=50)


def scenes(folder: Path, count: int, seed: int, objects: int | None, kind: str) -> Path:
    """A folder of scenes, drawn if it is not there."""
    if not folder.exists():
        drawn = [scene_at(seed, index, objects=objects, kind=kind) for index in range(count)]
        write_dataset(folder, drawn)
    return folder


def settings(model: LensModel) -> Iterator[Options]:
    """What is tried."""
    usable = tuple(model.tower.lens_layers)
    for layers in (usable[-1:], usable[-2:], usable):
        for mixing in ("norms", "attention", "block"):
            for rule in RULES:
                yield Options(layers=layers, mixing=mixing, **rule)


def named(options: Options) -> str:
    """A setting in words."""
    which = {"all": "all", "share": f"share {options.share}"}.get(
        str(options.rule), f"{options.rule} {options.neurons}"
    )
    layers = ",".join(map(str, options.layers or ()))
    return f"layers {layers}; {which}; {options.mixing}"


def traced(model: LensModel, atlas: Atlas, options: Options, name: str) -> HeatMapMethod:
    """Our traced method with a setting, under a name of its own."""
    return replace(make_methods(model, ["traced-contribution"], atlas, options)[0], name=name)  # type: ignore[type-var]


def evaluate(
    model: LensModel, atlas: Atlas, folder: Path, methods: list[HeatMapMethod], out: Path
) -> tuple[Evaluation, dict[str, dict[str, float]]]:
    """Scores of methods on the scenes of a folder, and their metrics."""
    images = read_pairs(folder / "pairs.csv")
    targets = make_targets(model, images, "name")
    done = evaluate_segmentation(model, images, methods, targets, PLAN, out, atlas)
    return done, {name: metrics(scores) for name, scores in done.scores.items()}


def tune(model: LensModel, atlas: Atlas, out: Path) -> Options:
    """The setting with the largest smallest lead."""
    tried = {named(options): options for options in settings(model)}
    ours = [traced(model, atlas, options, name) for name, options in tried.items()]
    baselines = make_methods(model, [name for name, entry in METHODS.items() if not entry.ours])
    leads: dict[str, dict[str, float]] = {name: {} for name in tried}
    for kind, (objects, seed, _) in KINDS.items():
        folder = scenes(out / f"tune-{kind}", TUNE[kind], seed, objects, "unbiased")
        _, found = evaluate(model, atlas, folder, [*baselines, *ours], out / f"tuning-{kind}")
        for figure in FIGURES:
            best = max(found[method.name][figure] for method in baselines)
            for name in tried:
                leads[name][f"{kind} {figure}"] = 100 * (found[name][figure] - best)
    ordered = sorted(tried, key=lambda name: -min(leads[name].values()))
    with (out / "tuning.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["setting", *(f"lead in {figure}" for figure in leads[ordered[0]])])
        writer.writerows([name, *(round(lead, 2) for lead in leads[name].values())] for name in ordered)
    return tried[ordered[0]]


def report(model: LensModel, atlas: Atlas, chosen: Options, out: Path) -> str:
    """All methods on held-back scenes, as Markdown."""
    tuned = traced(model, atlas, chosen, "traced-contribution, tuned")
    beside = Rollout(len(model.tower.attentions), "block", "rollout, mixing block")
    methods = [tuned, *make_methods(model, atlas=atlas), beside]
    tables = {}
    for kind, (objects, _, seed) in KINDS.items():
        folder = scenes(out / f"held-{kind}", HELD[kind], seed, objects, "unbiased")
        done, _ = evaluate(model, atlas, folder, methods, out / kind)
        tables[kind] = summary(done, tuned.name)
        images = read_pairs(folder / "pairs.csv")
        panels = make_panels(model, images, methods, make_targets(model, images, "name"), done, PLAN, 6)
        write_report(tables[kind], panels, out / kind)
    lines = [
        f"Tuned: {named(chosen)}.",
        "",
        "| method | " + " | ".join(tables) + " |",
        "| --- |" + " --- |" * len(tables),
    ]
    order = sorted(methods, key=lambda method: -sum(tables[kind]["methods"][method.name]["miou"] for kind in tables))
    for method in order:
        cells = [cell(tables[kind]["methods"][method.name]) for kind in tables]
        lines.append(f"| {method.name} | " + " | ".join(cells) + " |")
    lines += ["", "Tuned minus another method, in points (95 % interval; Holm's p):", ""]
    for kind, found in tables.items():
        for row in found["compared"]:
            if row["figure"] in FIGURES:
                lines.append(
                    f"- {kind}, {row['figure']}, {row['other']}: {100 * row['difference']:+.1f} "
                    f"({100 * row['low']:+.1f} to {100 * row['high']:+.1f}), p = {row['p_holm']:.4f}"
                )
    return "\n".join(lines) + "\n"


def cell(values: dict[str, float]) -> str:
    """Pixel accuracy / mIoU / mAP with the intervals of the last two."""
    spans = [
        f"{100 * values[key]:.1f} ({100 * values[f'{key}_low']:.1f} to {100 * values[f'{key}_high']:.1f})"
        for key in FIGURES
    ]
    return " / ".join([f"{100 * values['pixel_accuracy']:.1f}", *spans])


def main(out: Path, reference: str) -> None:
    """All three steps."""
    out.mkdir(parents=True, exist_ok=True)
    model = load_model(reference)
    folder = scenes(out / "survey", 2000, 500, None, "biased")
    atlas = survey(model, folder / "images", out=out / "atlas", layers=list(model.tower.lens_layers), top=100)
    chosen = tune(model, atlas, out)
    print(json.dumps({"tuned": named(chosen)}))
    table = report(model, atlas, chosen, out)
    (out / "table.md").write_text(table)
    print(table)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "world:")
