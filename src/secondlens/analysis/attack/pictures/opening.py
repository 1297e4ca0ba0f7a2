"""From a reference to a text-to-image back end.

world:                 the embedded world's renderer, for prompts in its grammar
diffusers[:NAME]       a pipeline of `diffusers` from the Hub or a folder
openai:MODEL           an OpenAI-compatible images endpoint (OPENAI_BASE_URL, OPENAI_API_KEY)
folder:PATH            pictures that you made
"""

from secondlens.analysis.attack.pictures.base import ImageMaker
from secondlens.errors import AuditError, closest

SCHEMES = ("world", "diffusers", "openai", "folder")


def open_image_maker(
    reference: str, *, steps: int | None = None, size: int | None = None, device: str | None = None
) -> ImageMaker:
    """The image model of a reference. steps, size: of a diffusion pipeline; size also of an endpoint's pictures.

    Raises `AuditError` for another reference or a model that cannot be opened, `LanguageError` for an endpoint without
    a key, `MissingExtra` for a missing library.
    """
    scheme, _, rest = reference.partition(":")
    if scheme == "world":
        from secondlens.analysis.attack.pictures.scenes import SceneMaker

        return SceneMaker()
    if scheme == "diffusers":
        from secondlens.analysis.attack.pictures.diffusion import DEFAULT, DiffusionMaker

        return DiffusionMaker(rest or DEFAULT, steps, size, device)
    if scheme == "openai" and rest:
        from secondlens.analysis.attack.pictures.endpoint import EndpointMaker

        return EndpointMaker(rest, None if size is None else f"{size}x{size}")
    if scheme == "folder" and rest:
        from secondlens.analysis.attack.pictures.folder import FolderMaker

        return FolderMaker(rest)
    raise AuditError(
        "expected an image model such as 'world:', 'diffusers:NAME-or-FOLDER', 'openai:MODEL' or 'folder:PATH', got "
        f"{reference!r}{closest(scheme, SCHEMES)}"
    )
