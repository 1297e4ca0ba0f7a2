"""`secondlens audit`: spurious cues of pairs of classes.

`secondlens audit MODEL ATLAS ...` audits one pair; the other words are commands of their own.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from secondlens.cli.output import JsonOption, print_facts, print_json, print_table
from secondlens.cli.progress import bar, warnings_to_stderr

if TYPE_CHECKING:
    from collections.abc import Sequence

    from secondlens.atlas import Atlas
    from secondlens.descriptions import Descriptions
    from secondlens.models import LensModel

DEFAULT = "pair"


class _PairByDefault(TyperGroup):
    """Arguments that name no command are those of `pair`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(cls=_PairByDefault, help="Find what pushes a model from one class to another.", no_args_is_help=True)

ModelArgument = Annotated[str, typer.Argument(help="The model of the atlas.")]
AtlasArgument = Annotated[Path, typer.Argument(help="An atlas's folder, described.")]
PoolOption = Annotated[str | None, typer.Option(help="Which description to read; default: the latest.")]
LayersOption = Annotated[str | None, typer.Option(help="e.g. 8,9,10; default: all that are described.")]
ScoringOption = Annotated[
    str,
    typer.Option(
        help="paper: words of neurons along the difference; effect: times how strongly each acts; images: what the "
        "survey's images show (needs classes)."
    ),
]
ClassesOption = Annotated[
    Path | None, typer.Option(help="Names of all classes, one a line; default: a classifier's own labels.")
]
SimilarityOption = Annotated[str, typer.Option(help="auto, sentence[:FOLDER], tower or name.")]
SynonymOption = Annotated[float, typer.Option(help="Phrases at least this similar to the class are left out.")]
TemplateOption = Annotated[list[str] | None, typer.Option(help="Prompt with {} for the class; may be repeated.")]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda or mps.")]


@app.command(name=DEFAULT)
def pair_command(
    model: ModelArgument,
    atlas: AtlasArgument,
    shown: Annotated[str, typer.Option(help="The class that images contain.")],
    predicted: Annotated[str, typer.Option(help="The class they are to be taken for.")],
    pool: PoolOption = None,
    layers: LayersOption = None,
    scoring: ScoringOption = "paper",
    classes: ClassesOption = None,
    neurons: Annotated[int, typer.Option(help="Neurons that write most along the difference.")] = 100,
    cues: Annotated[int, typer.Option(help="Cues to report.")] = 25,
    similarity: SimilarityOption = "auto",
    synonym: SynonymOption = 0.6,
    template: TemplateOption = None,
    draws: Annotated[int, typer.Option(help="Draws of random neurons for the p-values.")] = 2000,
    seed: Annotated[int, typer.Option(help="Of the random neurons.")] = 0,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Find the cues of one pair (also without the word `pair`): what makes the shown class look like the predicted."""
    from secondlens.applications.audit import audit_by_images, audit_pair, class_head, class_pair
    from secondlens.applications.audit.images import within_classes
    from secondlens.applications.audit.pool import described_pool
    from secondlens.errors import AuditError

    opened, loaded, described = open_described(model, atlas, pool, device)
    templates = templates_of(template, loaded)
    with warnings_to_stderr(), bar():
        options: dict[str, Any] = {
            "pool": described.name, "neurons": neurons, "cues": cues, "synonym": synonym, "draws": draws, "seed": seed,
            "atlas": opened, "descriptions": described,
        }  # fmt: skip
        wanted = class_pair(loaded, shown, predicted, templates)
        table = _table(opened, described, layers)
        measure = _similarity(similarity, loaded, described, templates)
        if scoring == "images":
            known = classes_of(classes, loaded)
            if known is None:
                raise AuditError("scoring by images needs the names of all classes; give them with --classes FILE")
            names, head = class_head(loaded, known, templates)
            within = within_classes(opened, described_pool(loaded, described), names, head)
            found = audit_by_images(within, table, wanted, measure, **options)
        else:
            found = audit_pair(table, wanted, measure, scoring=scoring, **options)  # type: ignore[arg-type]
    if as_json:
        print_json(found.facts())
        return
    print_facts(
        {
            "shown": found.shown,
            "predicted": found.predicted,
            "phrases of": f"{len(found.chosen)} neurons, {found.scoring} scoring, over {found.pool}",
            "synonyms left out": ", ".join(found.synonyms) or "none",
            "similarity by": found.similarity,
        }
    )
    rows = [
        [
            cue.text,
            cue.score,
            cue.p_value,
            cue.p_family,
            cue.neurons,
            "; ".join(f"{seen.layer}.{seen.neuron} ({', '.join(seen.sense[:4])})" for seen in cue.evidence[:2]),
        ]
        for cue in found.cues
    ]
    print_table(["cue", "score", "p", "p, all phrases", "neurons", "strongest neurons (and their words)"], rows,
                f"what else pushes from {found.shown!r} to {found.predicted!r}")  # fmt: skip


def open_described(model: str, atlas: Path, pool: str | None, device: str) -> "tuple[Atlas, LensModel, Descriptions]":
    """An atlas, its model and its description; refuses another model."""
    from secondlens.atlas import Atlas
    from secondlens.descriptions import Descriptions
    from secondlens.models import load_model

    opened = Atlas.open(atlas)
    described = Descriptions.open(opened, pool)
    loaded = load_model(model, device=device)
    opened.require_model(loaded)
    return opened, loaded, described


def templates_of(template: "Sequence[str] | None", model: "LensModel") -> tuple[str, ...]:
    """The templates that were asked for, or those that fit the model."""
    from secondlens.applications.audit.classes import default_templates
    from secondlens.errors import AuditError

    wrong = [text for text in template or () if text.count("{}") != 1]
    if wrong:
        raise AuditError(f"expected templates with one {{}} where the class goes, got {wrong[0]!r}")
    return tuple(template) if template else default_templates(model)


def classes_of(file: Path | None, model: "LensModel") -> list[str] | None:
    """The classes of a file, a classifier's own, the embedded world's things; None where nothing is known."""
    from secondlens.applications.audit.classes import WORLD_TEMPLATES, default_templates
    from secondlens.pools.texts import read_texts
    from secondlens.world import NOUNS

    if file is not None:
        return read_texts(file)
    if model.classifier is not None:
        return list(model.classifier.labels)
    return list(NOUNS) if default_templates(model) == WORLD_TEMPLATES else None


def _table(atlas: "Atlas", described: "Descriptions", layers: str | None) -> Any:
    from secondlens.applications.audit import neuron_table
    from secondlens.cli.survey import parse_layers

    return neuron_table(atlas, described, parse_layers(layers))


def _similarity(reference: str, model: "LensModel", described: "Descriptions", templates: tuple[str, ...]) -> Any:
    from secondlens.applications.audit import open_similarity

    return open_similarity(reference, model, described, templates)
