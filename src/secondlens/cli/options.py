"""Options that several commands share, and commands whose parameters are dataclasses of them."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from secondlens.errors import SurveyError

ModelArgument = Annotated[str, typer.Argument(help="The model of the atlas; may be left out.")]
AtlasArgument = Annotated[Path, typer.Argument(help="An atlas's folder.")]
PoolOption = Annotated[str | None, typer.Option(help="Which description to use; default: the latest.")]
DeviceOption = Annotated[str, typer.Option(help="Device of the model: cpu, cuda or mps.")]
LabelledOption = Annotated[
    str, typer.Option(help="Labelled images: a CSV (file; label or name), or class sub-folders.")
]
BatchSizeOption = Annotated[int, typer.Option(help="Images per forward pass.")]
WorkersOption = Annotated[int | None, typer.Option(min=0, help="Processes that decode images; default: up to four.")]
LayersOption = Annotated[str | None, typer.Option(help="e.g. 8,9,10 or 4-10; default: all.")]


def parse_layers(text: str | None) -> list[int] | None:
    """ "8,9,10", "4-10" or both; None for all layers."""
    if text is None or text == "all":
        return None
    layers: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise SurveyError(f"expected layers such as 8,9,10 or 4-10 or all, got {text!r}")
        layers += range(int(first), int(last or first) + 1)
    return layers


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """The command as typer is to see it: each parameter that is a dataclass gives way to the dataclass's fields.

    A field is an option as a parameter would be, `Annotated[..., typer.Option(...)]` with its default, so that both
    stand once for all commands that share them. The options keep the order of the parameters and of the fields.

    Raises `TypeError` where two of them have the same name.
    """
    groups: dict[str, Any] = {}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        if is_dataclass(parameter.annotation):
            groups[parameter.name] = parameter.annotation
            parameters += _options(parameter.annotation)
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
    names = [parameter.name for parameter in parameters]
    if twice := {name for name in names if names.count(name) > 1}:
        raise TypeError(f"{command.__name__} has the options {sorted(twice)} more than once")

    @functools.wraps(command)
    def gathered(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in fields(group)})
        command(**given)

    # Typer reads both.
    gathered.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    gathered.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return gathered


def _options(group: Any) -> list[inspect.Parameter]:
    types = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=types[field.name],
        )
        for field in fields(group)
    ]
