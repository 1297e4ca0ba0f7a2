"""The command line: noun-verb commands; data on stdout, messages on stderr; torch is imported inside commands."""

import sys

import typer

import secondlens
from secondlens.cli import (
    ablate,
    atlas,
    attack,
    audit,
    cluster,
    concepts,
    describe,
    evaluate,
    explain,
    export,
    models,
    neurons,
    pool,
    reproduce,
    run,
    segment,
    study,
    survey,
    view,
    world,
)
from secondlens.cli.arguments import let_atlases_name_their_model
from secondlens.cli.demo.command import demo_command
from secondlens.errors import SecondLensError

app = typer.Typer(
    help="What every neuron of a CLIP-like vision transformer writes to the text-image space.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(models.app, name="models")
app.add_typer(neurons.app, name="neurons")
app.add_typer(atlas.app, name="atlas")
app.add_typer(pool.app, name="pool")
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(audit.app, name="audit")
app.add_typer(attack.app, name="attack")
app.add_typer(study.app, name="study")
app.add_typer(cluster.app, name="cluster")
app.add_typer(world.app, name="world")
app.command(name="demo")(demo_command)
app.command(name="survey")(survey.survey_command)
app.command(name="describe")(describe.describe_command)
app.command(name="ablate")(ablate.ablate_command)
app.command(name="run")(run.run_command)
app.command(name="segment")(segment.segment_command)
app.command(name="export")(export.export_command)
app.command(name="view")(view.view_command)
app.command(name="reproduce")(reproduce.reproduce_command)
app.command(name="concepts")(concepts.concepts_command)
app.command(name="explain")(explain.explain_command)
evaluate.app.command(name="concepts")(concepts.evaluate_command)
let_atlases_name_their_model(app)


@app.callback(invoke_without_command=True)
def root(version: bool = typer.Option(False, "--version", help="Print the version.")) -> None:
    """Root options."""
    if version:
        print(secondlens.__version__)
        raise typer.Exit


def main() -> None:
    """Entry point: a user's mistake is one line and exit code 2, never a traceback."""
    try:
        app()
    except SecondLensError as error:
        # Upstream's messages, quoted in ours, may have many lines.
        print("secondlens:", " ".join(str(error).split()), file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
