"""An image model behind an OpenAI-compatible endpoint (`/images/generations`)."""

import base64
import binascii
from typing import Any

from secondlens.analysis.attack.pictures.base import Made, Order
from secondlens.data.decode import decode
from secondlens.data.language.endpoint import RETRIES, TIMEOUT, EndpointClient, RefusedRequest
from secondlens.errors import ImageError, LanguageError

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
    from PIL import Image

    return Made(Image.new("RGB", (64, 64), "grey"), {"refused": said[:200]})
