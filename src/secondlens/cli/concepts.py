"""`secondlens concepts` and `secondlens evaluate concepts`: what is in an image, and is that right?"""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from secondlens.cli.options import (
    AtlasArgument,
    BatchSizeOption,
    DeviceOption,
    ModelArgument,
    PoolOption,
    WorkersOption,
)
from secondlens.cli.output import JsonOption, print_json, print_table, running
from secondlens.errors import ImageError

if TYPE_CHECKING:
    from secondlens.analysis.concepts import Concept, ImageConcepts
    from secondlens.descriptions import Descriptions
    from secondlens.lens import LensModel

PercentileOption = Annotated[
    float, typer.Option(help="A neuron is active above this percentile of its norms over the survey.")
]
BEHIND = 3
"""Neurons and heads behind a word that are printed."""


def concepts_command(
    model: ModelArgument,
    atlas: AtlasArgument,
    images: Annotated[
        str, typer.Argument(help="One picture; or a folder, a list or shards to compare with the survey.")
    ],
    pool: PoolOption = None,
    limit: Annotated[int, typer.Option(help="Concepts to print.")] = 20,
    percentile: PercentileOption = 98.0,
    rule: Annotated[str, typer.Option(help="alignment, signed or paper: how neurons score words.")] = "alignment",
    out: Annotated[Path | None, typer.Option(help="One picture: write heat maps of the first concepts here.")] = None,
    first: Annotated[int, typer.Option(help="A set: how many words of an image count as what it shows.")] = 20,
    batch_size: BatchSizeOption = 32,
    workers: WorkersOption = None,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Name what a picture shows, with the neurons, heads and patches behind each word; or what a set shows most."""
    from secondlens.analysis.concepts import ConceptFinder
    from secondlens.analysis.concepts.compare import compare
    from secondlens.analysis.concepts.words import check_rule
    from secondlens.atlas import Atlas
    from secondlens.data.sources import is_one_image, open_source
    from secondlens.descriptions import Descriptions
    from secondlens.lens import load_model
    from secondlens.viewer.plots import check_picture
    from secondlens.viewer.reports.image import draw_concepts

    if min(limit, first, batch_size) < 1:
        raise ImageError("expected --limit, --first and --batch-size of 1 or more")
    check_rule(rule)
    opened = Atlas.open(atlas)
    described = Descriptions.open(opened, pool)
    source = open_source(images)
    one = is_one_image(images)
    if out is not None and not one:
        raise ImageError("--out draws the concepts of one picture; give one, not a set")
    check_picture(out)
    with running(batch_size, workers, device) as run:
        finder = ConceptFinder(
            load_model(model, device=run.device),
            opened,
            described,
            percentile=percentile,
            rule=rule,  # type: ignore[arg-type]
        )
        if one:
            pixels = read_picture(images, finder.model)
            found = finder.find(pixels, limit)
        else:
            compared = compare(finder, source, first=first, running=run)
    facts: dict[str, Any] = {
        "pool": described.name,
        "percentile": percentile,
        "rule": rule,
        "exact_thresholds": finder.exact,
    }
    if one:
        if out is not None:
            draw_concepts(found, finder.model, pixels, out)
            typer.echo(f"wrote {out}", err=True)
        if as_json:
            print_json(facts | {"image": images} | image_facts(found))
        else:
            _print_image(found, described)
        return
    for skipped in compared.skipped:
        typer.echo(f"skipped {source.ids[skipped.position]}: {skipped.reason}", err=True)
    if compared.raised:
        typer.echo(
            f"secondlens: the atlas keeps {opened.manifest.top} images a neuron of {opened.manifest.images.count}, too "
            f"few for percentile {percentile:g}: a neuron counts as active above the smallest of them",
            err=True,
        )
    rows = [{"text": text, **asdict(excess)} for text, excess in compared.concepts[:limit]]
    neurons = [
        {"layer": layer, "neuron": neuron, **asdict(excess)} for layer, neuron, excess in compared.neurons[:limit]
    ]
    if as_json:
        skips = [{"id": source.ids[gap.position], "reason": gap.reason} for gap in compared.skipped]
        print_json(
            facts
            | {"images": compared.images, "first": first, "raised_thresholds": compared.raised, "skipped": skips}
            | {"concepts": rows, "neurons": neurons}
        )
        return
    shares = "images %", "survey %", "p", "q"
    print_table(
        ["concept", *shares],
        [[row["text"], *_shares(row)] for row in rows],
        f"texts among the first {first} of {compared.images} images more often than in the survey\n"
        "(q: p corrected for all texts that occur; of those with q < 0.05 at most 5 % are expected to be chance)",
    )
    print_table(
        ["layer", "neuron", "words", *shares],
        [[row["layer"], row["neuron"], described.words(row["layer"], row["neuron"]), *_shares(row)] for row in neurons],
        "neurons active more often than in the survey",
    )


def evaluate_command(
    model: ModelArgument,
    atlas: AtlasArgument,
    images: Annotated[str, typer.Option(help="Labelled images: a CSV (file; label or name), or class sub-folders.")],
    pool: PoolOption = None,
    synonyms: Annotated[Path | None, typer.Option(help="A CSV (name, synonym) of further right answers.")] = None,
    percentile: PercentileOption = 98.0,
    limit: Annotated[int, typer.Option(help="Images at most.")] = 5000,
    batch_size: BatchSizeOption = 32,
    workers: WorkersOption = None,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Measure how often the label is among the first k concepts, beside texts read off the embedding itself."""
    from secondlens.analysis.concepts import ConceptFinder
    from secondlens.analysis.concepts.evaluate import concept_recall, read_synonyms, summary
    from secondlens.atlas import Atlas
    from secondlens.data.labelled import open_labelled
    from secondlens.descriptions import Descriptions
    from secondlens.descriptions.pools import described_pool
    from secondlens.lens import load_model

    opened = Atlas.open(atlas)
    described = Descriptions.open(opened, pool)
    more = read_synonyms(synonyms) if synonyms is not None else None
    with running(batch_size, workers, device) as run:
        loaded = load_model(model, device=run.device)
        texts = described_pool(loaded, described)
        recall = concept_recall(
            ConceptFinder(loaded, opened, described, texts, percentile=percentile),
            described,
            texts,
            open_labelled(images, loaded),
            synonyms=more,
            limit=limit,
            running=run,
        )
    facts = {"pool": described.name, "percentile": percentile, **summary(recall)}
    if as_json:
        print_json(facts)
        return
    sizes = [row["k"] for row in next(iter(facts["methods"].values()))]
    print_table(
        ["method", *(f"recall@{size} %" for size in sizes)],
        [
            [name, *(f"{100 * row['recall']:.1f} ({100 * row['low']:.1f} to {100 * row['high']:.1f})" for row in rows)]
            for name, rows in facts["methods"].items()
        ],
        f"label among the first k of {described.name}, {facts['images']} images (95 % interval); "
        f"{facts['uncovered']} others have a label that is not in the pool",
    )
    print_table(
        ["method", "against", "k", "difference %", "p"],
        [
            [
                row["method"],
                row["against"],
                row["k"],
                f"{100 * row['difference']:+.1f} ({100 * row['low']:+.1f} to {100 * row['high']:+.1f})",
                row["p_value"],
            ]
            for row in facts["differences"]
        ],
        "paired differences (p: McNemar's exact test)",
    )


def read_picture(image: str, model: "LensModel") -> Any:
    """The pixels of one picture file; raises `ImageError` for anything else."""
    from secondlens.data.decode import decode
    from secondlens.data.sources import is_one_image, open_source

    source = open_source(image)
    if not is_one_image(image):
        raise ImageError(f"expected one picture, got a set of pictures: {image}")
    return model.preprocess([decode(source.read(0))])


def image_facts(found: "ImageConcepts") -> dict[str, Any]:
    """Neurons and concepts as plain data."""
    return {
        "neurons": [asdict(neuron) for neuron in found.neurons],
        "concepts": [concept_facts(concept) for concept in found.concepts],
    }


def concept_facts(concept: "Concept") -> dict[str, Any]:
    """A concept as plain data; neurons and paths in full, as they sum to the score."""
    return {
        "text": concept.text,
        "score": concept.score,
        "neurons": [asdict(term) for term in concept.neurons],
        "paths": [{"readout": path.reader, "head": path.head, "contribution": value} for path, value in concept.paths],
        "tokens": concept.tokens.tolist(),
        "constant": concept.constant,
    }


def _print_image(found: "ImageConcepts", described: "Descriptions") -> None:
    rows = [
        [
            concept.text,
            concept.score,
            ", ".join(f"{term.layer}.{term.neuron} {term.contribution:+.3f}" for term in concept.neurons[:BEHIND]),
            ", ".join(f"{path.reader}.{path.head} {value:+.3f}" for path, value in concept.paths[:BEHIND]),
        ]
        for concept in found.concepts
    ]
    print_table(["concept", "score", "neurons behind it (layer.neuron)", "heads (reader.head)"], rows)
    print_table(
        ["layer", "neuron", "norm", "threshold", "projection", "words"],
        [
            [one.layer, one.neuron, one.norm, one.threshold, one.projection, described.words(one.layer, one.neuron)]
            for one in found.neurons[:10]
        ],
        f"{len(found.neurons)} active neurons; those furthest above their threshold",
    )


def _shares(row: dict[str, Any]) -> list[Any]:
    here, survey = row["count"] / row["images"], row["survey_count"] / row["survey_images"]
    return [f"{100 * here:.1f}", f"{100 * survey:.1f}", row["p_value"], row["q_value"]]
