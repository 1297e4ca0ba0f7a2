"""Text-to-image models: one protocol, several back ends.

world:                 the embedded world's renderer, for prompts in its grammar
diffusers[:NAME]       a pipeline of `diffusers` from the Hub or a folder
openai:MODEL           an OpenAI-compatible images endpoint (OPENAI_BASE_URL, OPENAI_API_KEY)
folder:PATH            pictures that you made
"""

import base64
import binascii
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import secondlens
from secondlens.data.decode import EXTENSIONS, UnreadableImage, decode
from secondlens.data.language.endpoint import RETRIES, TIMEOUT, EndpointClient, RefusedRequest
from secondlens.disk.files import write_whole
from secondlens.errors import AuditError, ImageError, LanguageError, MissingExtra, closest
from secondlens.world import render, scene_from_text

# IPTC's word for pictures made by a model: what viewers and archives look for.
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
DRAWN_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/algorithmicMedia"
NOTICE = "Synthetic image, generated to audit a vision model for spurious cues; not a photograph"


@dataclass(frozen=True)
class Order:
    """One picture to be made. name: of its file, without ending. seed: the same gives the same picture, where the
    back end obeys it.
    """

    prompt: str
    seed: int
    name: str


@dataclass(frozen=True)
class Made:
    """A picture, and what its maker knows of it (JSON-able; e.g. the scene it shows)."""

    image: Image.Image
    metadata: dict[str, Any] = field(default_factory=dict)


@runtime_checkable
class ImageMaker(Protocol):
    """A text-to-image model. settings: what changes its pictures; keys never belong there. drawn: whether a program
    draws the pictures, rather than a trained model.
    """

    name: str
    settings: dict[str, object]
    drawn: bool

    def make(self, order: Order) -> Made:
        """The picture of an order; raises a `SecondLensError` where there is none."""
        ...


def save_marked(made: Made, path: Path, order: Order, maker: str, drawn: bool = False) -> None:
    """Write a PNG, atomically, whose metadata say that it is synthetic, what made it and of which prompt."""
    info = PngInfo()
    info.add_text("Software", f"secondlens {secondlens.__version__}")
    info.add_itxt("Comment", NOTICE)
    info.add_itxt("Description", order.prompt)
    info.add_text("Source", f"{maker}, seed {order.seed}")
    info.add_itxt("secondlens", json.dumps({"synthetic": True, "maker": maker, "seed": order.seed,
                                            "prompt": order.prompt}, ensure_ascii=False))  # fmt: skip
    info.add_itxt("XML:com.adobe.xmp", _xmp(DRAWN_TYPE if drawn else SOURCE_TYPE))
    write_whole(path, lambda temporary: made.image.save(temporary, "PNG", pnginfo=info))


def _xmp(kind: str) -> str:
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
        f'Iptc4xmpExt:DigitalSourceType="{kind}"/></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
    )


DEFAULT = "stable-diffusion-v1-5/stable-diffusion-v1-5"
"""Needs no account and no accepted licence to be fetched."""


class DiffusionMaker:
    """A pipeline from a folder or the Hugging Face Hub, from safetensors only."""

    drawn = False

    def __init__(
        self,
        location: str = DEFAULT,
        steps: int | None = None,
        size: int | None = None,
        device: str | None = None,
    ) -> None:
        """Load it. steps: of denoising; size: of both sides in pixels; default: the pipeline's own.

        Raises `MissingExtra` without `diffusers`, `AuditError` where there is no such pipeline.
        """
        try:
            import diffusers
        except ImportError as error:
            raise MissingExtra("diffusers", "diffusers", f"the image model diffusers:{location}") from error
        folder = Path(location).expanduser()
        if not folder.is_dir() and (location.startswith(("/", "./", "../", "~")) or location.count("/") > 1):
            raise AuditError(f"no such folder of a pipeline: {folder} (from the reference 'diffusers:{location}')")
        self.name = f"diffusers:{location}"
        self.settings: dict[str, object] = {"steps": steps, "size": size}
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        options: dict[str, Any] = {"torch_dtype": torch.float16} if self._device.startswith("cuda") else {}
        try:
            loaded: Any = diffusers.DiffusionPipeline.from_pretrained(
                str(folder) if folder.is_dir() else location, use_safetensors=True, **options
            )
        except Exception as error:  # whatever the Hub, the files or a pipeline's own code raise
            raise AuditError(f"cannot load the image model {self.name}: {error}") from error
        loaded.set_progress_bar_config(disable=True)
        self._pipeline: Any = loaded.to(self._device)

    def make(self, order: Order) -> Made:
        """The picture of an order; the same for the same seed on the same machine.

        Raises `AuditError` where the pipeline fails or gives no picture. One that its safety checker blacked out is
        marked in the facts.
        """
        options = {
            name: value
            for name, value in (("num_inference_steps", self.settings["steps"]), ("height", self.settings["size"]),
                                ("width", self.settings["size"]))
            if value is not None
        }  # fmt: skip
        # On the CPU: the same noise whatever the device.
        generator = torch.Generator().manual_seed(order.seed)
        try:
            with torch.inference_mode():
                found: Any = self._pipeline(prompt=order.prompt, generator=generator, **options)
        except Exception as error:
            raise AuditError(f"{self.name} failed on the prompt {order.prompt[:80]!r}: {error}") from error
        images = getattr(found, "images", None)
        if not images or not isinstance(images[0], Image.Image):
            raise AuditError(f"{self.name} is no text-to-image pipeline: it gave no picture; choose another")
        flagged = getattr(found, "nsfw_content_detected", None)
        facts = {"refused": "blacked out by the safety checker"} if flagged and flagged[0] else {}
        return Made(images[0].convert("RGB"), facts)


TRIES = 3
"""Times a picture is asked for when the answer holds none that can be read."""


class EndpointMaker:
    """An image model of an endpoint. size: e.g. "512x512"; default: the endpoint's own."""

    drawn = False

    def __init__(self, model: str, size: str | None = None, timeout: float = TIMEOUT, retries: int = RETRIES) -> None:
        """Read where the endpoint is; nothing is sent yet. Raises as `EndpointClient` does."""
        self._endpoint = EndpointClient(model, "image model", timeout, retries)
        self.name = self._endpoint.name
        self.settings: dict[str, object] = {"size": size}
        self._options: dict[str, Any] = {"response_format": "b64_json"}
        if size is not None:
            self._options["size"] = size

    def make(self, order: Order) -> Made:
        """The picture of an order. Endpoints take no seed: the same order may give another picture.

        A prompt that the endpoint refuses gives a grey picture, marked as refused. Raises `LanguageError` where the
        endpoint cannot be asked or sends no picture in `TRIES` answers.
        """
        said = ""
        for _ in range(TRIES):
            try:
                answer = self._ask(order.prompt)
            except RefusedRequest as error:
                if "content_policy" in error.said or "safety" in error.said or "moderation" in error.said:
                    return refused(error.said)
                raise
            data = getattr(answer, "data", None)
            encoded = getattr(data[0], "b64_json", None) if data else None
            if not encoded:
                said = "no picture in it"
                continue
            try:
                return Made(decode(base64.b64decode(encoded, validate=True)))
            except (binascii.Error, ImageError) as error:
                said = str(error)
        raise LanguageError(
            self._endpoint.plain(f"{self._endpoint.url} sent no picture in {TRIES} answers ({said}); is {self.name} an "
                                 "image model that answers in base64?")
        )  # fmt: skip

    def _ask(self, prompt: str) -> Any:
        try:
            return self._endpoint.call(
                lambda client: client.images.generate(model=self._endpoint.model, prompt=prompt, n=1, **self._options)
            )
        except RefusedRequest as error:
            # Newer models always answer in base64 and refuse to be asked to.
            if "response_format" not in self._options or "response_format" not in error.said:
                raise
            del self._options["response_format"]
        return self._ask(prompt)


def refused(said: str) -> Made:
    """What stands for a picture that a model would not make."""
    return Made(Image.new("RGB", (64, 64), "grey"), {"refused": said[:200]})


class FolderMaker:
    """The picture of an order is FOLDER/NAME with any picture's ending."""

    drawn = False

    def __init__(self, location: str) -> None:
        """Raises `AuditError` where there is no such folder."""
        self._folder = Path(location).expanduser()
        if not self._folder.is_dir():
            raise AuditError(f"no such folder of pictures: {self._folder}")
        self.name = f"folder:{location}"
        self.settings: dict[str, object] = {}

    def make(self, order: Order) -> Made:
        """The user's picture; raises `AuditError` where it is missing or cannot be read."""
        for ending in sorted(EXTENSIONS):
            path = self._folder / f"{order.name}{ending}"
            if path.is_file():
                try:
                    return Made(decode(path))
                except UnreadableImage as error:
                    raise AuditError(f"cannot read {path}: {error.reason}; make it again") from error
        raise AuditError(
            f"no picture {order.name}.png in {self._folder}; prompts.csv in the attack's folder lists every file and "
            "its prompt: make those that are missing and run the same command again"
        )


class SceneMaker:
    """Draws what a caption of the grammar names; what it leaves open is drawn without biases. size: in pixels."""

    drawn = True

    def __init__(self, size: int = 64) -> None:
        self.name = "world:"
        self.settings: dict[str, object] = {"size": size}
        self._size = size

    def make(self, order: Order) -> Made:
        """The picture of an order; its scene is among the facts. Raises `WorldError` where nothing can be drawn."""
        scene = scene_from_text(order.prompt, np.random.default_rng(order.seed))
        return Made(Image.fromarray(render(scene, self._size).image), {"scene": json.loads(scene.to_json())})


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
        return SceneMaker()
    if scheme == "diffusers":
        return DiffusionMaker(rest or DEFAULT, steps, size, device)
    if scheme == "openai" and rest:
        return EndpointMaker(rest, None if size is None else f"{size}x{size}")
    if scheme == "folder" and rest:
        return FolderMaker(rest)
    raise AuditError(
        "expected an image model such as 'world:', 'diffusers:NAME-or-FOLDER', 'openai:MODEL' or 'folder:PATH', got "
        f"{reference!r}{closest(scheme, SCHEMES)}"
    )
