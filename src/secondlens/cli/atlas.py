"""`secondlens atlas`: the files of an atlas."""

from pathlib import Path
from typing import Annotated

import typer

from secondlens.cli.output import JsonOption, print_json

app = typer.Typer(help="Check the files of an atlas, or merge the parts of a survey.", no_args_is_help=True)


@app.command()
def check(
    atlas: Annotated[Path, typer.Argument(help="An atlas's folder.")],
    as_json: JsonOption = False,
) -> None:
    """Compare every file with its hash and the schema; exit code 1 where something is wrong."""
    from secondlens.atlas import Atlas

    opened = Atlas.open(atlas)
    problems = opened.check()
    if as_json:
        print_json({"sound": not problems, "problems": problems, "files": len(opened.manifest.files)})
    elif problems:
        for problem in problems:
            print(problem)
    else:
        print(f"sound: {len(opened.manifest.files)} files as the survey wrote them")
    if problems:
        raise typer.Exit(1)


@app.command()
def merge(
    parts: Annotated[list[Path], typer.Argument(help="Folders that 'secondlens survey --shard' wrote, in any order.")],
    out: Annotated[Path, typer.Option(help="The atlas's folder; of a second pass, the atlas that it is about.")],
    model: Annotated[str | None, typer.Option(help="Model reference; default: the one that was surveyed.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Merge the parts of a survey into an atlas, exactly."""
    from secondlens.atlas.files import check_folder
    from secondlens.cli.progress import bar, interruptible
    from secondlens.cli.survey import report
    from secondlens.surveys import merge_parts

    check_folder(out)
    with interruptible(), bar() as on_progress:
        atlas = merge_parts(parts, out, model, on_progress)
    report(atlas, {}, as_json)
