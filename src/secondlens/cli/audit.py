"""`secondlens audit`: spurious cues of pairs of classes.

`secondlens audit MODEL ATLAS ...` audits one pair; the other words are commands of their own.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from secondlens.cli.auditor import make_auditor, split_pair
from secondlens.cli.options import AtlasArgument, DeviceOption, ModelArgument, PoolOption
from secondlens.cli.output import (
    JsonOption,
    print_facts,
    print_json,
    print_table,
    running,
    warnings_to_stderr,
)

if TYPE_CHECKING:
    from secondlens.analysis.audit import Auditor
    from secondlens.analysis.audit.folder import Kind

DEFAULT = "pair"


class _PairByDefault(TyperGroup):
    """Arguments that name no command are those of `pair`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(cls=_PairByDefault, help="Find what pushes a model from one class to another.", no_args_is_help=True)

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
OutOption = Annotated[Path | None, typer.Option(help="Write all of it to this .json, for the viewer's review page.")]


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
    seed: Annotated[int, typer.Option(help="Random seed of the neurons drawn for comparison.")] = 0,
    device: DeviceOption = "cpu",
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the cues of one pair (also without the word `pair`): what makes the shown class look like the predicted."""
    _prepare(out)
    auditor = make_auditor(model, atlas, pool, layers, scoring, classes, similarity, template, device)
    wanted = auditor.pair(shown, predicted)
    with warnings_to_stderr():
        found = auditor.audit(wanted, neurons=neurons, cues=cues, synonym=synonym, draws=draws, seed=seed)
    facts = _kept("pair", auditor, found.facts(), out)
    if as_json:
        print_json(facts)
        return
    print_facts(
        {
            "shown": found.source_class,
            "predicted": found.target_class,
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
                f"what else pushes from {found.source_class!r} to {found.target_class!r}")  # fmt: skip


@app.command()
def matrix(
    model: ModelArgument,
    atlas: AtlasArgument,
    out: Annotated[Path, typer.Option(help="Where the pairs go: a .csv, .parquet or, for the viewer, .json.")],
    classes: ClassesOption = None,
    picture: Annotated[Path | None, typer.Option(help="A PNG of the strongest pairs.")] = None,
    images: Annotated[
        Path | None, typer.Option(help="Labelled images for the margins of scoring images; default: the survey's.")
    ] = None,
    limit: Annotated[int, typer.Option(help="Pairs to print.")] = 20,
    pool: PoolOption = None,
    layers: LayersOption = None,
    scoring: ScoringOption = "paper",
    similarity: SimilarityOption = "auto",
    synonym: SynonymOption = 0.6,
    template: TemplateOption = None,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Audit all pairs of a set of classes: which can be exploited most, and by which cues."""
    from secondlens.analysis.audit import class_head
    from secondlens.analysis.audit.matrix import audit_matrix, image_matrix
    from secondlens.analysis.audit.study import class_means
    from secondlens.disk.files import check_file
    from secondlens.errors import AuditError
    from secondlens.viewer.plots import check_picture
    from secondlens.viewer.reports.matrix import TABLES, draw_matrix, write_matrix

    check_file(out, *TABLES, ".json")
    check_picture(picture)
    auditor = make_auditor(model, atlas, pool, layers, scoring, classes, similarity, template, device)
    with running(device=device) as run:
        if auditor.classes is None:
            raise AuditError("expected the names of the classes; give them with --classes FILE")
        names, head = class_head(auditor.model, auditor.classes, auditor.templates)
        if scoring == "images":
            means = None if images is None else class_means(auditor, images, names, run)
            found = image_matrix(
                auditor.within, names, head, auditor.similarity, means=means, synonym=synonym, progress=run.progress
            )
        else:
            found = audit_matrix(
                auditor.table,
                names,
                head,
                auditor.similarity,
                scoring=scoring,  # type: ignore[arg-type]
                synonym=synonym,
                progress=run.progress,
            )
        if out.suffix.lower() == ".json":
            _kept("matrix", auditor, found.facts(), out)
            if picture is not None:
                draw_matrix(found, picture)
        else:
            write_matrix(found, out, picture)
    pairs = found.ranked(limit)
    if as_json:
        print_json({"pairs": pairs, "file": str(out), "figure": None if picture is None else str(picture)})
        return
    print_table(
        ["shown", "predicted", "exploitability", "cues"],
        [
            [
                pair["source_class"],
                pair["target_class"],
                pair["exploitability"],
                "; ".join(cue["text"] for cue in pair["cues"]),
            ]
            for pair in pairs
        ],
        "the pairs that cues push most",
    )


@app.command()
def folder(
    model: ModelArgument,
    atlas: AtlasArgument,
    images: Annotated[Path, typer.Argument(help="Labelled images: a CSV (file; label or name), or class sub-folders.")],
    pair: Annotated[
        list[str] | None, typer.Option(help="SHOWN:PREDICTED; may be repeated; default: the most frequent errors.")
    ] = None,
    captions: Annotated[
        Path | None, typer.Option(help="CSV with file and caption: what is in the images; default: the model says.")
    ] = None,
    pairs: Annotated[int, typer.Option(help="Most frequent errors to look at.")] = 10,
    cues: Annotated[int, typer.Option(help="Cues a pair.")] = 10,
    classes: ClassesOption = None,
    pool: PoolOption = None,
    layers: LayersOption = None,
    scoring: ScoringOption = "paper",
    similarity: SimilarityOption = "auto",
    template: TemplateOption = None,
    device: DeviceOption = "cpu",
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask of your own labelled images which errors are explained by which cues."""
    from secondlens.analysis.audit.study import study_folder

    _prepare(out)
    auditor = make_auditor(model, atlas, pool, layers, scoring, classes, similarity, template, device)
    with running(device=device) as run:
        wanted = None if pair is None else [split_pair(text) for text in pair]
        found = study_folder(auditor, images, wanted, captions, pairs=pairs, cues=cues, running=run)
        found = _kept("folder", auditor, found, out)
    if as_json:
        print_json(found)
        return
    print_facts({"images": found["images"], "accuracy": found["accuracy"], "cues seen by": found["presence"]})
    columns = ("source_class", "target_class", "cue", "errors_with", "images_with", "errors_without", "images_without",
               "difference", "p_value", "q_value")  # fmt: skip
    print_table(
        [name.replace("_", " ") for name in columns],
        [[row[name] for name in columns] for row in found["explained"][:40]],
        "errors with and without a cue, by significance",
    )


@app.command()
def removal(
    model: ModelArgument,
    atlas: AtlasArgument,
    shown: Annotated[str, typer.Option(help="The class that images contain.")],
    predicted: Annotated[str, typer.Option(help="The class they are taken for.")],
    images: Annotated[Path, typer.Option(help="Clean labelled images: a CSV (file; label or name), or sub-folders.")],
    attack: Annotated[Path | None, typer.Option(help="An attack's folder: its successes are measured again.")] = None,
    method: Annotated[list[str] | None, typer.Option(help="Only the attack's pictures of this method.")] = None,
    cue: Annotated[list[str] | None, typer.Option(help="Cues to remove; default: the audit's first ones.")] = None,
    cues: Annotated[int, typer.Option(help="How many of the audit's cues, where none are given.")] = 3,
    sizes: Annotated[str, typer.Option(help="Numbers of neurons to remove.")] = "0,1,2,5,10,20,50,100,200,300",
    spare: Annotated[
        float, typer.Option(help="Leave neurons that carry less of the cues than this times what they tell of classes.")
    ] = 0.3,
    cost: Annotated[float, typer.Option(help="Clean accuracy that may be lost, as a share.")] = 0.02,
    classes: ClassesOption = None,
    pool: PoolOption = None,
    layers: LayersOption = None,
    scoring: ScoringOption = "paper",
    similarity: SimilarityOption = "auto",
    template: TemplateOption = None,
    limit: Annotated[int, typer.Option(help="Clean images at most.")] = 2000,
    device: DeviceOption = "cpu",
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hold the neurons that carry a cue at their mean: what it costs on clean images, what it saves on adversarial."""
    from secondlens.analysis.audit.study import study_removal

    _prepare(out)
    auditor = make_auditor(model, atlas, pool, layers, scoring, classes, similarity, template, device)
    with running(device=device) as run:
        numbers = _numbers(sizes)
        found = study_removal(
            auditor, auditor.pair(shown, predicted), images, attack, cue, cues=cues, sizes=numbers, cost=cost,
            spare=spare, limit=limit, methods=method, running=run,
        )  # fmt: skip
        found = _kept("removal", auditor, found, out)
    if as_json:
        print_json(found)
        return
    print_facts({"cues": ", ".join(found["cues"]), "clean images": found["clean_images"],
                 "adversarial images": found["adversarial_images"]})  # fmt: skip
    names = ("clean_accuracy", "adversarial_success")
    print_table(
        ["neurons at their mean", "clean accuracy", "adversarial success"],
        [[row["neurons"], row["clean_accuracy"], row["adversarial_success"]] for row in found["curve"]]
        + [["(the embedding's part in the cues)", *(found["projection"][name] for name in names)]],
        f"removal of what pushes from {found['source_class']!r} to {found['target_class']!r}",
    )


def _prepare(out: Path | None) -> None:
    from secondlens.disk.files import check_file

    if out is not None:
        check_file(out, ".json")


def _kept(kind: "Kind", auditor: "Auditor", facts: dict[str, Any], out: Path | None) -> dict[str, Any]:
    """The facts with what they are of, written where that was asked for."""
    from secondlens.analysis.audit.folder import audit_facts, write_audit

    marked = audit_facts(kind, auditor.atlas, facts)
    if out is not None:
        write_audit(out, marked)
        typer.echo(f"wrote {out}", err=True)
    return marked


def _numbers(text: str) -> list[int]:
    from secondlens.errors import AuditError

    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() for part in parts):
        raise AuditError(f"expected numbers of neurons such as 0,5,20, got {text!r}")
    return [int(part) for part in parts]
