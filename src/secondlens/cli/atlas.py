"""`secondlens atlas`: the files of an atlas."""

from pathlib import Path
from typing import Annotated

import typer

from secondlens.cli.output import JsonOption, print_json, running

app = typer.Typer(help="Check or upgrade the files of an atlas, or merge the parts of a survey.", no_args_is_help=True)


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
    from secondlens.cli.survey import report
    from secondlens.disk.files import check_folder
    from secondlens.surveys.merge import merge_parts

    check_folder(out)
    with running() as run:
        atlas = merge_parts(parts, out, model, run.progress)
    report(atlas, {}, as_json)


@app.command()
def upgrade(
    atlas: Annotated[Path, typer.Argument(help="An atlas's folder.")],
    as_json: JsonOption = False,
) -> None:
    """Bring an atlas of an older schema and its descriptions to the present one, in place and without the model."""
    from secondlens.atlas.manifest import SCHEMA_VERSION
    from secondlens.atlas.upgrade import upgrade_atlas
    from secondlens.cli.output import print_facts
    from secondlens.descriptions.upgrade import upgrade_descriptions
    from secondlens.disk.files import check_folder
    from secondlens.disk.lock import one_writer

    check_folder(atlas)
    with one_writer(atlas if atlas.is_dir() else None), running() as run:
        # The atlas last: until then it says that it is of the older schema.
        descriptions = upgrade_descriptions(atlas, run.progress)
        files = upgrade_atlas(atlas, run.progress)
    if as_json:
        print_json(
            {"atlas": str(atlas), "schema_version": SCHEMA_VERSION, "files": files, "descriptions": descriptions}
        )
    elif files or descriptions:
        print_facts({"upgraded": f"to schema version {SCHEMA_VERSION}", "files": len(files),
                     "descriptions": ", ".join(descriptions) or "none"})  # fmt: skip
    else:
        print(f"{atlas} has schema version {SCHEMA_VERSION} already")
