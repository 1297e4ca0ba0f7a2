"""From the bytes of one picture to an upright 8-bit RGB image, or to the reason why there is none.

A picture is either shown to the model as its photographer meant it or refused with a reason; nothing is
guessed. Animations, four-ink colours and more than 8 bits a channel are refused because every conversion to
one RGB frame is a choice that changes the numbers, and it is the user who should make it.
"""

import io
import stat
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from secondlens.errors import ImageError

MAX_PIXELS = 178_956_970 // 2
"""Pictures with more pixels than this are refused from their header (270 MB as RGB)."""

# fmt: off
EXTENSIONS = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".gif", ".bmp",
    ".dib", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".avif",
})
# fmt: on
"""File name extensions of the formats that `decode` reads, in lower case."""

# Only decoders that run inside Pillow: EPS, for one, would start Ghostscript on a stranger's program.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
_EIGHT_BIT_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr"})
_HEAD = 4096
_Stream = io.BytesIO | io.BufferedReader
_TIFF_BITS_PER_SAMPLE = 258


class UnreadableImage(ImageError):
    """A picture that cannot be used; `reason` starts with a slug that does not change ("truncated: ...")."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def decode(data: bytes | Path | Image.Image) -> Image.Image:
    """The picture as a fully loaded, upright `PIL.Image.Image` of mode RGB, independent of any file.

    Grey, palette, 1-bit and transparent pictures become RGB by Pillow's plain `convert("RGB")`, which drops
    the alpha channel, as CLIP's own preprocessing does. Raises `UnreadableImage` for everything else, and no
    other exception, whatever the bytes.
    """
    if isinstance(data, Image.Image):
        with _only_unreadable():
            return _upright_rgb(data, head=b"")
    if isinstance(data, Path):
        with _only_unreadable():
            _check_regular(data)
            with data.open("rb") as stream:
                return _decode_stream(stream)
    if not data:
        raise UnreadableImage("empty file")
    with _only_unreadable(), io.BytesIO(data) as buffer:
        return _decode_stream(buffer)


def read_image(image: str | Path | Image.Image) -> Image.Image:
    """`decode` an image that a person names by its path, or has in memory."""
    return decode(Path(image) if isinstance(image, str) else image)


def thumbnail(image: Image.Image, size: int) -> bytes:
    """JPEG bytes of an RGB image, scaled down (never up) until its longest side is at most `size` pixels."""
    small = image.copy()
    small.thumbnail((size, size))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


@contextmanager
def _only_unreadable() -> Iterator[None]:
    try:
        # Pillow warns about what it repairs or doubts; one reason a picture is what the caller gets instead.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except UnreadableImage:
        raise
    # Decoders meet hostile bytes with any exception there is: SyntaxError, struct.error, OverflowError, ...
    except Exception as error:
        raise UnreadableImage(_reason(error)) from error


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"unreadable: {error.strerror}"
    text = " ".join(str(error).split())[:120] or type(error).__name__
    return f"{'truncated' if 'truncated' in text.lower() else 'damaged'}: {text}"


def _check_regular(path: Path) -> None:
    """Refuse what is no regular file before it is opened: opening a FIFO waits for a writer, for ever."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UnreadableImage("missing file") from error
    if not stat.S_ISREG(status.st_mode):
        kind = "a directory" if stat.S_ISDIR(status.st_mode) else "a pipe, socket or device"
        raise UnreadableImage(f"not a file: {kind}")
    if status.st_size == 0:
        raise UnreadableImage("empty file")


def _decode_stream(stream: _Stream) -> Image.Image:
    head = stream.read(_HEAD)
    try:
        opened = Image.open(stream, formats=_available_formats())
    except Image.DecompressionBombError as error:
        raise UnreadableImage(_too_large(*_declared_size(stream, head))) from error
    except Exception as error:
        raise UnreadableImage(_reason_not_opened(stream, head, error)) from error
    with opened:
        return _upright_rgb(opened, head)


@cache
def _available_formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _declared_size(stream: _Stream, head: bytes) -> tuple[int, int]:
    """Width and height from the header of a picture that `Image.open` gave up because of them."""
    for name in _available_formats():
        factory, accepts = Image.OPEN[name]
        if accepts is None or accepts(head[:16]) is True:
            stream.seek(0)
            return factory(stream, "").size
    raise UnidentifiedImageError


def _reason_not_opened(stream: _Stream, head: bytes, error: Exception) -> str:
    size = None
    if head.startswith(b"\x89PNG\r\n\x1a\n") and len(head) >= 24:
        size = struct.unpack(">II", head[16:24])
    elif head.startswith(b"GIF8") and len(head) >= 10:
        size = struct.unpack("<HH", head[6:10])
    if size is not None and 0 in size:
        return _zero_size(*size)
    if head.startswith(b"RIFF") and len(head) >= 12:
        # libwebp reports a file that stops early as a decoder it could not create.
        expected, came = 8 + int.from_bytes(head[4:8], "little"), stream.seek(0, io.SEEK_END)
        if came < expected:
            return f"truncated: {came} bytes of {expected}"
    if isinstance(error, UnidentifiedImageError):
        return f"not an image: no readable header of {', '.join(_available_formats())}"
    return _reason(error)


def _upright_rgb(image: Image.Image, head: bytes) -> Image.Image:
    width, height = image.size
    if width == 0 or height == 0:
        raise UnreadableImage(_zero_size(width, height))
    if width * height > MAX_PIXELS:
        raise UnreadableImage(_too_large(width, height))
    _check_one_frame(image)
    if image.mode == "CMYK":
        raise UnreadableImage("CMYK: ink colours (CMYK or YCCK), convert the picture to RGB first")
    if image.mode.startswith(("I", "F")) or _has_wide_channels(image, head):
        raise UnreadableImage("16-bit: more than 8 bits a channel, convert the picture to 8 bits first")
    if image.mode not in _EIGHT_BIT_MODES:
        raise UnreadableImage(f"colour space: {image.mode}, convert the picture to RGB first")
    image.load()
    try:
        # Cameras store what the sensor saw and note how they were held: without this, photographs taken with
        # an upright phone lie on their side.
        upright = ImageOps.exif_transpose(image)
    except Exception:
        # A damaged EXIF block says nothing about the pixels, which are whole.
        upright = image.copy()
    return upright if upright.mode == "RGB" else upright.convert("RGB")


def _check_one_frame(image: Image.Image) -> None:
    # The further pictures of an MPO, which is how phones store gain maps and previews, only serve its first.
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if frames > 1:
        raise UnreadableImage(f"several pages: {frames}" if image.format == "TIFF" else f"animated: {frames} frames")


def _has_wide_channels(image: Image.Image, head: bytes) -> bool:
    """Whether the file has more than 8 bits a channel though Pillow's mode has 8: it drops the lower bits."""
    tiles = [tile[3] for tile in getattr(image, "tile", ())]
    match image.format:
        case "PNG":
            return any(";16" in str(arguments) for arguments in tiles)
        case "PPM":
            # ("RGB", largest value) for the decoder that rescales.
            return any(isinstance(a, tuple) and isinstance(a[-1], int) and a[-1] > 255 for a in tiles)
        case "TIFF":
            return max(getattr(image, "tag_v2", {}).get(_TIFF_BITS_PER_SAMPLE, (1,))) > 8
        case "AVIF":
            # AV1CodecConfigurationBox: marker and version, profile and level, tier | high_bitdepth | ...
            box = head.find(b"av1C")
            return box >= 0 and len(head) > box + 6 and bool(head[box + 6] & 0x40)
        case _:
            return False


def _too_large(width: int, height: int) -> str:
    return f"too large: {width} x {height} pixels, at most {MAX_PIXELS}"


def _zero_size(width: int, height: int) -> str:
    return f"zero size: {width} x {height} pixels"
