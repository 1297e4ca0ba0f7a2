"""A text-to-image pipeline of `diffusers` on this machine."""

from pathlib import Path
from typing import Any

import torch
from PIL import Image

from secondlens.analysis.attack.pictures.base import Made, Order
from secondlens.errors import AuditError, MissingExtra

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
