"""`secondlens view`: the viewer, served to this machine's browser."""

from typing import Annotated

import typer


def view_command(atlas: Annotated[str, typer.Argument(help="An atlas's folder.")]) -> None:
    """Serve it."""
