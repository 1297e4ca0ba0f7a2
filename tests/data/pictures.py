"""Pictures, and the files that Pillow does not write by itself, made by hand for the tests."""

import io
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def noise(width: int = 40, height: int = 30, seed: int = 0) -> Image.Image:
    """An RGB image that no codec can shorten to nothing."""
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG with this header, and `rows` (filter bytes included) as its pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff(width: int, height: int, channels: int, bits: int, *, planar: bool = False) -> bytes:
    """An uncompressed little-endian RGB (or grey) TIFF of zeros."""
    size = width * height * channels * bits // 8
    strips = channels if planar else 1
    extra = 8 + 2 + 12 * 10 + 4
    long_values = struct.pack(f"<{channels}H", *[bits] * channels) if channels > 2 else b""
    offsets_at = extra + len(long_values)
    pixels_at = offsets_at + (8 * strips if strips > 1 else 0)
    starts = [pixels_at + number * size // strips for number in range(strips)]
    entries = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, channels, extra if channels > 2 else bits),
        (259, 3, 1, 1),
        (262, 3, 1, 2 if channels == 3 else 1),
        (273, 4, strips, offsets_at if strips > 1 else starts[0]),
        (277, 3, 1, channels),
        (278, 4, 1, height),
        (279, 4, strips, offsets_at + 4 * strips if strips > 1 else size),
        (284, 3, 1, 2 if planar else 1),
    ]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    tail = struct.pack(f"<{strips}I", *starts) + struct.pack(f"<{strips}I", *[size // strips] * strips)
    return (
        b"II*\x00"
        + struct.pack("<I", 8)
        + directory
        + bytes(4)
        + long_values
        + (tail if strips > 1 else b"")
        + bytes(size)
    )


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path
