"""References: how a person names a model.

hf:ORG/NAME            a Hugging Face repository     hf:/folder or hf:./folder     a local folder
openclip:NAME/TAG      an open_clip checkpoint       openclip:/file?model=NAME     local weights (safetensors)
world:                 the small CLIP of the embedded world, which comes with this project
memory:CLASS           a module in memory (`wrap`): it says what an atlas was surveyed with, and cannot be loaded
"""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs

from secondlens.errors import ModelError, closest
from secondlens.world.embedded import embedded_folder

SCHEMES = ("hf", "openclip", "world")
MEMORY = "memory"


@dataclass(frozen=True)
class ModelReference:
    """A parsed reference: `scheme`, `location` (repository, name or path), `path` where it is local, `options`."""

    text: str
    scheme: str
    location: str
    path: Path | None
    options: dict[str, str]


def parse_reference(text: str) -> ModelReference:
    """Split a reference into its parts; raises `ModelError` with the accepted forms for anything else."""
    scheme, colon, rest = text.partition(":")
    if text == "world:":
        folder = embedded_folder()
        return ModelReference(text, scheme, str(folder), folder, {})
    if not colon or not rest:
        raise ModelError(
            f"expected a model reference such as 'hf:openai/clip-vit-base-patch32' or 'hf:./folder', got {text!r}"
        )
    if scheme == MEMORY:
        raise ModelError(
            f"{text} was a module in memory, which a reference cannot load; "
            "wrap the module again with sl.wrap(module, processor, tokenizer), or save it and load its folder"
        )
    if scheme not in SCHEMES:
        raise ModelError(f"unknown kind of model reference {scheme!r}{closest(scheme, SCHEMES)}")
    location, _, query = rest.partition("?")
    options = {key: values[-1] for key, values in parse_qs(query).items()}
    return ModelReference(text, scheme, location, _local_path(scheme, location), options)


def _local_path(scheme: str, location: str) -> Path | None:
    path = Path(location).expanduser()
    if path.exists():
        return path
    # "ORG/NAME" is a repository; anything that starts like a path was meant as one.
    if location.startswith(("/", "./", "../", "~")) or (scheme == "hf" and location.count("/") != 1):
        raise ModelError(f"no such model folder or file: {path} (from the reference '{scheme}:{location}')")
    return None
