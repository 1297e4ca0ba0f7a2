"""Table 3 in the embedded world: pairs by the audit's own matrix, all methods, the audit's recall, and removal.

    python reproduction/attack_table.py MODEL ATLAS OUT --clean LABELS.csv --layers 4 [--pool world] [--pairs 5]

1. The pairs: the most exploitable by `secondlens audit matrix --scoring images --images LABELS.csv`, each class at most
   once on either side, of those whose predicted class has two planted backgrounds, colours or textures (`--least`) that
   the shown one has not: a picture of one thing can have them together. A run makes no picture before they are chosen,
   but this rule was settled after trial runs and against rendered scenes with the planted cues: the first pairs of the
   ranking were looked at. `--skip N` leaves out the first N of the pairs so chosen, `--seed` draws anew: that is a
   confirmation.
2. The attack: every method of the paper and ours, preset `paper`, judged by the scenes themselves.
3. The audit of the pairs against what is planted.
4. Removal of the neurons that carry the first cues, for the pictures of the method `images` that succeeded.

OUT gets table3.md, table3.json and attack/ with the report. It goes on where it was.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from audit_cues import found_cues, summary

from secondlens.analysis.attack import (
    AttackFolder,
    AttackPlan,
    make_settings,
    open_image_maker,
    open_judge,
    run_attack,
)
from secondlens.analysis.attack.sources import open_sources
from secondlens.analysis.audit import Auditor, class_head
from secondlens.analysis.audit.matrix import image_matrix
from secondlens.analysis.audit.similarity import NameSimilarity
from secondlens.analysis.audit.study import class_means, study_removal
from secondlens.atlas import Atlas
from secondlens.cli.options import parse_layers
from secondlens.cli.output import bar
from secondlens.data.language import open_language_model
from secondlens.descriptions import Descriptions
from secondlens.disk.files import write_text
from secondlens.lens import load_model
from secondlens.lens.classifier import WORLD_TEMPLATES
from secondlens.viewer.reports.attack import write_report
from secondlens.viewer.reports.attack_gallery import make_gallery
from secondlens.world import NOUNS, default_biases

METHODS = ("images", "second-order", "effect", "random", "indirect", "similar-words", "none")


def choose_pairs(auditor: Auditor, clean: Path, count: int, least: int, skip: int = 0) -> list[tuple[str, str]]:
    """The most exploitable pairs with `least` planted backgrounds, colours and textures, each class at most once on
    either side.
    """
    names, head = class_head(auditor.model, list(NOUNS), WORLD_TEMPLATES)
    ranked = image_matrix(
        auditor.within, names, head, auditor.similarity, means=class_means(auditor, clean, names)
    ).ranked()
    passed = chosen_of(ranked, skip, least, ())
    return chosen_of(ranked, count, least, passed)


def chosen_of(
    ranked: list[dict[str, Any]], count: int, least: int, without: Sequence[tuple[str, str]]
) -> list[tuple[str, str]]:
    """The first pairs of a ranking that fit, none of `without`."""
    chosen: list[tuple[str, str]] = []
    for row in ranked:
        pair = row["source_class"], row["target_class"]
        used = any(pair[0] == other[0] or pair[1] == other[1] for other in chosen)
        context = [cue for cue in default_biases().planted_cues(*pair) if cue.kind != "companion"]
        if not used and pair not in without and len(context) >= least and len(chosen) < count:
            chosen.append(pair)
    return chosen


def attack(auditor: Auditor, pairs: list[tuple[str, str]], out: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run or go on, and write the report; its summary."""
    settings = make_settings(
        options.preset, layers=parse_layers(options.layers), repeats=options.repeats, seed=options.seed
    )
    folder = AttackFolder(out)
    wanted = [auditor.pair(*pair) for pair in pairs]
    plan = AttackPlan(wanted, METHODS, settings, list(NOUNS), WORLD_TEMPLATES)
    judge = open_judge("exact", auditor.model, list(NOUNS), WORLD_TEMPLATES)
    maker = open_image_maker("world:")
    with bar() as advance:
        sources = open_sources(
            auditor.model, auditor.atlas, auditor.descriptions, METHODS, settings, similarity="name",
            templates=WORLD_TEMPLATES, classes=list(NOUNS), indirect="compute", folder=folder, progress=advance,
        )  # fmt: skip
        rows = run_attack(folder, plan, sources, open_language_model(options.llm), maker, [judge], advance,
                          {"atlas": str(auditor.atlas.folder.resolve())})  # fmt: skip
        layers = list(settings.layers or auditor.atlas.layers)
        exhibits = make_gallery(folder, rows, auditor.model, wanted, layers, maker.name)
        return write_report(folder, rows, plan.cells(), settings.pictures, exhibits, judge.name)


def markdown(found: dict[str, Any]) -> str:
    """The tables of RESULTS.md."""
    lines = [f"{found['seconds']:.0f} s in all; {len(found['pairs'])} pairs, settings {found['settings']}", ""]
    for kind, title in (("binary", "of the two classes"), ("among_all", "among all 32 classes")):
        summary_of = found["attack"][kind]
        rates = {(row["source_class"], row["target_class"], row["method"]): row for row in summary_of["pairs"]}
        lines += [f"Pictures of 100 taken for the predicted class, {title} (mean +- std of the repeats):", ""]
        lines += ["| shown -> predicted | " + " | ".join(METHODS) + " |", "| --- " * (1 + len(METHODS)) + "|"]
        for shown, predicted in found["pairs"]:
            cells = [rates[shown, predicted, method] for method in METHODS]
            lines.append(f"| {shown} -> {predicted} | " + " | ".join(map(_rate, cells)) + " |")
        everything = [row for method in METHODS for row in summary_of["methods"] if row["method"] == method]
        lines.append("| all (95 % interval) | " + " | ".join(map(_interval, everything)) + " |")
        lines += [
            "",
            "| method | baseline | difference, points | ratio (95 %) | p, cells | p, pairs |",
            "| --- " * 6 + "|",
        ]
        for row in summary_of["tests"]:
            ratio = "" if row["ratio"] is None else f"{row['ratio']:.1f}"
            low, high = (_number(row[name]) for name in ("ratio_low", "ratio_high"))
            lines.append(
                f"| {row['method']} | {row['baseline']} | {100 * row['difference']:+.1f} | {ratio} ({low} to {high}) | "
                f"{row['p_cells']:.4f} | {row['p_pairs']:.4f} |"
            )
        lines.append("")
    lines += ["The audit's first ten cues of these pairs, against what is planted:", ""]
    lines += ["| shown -> predicted | planted (found) | recall | precision | first cues |", "| --- " * 5 + "|"]
    for row in found["audit"]:
        planted = ", ".join(f"{name} ({'yes' if seen else 'no'})" for name, seen in row["planted"].items())
        cues = "; ".join(cue["text"] for cue in row["cues"][:5])
        lines.append(f"| {row['source_class']} -> {row['target_class']} | {planted} | {row['recall']:.2f} | "
                     f"{row['precision']:.2f} | {cues} |")  # fmt: skip
    lines += [
        "",
        "Removal of the neurons that carry the first three cues; clean accuracy / success of pictures, %:",
        "",
    ]
    sizes = [row["neurons"] for row in max((one["curve"] for one in found["removal"]), key=len)]
    lines += ["| shown -> predicted | pictures | " + " | ".join(map(str, sizes)) + " | best at 2 points | projection |",
              "| --- " * (4 + len(sizes)) + "|"]  # fmt: skip
    for one in found["removal"]:
        cells = [_removed(row) for row in one["curve"]] + [""] * (len(sizes) - len(one["curve"]))
        lines.append(f"| {one['source_class']} -> {one['target_class']} | {one['adversarial_images']} | "
                     + " | ".join(cells) + f" | {one['best']['neurons']} neurons: {_removed(one['best'])} | "
                     f"{_removed(one['projection'])} |")  # fmt: skip
    return "\n".join(lines) + "\n"


def _rate(row: dict[str, Any]) -> str:
    return f"{100 * row['success']:.1f}" + (f" +- {100 * row['std']:.1f}" if row["std"] is not None else "")


def _interval(row: dict[str, Any]) -> str:
    interval = "" if row["low"] is None else f" ({100 * row['low']:.1f} to {100 * row['high']:.1f})"
    return f"{100 * row['success']:.1f}{interval}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _removed(row: dict[str, Any]) -> str:
    success = "-" if row["adversarial_success"] is None else f"{100 * row['adversarial_success']:.0f}"
    return f"{100 * row['clean_accuracy']:.1f} / {success}"


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "atlas", "out"):
        parser.add_argument(name)
    parser.add_argument("--clean", type=Path, required=True)
    parser.add_argument("--layers", default=None)
    parser.add_argument("--pool", default="world")
    parser.add_argument("--llm", default="world:")
    parser.add_argument("--preset", default="paper")
    parser.add_argument("--repeats", type=int, default=None)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--least", type=int, default=2)
    parser.add_argument("--skip", type=int, default=0)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    start, out = time.monotonic(), Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    model, atlas = load_model(options.model), Atlas.open(options.atlas)
    described = Descriptions.open(atlas, options.pool)
    auditor = Auditor(model, atlas, described, NameSimilarity(), WORLD_TEMPLATES, "images", list(NOUNS),
                      parse_layers(options.layers))  # fmt: skip
    pairs = choose_pairs(auditor, options.clean, options.pairs, options.least, options.skip)
    made = attack(auditor, pairs, out / "attack", options)
    took = time.monotonic() - start
    print(f"attack done after {took:.0f} s", file=sys.stderr)
    audits = [found_cues(auditor, *pair, draws=500) for pair in pairs]
    with bar() as advance:
        removal = [
            study_removal(auditor, auditor.pair(*pair), options.clean, out / "attack", methods=["images"], limit=1000,
                          progress=advance)
            for pair in pairs
        ]  # fmt: skip
    found = {
        "seconds": took,
        "settings": {
            name: value
            for name, value in vars(options).items()
            if name in ("preset", "layers", "llm", "pool", "least", "skip", "seed")
        },
        "pairs": pairs,
        "attack": {kind: made[kind] for kind in ("binary", "among_all")},
        "audit": audits,
        "audit_summary": summary(audits),
        "removal": removal,
    }
    write_text(out / "table3.json", json.dumps(found, indent=2))
    write_text(out / "table3.md", markdown(found))
    print(markdown(found))


if __name__ == "__main__":
    main()
