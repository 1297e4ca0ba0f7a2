"""Bytes to an upright 8-bit RGB image, or a reason why not."""

import io
import stat
import struct
import warnings
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from secondlens.errors import ImageError

# Raster formats only; above all no EPS, which runs a program.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pnm", ".avif")

# Pillow warns at this size and raises at twice of it; we refuse from the header, before anything is decoded.
MAX_PIXELS = 89_478_485

EIGHT_BIT_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr", "LAB", "HSV")


class UnreadableImage(ImageError):
    """An image that is skipped; `reason` starts with a fixed word and says what is the matter."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def decode(data: bytes | Path | Image.Image) -> Image.Image:
    """An image as the model shall see it: decoded in full, upright, RGB.

    Grey, palette and transparent images are converted as upstream's preprocessing converts them. What cannot be
    converted without a guess is refused: animations, CMYK, more than 8 bits a channel.

    Raises `UnreadableImage` for those and for whatever is truncated, empty, too large or no image.
    """
    if isinstance(data, Image.Image):
        return _convert(data)
    if isinstance(data, Path):
        data = _read(data)
    if not data:
        raise UnreadableImage("empty file: no bytes")
    try:
        with warnings.catch_warnings():
            # Our own limit, checked in _convert, is the lower one: the warning would say the same.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                return _convert(image)
    except UnreadableImage:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImage("not an image: no known format") from error
    except Image.DecompressionBombError as error:
        raise UnreadableImage(f"too large: more than {MAX_PIXELS} pixels") from error
    except (OSError, EOFError, IndexError, struct.error) as error:
        text = str(error)
        kind = "truncated" if "truncat" in text or "EOF" in text or isinstance(error, EOFError | struct.error) else "damaged"
        raise UnreadableImage(f"{kind}: {text or type(error).__name__}") from error
    except Exception as error:
        # Decoders raise all sorts of things on hostile bytes; each means that this image cannot be read.
        raise UnreadableImage(f"damaged: {type(error).__name__}: {error}") from error


def thumbnail(image: Image.Image, size: int) -> bytes:
    """JPEG bytes of an RGB image, its longer side at most `size` pixels."""
    small = image.copy()
    small.thumbnail((size, size), Image.Resampling.BILINEAR, reducing_gap=2.0)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def _read(path: Path) -> bytes:
    try:
        # A FIFO named x.jpg would block forever.
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnreadableImage("not a file: a folder or a special file")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise UnreadableImage("missing file: it is gone") from error
    except OSError as error:
        raise UnreadableImage(f"unreadable file: {error.strerror}") from error


def _convert(image: Image.Image) -> Image.Image:
    width, height = image.size
    if width < 1 or height < 1:
        raise UnreadableImage(f"zero size: {width} x {height} pixels")
    if width * height > MAX_PIXELS:
        raise UnreadableImage(f"too large: {width} x {height} pixels, at most {MAX_PIXELS} are decoded")
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise UnreadableImage(f"animated: {frames} frames")
    if image.mode in ("CMYK", "YCCK"):
        raise UnreadableImage("CMYK: a print colour space, which needs a colour profile to convert")
    if image.mode not in EIGHT_BIT_MODES or _deep(image):
        raise UnreadableImage(f"16-bit: more than 8 bits a channel (mode {image.mode})")
    image.load()
    # Photographs from phones lie on their side until their EXIF orientation is applied.
    return ImageOps.exif_transpose(image).convert("RGB")


def _deep(image: Image.Image) -> bool:
    """Whether the file has 16 bits a channel although Pillow gives 8: the raw mode of its tiles says so."""
    for tile in getattr(image, "tile", None) or ():
        args = tile.args if isinstance(tile.args, tuple) else (tile.args,)
        if args and isinstance(args[0], str) and ";16" in args[0]:
            return True
    return False
