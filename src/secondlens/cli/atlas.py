"""`secondlens atlas`: the files of an atlas."""

from pathlib import Path
from typing import Annotated

import typer

from secondlens.cli.output import JsonOption, print_json

app = typer.Typer(help="Check the files of an atlas.", no_args_is_help=True)


@app.callback()
def nouns() -> None:
    """Keep `check` a sub-command although it is the only one."""


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
