"""What `survey` and `cluster survey` are both asked for, and what follows from it.

Options that several commands share: a dataclass of them, spread over the parameters of each command.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from secondlens.cli.output import JsonOption
from secondlens.errors import SurveyError

DeviceOption = Annotated[str, typer.Option(help="cpu, cuda or mps.")]
LayersOption = Annotated[str | None, typer.Option(help="e.g. 8,9,10 or 4-10; default: all.")]
OutOption = Annotated[Path, typer.Option(help="The atlas's folder.")]


@dataclass(frozen=True)
class SurveySubject:
    """Which neurons over which images, and where to."""

    model: Annotated[str, typer.Argument(help="A model reference, e.g. hf:openai/clip-vit-base-patch32.")]
    images: Annotated[
        str,
        typer.Argument(help="A folder, a .csv or .txt list, .tar shards, .parquet files, datasets:FOLDER or a URL."),
    ]
    out: OutOption
    layers: LayersOption = None
    top: Annotated[int, typer.Option(help="Top images per neuron.")] = 100

    @property
    def chosen(self) -> list[int] | None:
        """The layers as numbers; None for all."""
        return parse_layers(self.layers)


@dataclass(frozen=True)
class SurveySettings:
    """How it is surveyed, and what is said about it."""

    memory: Annotated[
        str | None, typer.Option(help="Limit, e.g. 6GB; default: three quarters of what is available.")
    ] = None
    convention: Annotated[str, typer.Option(help="centred or released.")] = "centred"
    device: DeviceOption = "cpu"
    dtype: Annotated[str, typer.Option(help="float32, bfloat16, float16 or float64.")] = "float32"
    thumbnails: Annotated[bool, typer.Option(help="Keep small copies of the images in the atlas.")] = True
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would take, and do nothing.")] = False
    machines: Annotated[int, typer.Option(help="With --dry-run: how many machines like this one.")] = 1
    as_json: JsonOption = False

    @property
    def limit(self) -> int | None:
        """The memory in bytes; None for what is available."""
        from secondlens.surveys.plan import parse_memory

        return None if self.memory is None else parse_memory(self.memory)


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
