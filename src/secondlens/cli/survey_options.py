"""What `survey` and `cluster survey` are both asked for, and what follows from it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from secondlens.cli.options import DeviceOption, LayersOption, parse_layers
from secondlens.cli.output import JsonOption

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
