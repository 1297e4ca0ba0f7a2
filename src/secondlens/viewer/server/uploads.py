"""An uploaded picture, from the request's body to an RGB image: bounded in bytes, type, pixels and time.

The body is the file itself. It is read in pieces into memory and given up as soon as it is too long; it is never
written to disk. The header tells type and size before a pixel is decoded, so that a small file that would unfold to
gigabytes is refused.
"""

import asyncio
import io
import warnings
from dataclasses import dataclass

from PIL import Image
from starlette.requests import Request

from secondlens.data.decode import UnreadableImage, decode

TYPES = {"image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WEBP"}


@dataclass(frozen=True)
class Limits:
    """What an upload may be: bytes of the file, pixels of the picture, and seconds until it has arrived."""

    bytes: int = 20 * 2**20
    pixels: int = 40_000_000
    seconds: float = 30.0


class Refused(Exception):
    """An upload that is not taken; `status` is the HTTP status."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


async def read_body(request: Request, limits: Limits) -> bytes:
    """The body of a request of one of `TYPES`.

    Raises `Refused`: 415 for another type, 413 for a longer one, 408 for a slower one, 400 for none.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind not in TYPES:
        raise Refused(415, f"expected a picture of type {', '.join(TYPES)}, got {kind[:60] or 'none'!r}")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limits.bytes:
        raise Refused(413, _too_long(limits))
    body = bytearray()
    try:
        async with asyncio.timeout(limits.seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limits.bytes:
                    raise Refused(413, _too_long(limits))
    except TimeoutError as error:
        raise Refused(408, f"the picture did not arrive within {limits.seconds:g} seconds") from error
    if not body:
        raise Refused(400, "expected a picture as the request's body, it is empty")
    return bytes(body)


def decode_upload(body: bytes, limits: Limits) -> Image.Image:
    """The upright RGB picture; raises `Refused`, 413 for too many pixels and 400 for what is no readable picture."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(body), formats=tuple(TYPES.values())) as opened:
                width, height = opened.size
    except Image.DecompressionBombError as error:
        raise Refused(413, f"the picture has more than {limits.pixels:,} pixels") from error
    except Exception as error:
        raise Refused(400, "the file is no readable JPEG, PNG or WebP picture") from error
    if width * height > limits.pixels:
        raise Refused(413, f"the picture has {width} x {height} pixels; at most {limits.pixels:,} are taken")
    try:
        return decode(body)
    except UnreadableImage as error:
        raise Refused(400, f"the picture cannot be used: {error.reason}") from error


def _too_long(limits: Limits) -> str:
    return f"the file is larger than {limits.bytes / 2**20:g} MiB"
