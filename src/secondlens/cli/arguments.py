"""Arguments that commands share: an atlas that stands for its model, and a neuron's address."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

from secondlens.errors import AtlasError

MANIFEST = "atlas.json"


class AtlasCommand(TyperCommand):
    """A command with the arguments MODEL ATLAS, of which MODEL may be left out: the atlas says which it is."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments, with the atlas's model before an atlas that comes first."""
        place = self._first_argument(args)
        if place is not None and (Path(args[place]) / MANIFEST).is_file():
            from secondlens.atlas import Atlas

            args = [*args[:place], Atlas.open(args[place]).manifest.model.reference, *args[place:]]
        return super().parse_args(ctx, args)

    def _first_argument(self, args: Sequence[str]) -> int | None:
        """Return the place of the first argument that is neither an option nor an option's value."""
        flags = {
            name
            for option in self.params
            if getattr(option, "is_flag", False) or getattr(option, "count", False)
            for name in (*option.opts, *option.secondary_opts)
        } | {"--help"}
        place = 0
        while place < len(args):
            if args[place] == "--":
                return place + 1 if place + 1 < len(args) else None
            if not args[place].startswith("-"):
                return place
            place += 1 if args[place] in flags or "=" in args[place] else 2
        return None


def let_atlases_name_their_model(app: typer.Typer) -> None:
    """Make an `AtlasCommand` of every command of an app whose first arguments are `model` and `atlas`."""
    for command in app.registered_commands:
        if command.callback and list(inspect.signature(command.callback).parameters)[:2] == ["model", "atlas"]:
            command.cls = AtlasCommand
    for group in app.registered_groups:
        if group.typer_instance is not None:
            let_atlases_name_their_model(group.typer_instance)


def neuron_address(layer: str, neuron: Any) -> tuple[int, int]:
    """Return layer and neuron of "9/2914", or of "9" and 2914.

    Raises `AtlasError` for anything else.
    """
    parts = layer.split("/") if neuron is None else [layer, str(neuron)]
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        written = layer if neuron is None else f"{layer} {neuron}"
        raise AtlasError(f"expected a neuron as LAYER/NEURON such as 9/2914, got {written!r}")
    return int(parts[0]), int(parts[1])
