"""`secondlens demo`: the whole story in the embedded world."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from secondlens.cli.output import JsonOption, interruptible, print_json

if TYPE_CHECKING:
    from secondlens.cli.demo.run import DemoRun
    from secondlens.cli.demo.settings import Done, Step


def demo_command(
    out: Annotated[Path, typer.Option(help="The folder of the demo; the same command goes on where it was.")] = Path(
        "secondlens-demo"
    ),
    model: Annotated[str, typer.Option(help="A model of the embedded world.")] = "world:",
    scenes: Annotated[int, typer.Option(help="Scenes that the neurons are surveyed over.")] = 2000,
    quick: Annotated[bool, typer.Option(help="Few scenes: to see that everything runs.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show everything in the embedded world: survey, words, studies, applications, and a report with pictures."""
    from secondlens.cli.app import app
    from secondlens.cli.demo.run import run_demo
    from secondlens.cli.demo.settings import DemoSettings
    from secondlens.data.loader import one_thread
    from secondlens.disk.lock import one_writer

    settings = DemoSettings(model, out, min(scenes, 200) if quick else scenes, quick)
    # The model is too small to gain from threads, and where others use the machine threads wait for each other: on two
    # busy cores the demo took 370 s with two and 85 s with one.
    with interruptible(), one_writer(out), one_thread():
        found = run_demo(app, settings, None if as_json else _before, None if as_json else _after)
    if as_json:
        print_json(_facts(found, out))
        return
    typer.echo(f"\nDone in {found.seconds:.0f} s. Report: {found.report}")
    if (out / "site").is_dir():
        typer.echo(f"Browse every neuron: secondlens view {out / 'site'}")


def _before(number: int, step: "Step") -> None:
    from rich.console import Console

    Console().rule(f"{number + 1}. {step.title}", align="left")


def _after(done: "Done") -> None:
    from rich.console import Console
    from rich.text import Text

    from secondlens.cli.output import print_table
    from secondlens.viewer.document import cell_text

    console = Console()
    for sentence in done.told.says:
        console.print(Text(sentence))
    for table in done.told.tables:
        print_table(table.columns, [[cell_text(value) for value in row] for row in table.rows], table.title)
    if done.told.look:
        console.print(Text("Look at " + done.told.look, style="bold"))
    for picture, caption in done.told.pictures:
        console.print(Text(f"picture: {picture} ({caption})", style="dim"))
    console.print(Text(f"{done.seconds:.1f} s", style="dim"))


def _facts(found: "DemoRun", out: Path) -> dict[str, object]:
    return {
        "folder": str(out),
        "seconds": found.seconds,
        "report": str(found.report),
        "steps": [
            {
                "title": done.step.title,
                "says": list(done.told.says),
                "tables": [vars(table) for table in done.told.tables],
                "images": [str(path) for path, _ in done.told.pictures],
                "commands": done.commands,
                "seconds": done.seconds,
            }
            for done in found.done
        ],
    }
