import io
import os
import struct
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import encoded, noise, png, tiff
from PIL import Image, ImageFile

from secondlens.data import MAX_PIXELS, UnreadableImage, decode, thumbnail
from secondlens.errors import ImageError

PHOTOS = Path(__file__).resolve().parents[2] / "../shared/photos"


def frames(count: int = 3) -> list[Image.Image]:
    return [noise(seed=number) for number in range(count)]


def animated(form: str) -> bytes:
    first, *rest = frames()
    return encoded(first, form, save_all=True, append_images=rest)


WIDE_RGB = png(4, 3, 16, 2, (b"\0" + bytes(4 * 6)) * 3)
GREY_16 = encoded(Image.new("I;16", (4, 3)), "PNG")
HIGH_DEPTH_AVIF = bytearray(encoded(noise(), "AVIF"))
HIGH_DEPTH_AVIF[HIGH_DEPTH_AVIF.index(b"av1C") + 6] |= 0x40
DEPTHS = HIGH_DEPTH_AVIF.index(b"pixi") + 9
HIGH_DEPTH_AVIF[DEPTHS : DEPTHS + 3] = bytes([10, 10, 10])

REFUSED = {
    "empty": (b"", "empty file"),
    "text": (b"this is no picture at all", "not an image: "),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image: "),
    "truncated jpeg": (encoded(noise(), "JPEG")[:-200], "truncated: "),
    "truncated png": (encoded(noise(), "PNG")[:-400], "truncated: "),
    "truncated gif": (encoded(noise(), "GIF")[:-200], "truncated: "),
    "truncated webp": (encoded(noise(), "WEBP")[:-9], "truncated: "),
    "truncated bmp": (encoded(noise(), "BMP")[:-9], "truncated: "),
    "truncated tiff": (encoded(noise(), "TIFF", compression="raw")[:-2000], "truncated: "),
    "animated gif": (animated("GIF"), "animated: 3 frames"),
    "animated webp": (animated("WEBP"), "animated: 3 frames"),
    "animated png": (animated("PNG"), "animated: 3 frames"),
    "animated avif": (animated("AVIF"), "animated: 3 frames"),
    "pages": (animated("TIFF"), "several pages: 3"),
    "cmyk": (encoded(noise().convert("CMYK"), "JPEG"), "CMYK: "),
    "cmyk tiff": (encoded(noise().convert("CMYK"), "TIFF"), "CMYK: "),
    "lab": (encoded(Image.new("LAB", (4, 3)), "TIFF"), "colour space: LAB"),
    "grey png 16": (GREY_16, "16-bit: "),
    "rgb png 16": (WIDE_RGB, "16-bit: "),
    "rgba png 16": (png(4, 3, 16, 6, (b"\0" + bytes(4 * 8)) * 3), "16-bit: "),
    "la png 16": (png(4, 3, 16, 4, (b"\0" + bytes(4 * 4)) * 3), "16-bit: "),
    "grey tiff 16": (tiff(4, 3, 1, 16), "16-bit: "),
    "rgb tiff 16": (tiff(4, 3, 3, 16), "16-bit: "),
    "planar tiff 16": (tiff(4, 3, 3, 16, planar=True), "16-bit: "),
    "float tiff": (encoded(Image.new("F", (4, 3)), "TIFF"), "16-bit: "),
    "ppm 16": (b"P6 2 1 65535\n" + bytes(12), "16-bit: "),
    "pgm 16": (b"P5 2 1 65535\n" + bytes(4), "16-bit: "),
    "avif 10": (bytes(HIGH_DEPTH_AVIF), "16-bit: "),
    "bomb": (png(20000, 20000, 8, 2, b""), f"too large: 20000 x 20000 pixels, at most {MAX_PIXELS}"),
    "big": (png(10000, 9000, 8, 2, b""), f"too large: 10000 x 9000 pixels, at most {MAX_PIXELS}"),
    "bmp bomb": (
        b"BM" + struct.pack("<IHHIIIIHHIIIIII", 54, 0, 0, 54, 40, 30000, 30000, 1, 24, 0, 0, 0, 0, 0, 0),
        f"too large: 30000 x 30000 pixels, at most {MAX_PIXELS}",
    ),
    "png without width": (png(0, 5, 8, 2, b""), "zero size: 0 x 5 pixels"),
    "gif without height": (b"GIF89a" + struct.pack("<HH", 7, 0) + bytes(9), "zero size: 7 x 0 pixels"),
    "broken header": (b"\x89PNG\r\n\x1a\n" + b"\1" * 30, "not an image: no readable header"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("error")
def test_refused_with_a_reason(name: str, tmp_path: Path) -> None:
    data, reason = REFUSED[name]
    file = tmp_path / "picture.jpg"
    file.write_bytes(data)
    for given_as in (data, file):
        with pytest.raises(UnreadableImage) as caught:
            decode(given_as)
        assert caught.value.reason.startswith(reason)
        assert str(caught.value) == caught.value.reason
        assert "\n" not in caught.value.reason


@pytest.mark.filterwarnings("error")
def test_a_stricter_or_absent_limit_of_pillow_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(UnreadableImage, match="too large: 20000 x 20000 pixels"):
        decode(png(20000, 20000, 8, 2, b""))
    assert Image.MAX_IMAGE_PIXELS is None
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


def test_unreadable_is_an_image_error() -> None:
    assert issubclass(UnreadableImage, ImageError)


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "file").write_bytes(b"x")
    reasons = {}

    def collect() -> None:
        for name in ("folder.jpg", "pipe.jpg", "link.jpg", "gone.jpg", "file/inside.jpg"):
            try:
                decode(tmp_path / name)
            except UnreadableImage as error:
                reasons[name] = error.reason

    # A thread, so that a read that blocks on the pipe fails the test and does not hang it.
    thread = threading.Thread(target=collect, daemon=True)
    thread.start()
    thread.join(timeout=10)
    assert reasons == {
        "folder.jpg": "not a file: a directory",
        "pipe.jpg": "not a file: a pipe, socket or device",
        "link.jpg": "missing file",
        "gone.jpg": "missing file",
        "file/inside.jpg": "missing file",
    }


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM", "GIF", "JPEG", "WEBP", "AVIF"])
def test_every_format_is_read(form: str) -> None:
    image = Image.new("RGB", (40, 30), (200, 100, 0))
    upright = decode(encoded(image, form))
    assert (upright.mode, upright.size) == ("RGB", (40, 30))
    tolerance = 0 if form in ("PNG", "BMP", "TIFF", "PPM", "GIF") else 6
    assert np.abs(np.asarray(upright, dtype=int) - np.asarray(image, dtype=int)).max() <= tolerance


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA"])
@pytest.mark.filterwarnings("error")
def test_eight_bit_modes_are_converted_as_pillow_does(mode: str) -> None:
    image = noise().convert(mode)
    if image.mode in ("LA", "RGBA"):
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    form = "TIFF" if mode == "PA" else "PNG"
    upright = decode(encoded(image, form))
    assert upright.mode == "RGB"
    assert upright.tobytes() == image.convert("RGB").tobytes()


def test_transparency_of_a_palette_is_dropped() -> None:
    image = noise().convert("P")
    upright = decode(encoded(image, "PNG", transparency=bytes(range(256))))
    assert upright.tobytes() == image.convert("RGB").tobytes()


def oriented(orientation: int, form: str) -> bytes:
    image = Image.new("RGB", (4, 2), "black")
    image.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"exif": exif.tobytes()} if form != "TIFF" else {"tiffinfo": {0x0112: orientation}}
    return encoded(image, form, **options)


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
@pytest.mark.parametrize(
    ("orientation", "size", "white"),
    [
        (1, (4, 2), (0, 0)),
        (2, (4, 2), (3, 0)),
        (3, (4, 2), (3, 1)),
        (4, (4, 2), (0, 1)),
        (5, (2, 4), (0, 0)),
        (6, (2, 4), (1, 0)),
        (7, (2, 4), (1, 3)),
        (8, (2, 4), (0, 3)),
        (99, (4, 2), (0, 0)),
    ],
)
def test_orientation(orientation: int, size: tuple[int, int], white: tuple[int, int], form: str) -> None:
    upright = decode(oriented(orientation, form))
    assert upright.size == size
    row, column = np.argwhere(np.asarray(upright)[..., 0] == 255).tolist()[0]
    assert (column, row) == white


def test_orientation_of_a_phone_photograph() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(encoded(noise(40, 30), "JPEG", exif=exif.tobytes())).size == (30, 40)


def test_damaged_exif_leaves_the_pixels() -> None:
    damaged = encoded(noise(40, 30), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + bytes(range(30)))
    assert decode(damaged).size == (40, 30)


def test_the_first_picture_of_a_multi_picture_jpeg_is_taken() -> None:
    first, *rest = frames()
    upright = decode(encoded(first, "MPO", save_all=True, append_images=rest))
    assert upright.tobytes() == decode(encoded(first, "JPEG")).tobytes()


def test_a_pil_image_is_checked_and_copied() -> None:
    image = noise()
    upright = decode(image)
    assert upright is not image
    assert upright.tobytes() == image.tobytes()
    refused = {
        "CMYK": noise().convert("CMYK"),
        "16-bit": Image.open(io.BytesIO(WIDE_RGB)),
        "zero size": Image.new("RGB", (0, 5)),
        "animated": Image.open(io.BytesIO(animated("GIF"))),
    }
    for slug, bad in refused.items():
        with pytest.raises(UnreadableImage, match=f"^{slug}"):
            decode(bad)


def test_a_closed_pil_image_is_unreadable(tmp_path: Path) -> None:
    noise().save(tmp_path / "a.png")
    image = Image.open(tmp_path / "a.png")
    image.close()
    with pytest.raises(UnreadableImage):
        decode(image)


def test_the_result_needs_no_file(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    noise().save(file)
    upright = decode(file)
    file.unlink()
    assert upright.tobytes() == noise().tobytes()


@pytest.mark.parametrize(("size", "expected"), [((200, 100), (64, 32)), ((30, 40), (30, 40)), ((1, 5000), (1, 64))])
def test_thumbnail(size: tuple[int, int], expected: tuple[int, int]) -> None:
    image = noise(*size)
    small = Image.open(io.BytesIO(thumbnail(image, 64)))
    assert (small.format, small.size) == ("JPEG", expected)
    assert image.size == size


def decodes_or_gives_a_reason(data: bytes) -> None:
    try:
        mode = decode(data).mode
    except UnreadableImage:
        return
    assert mode == "RGB"


@given(st.binary(max_size=300))
@settings(max_examples=100, deadline=None)
def test_random_bytes(data: bytes) -> None:
    decodes_or_gives_a_reason(data)


VALID = [
    encoded(
        noise(20, 15),
        "JPEG",
        exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0" + bytes(4),
    ),
    encoded(noise(20, 15), "JPEG", progressive=True),
    encoded(noise(20, 15), "PNG"),
    encoded(noise(20, 15).convert("P"), "PNG"),
    encoded(noise(20, 15), "GIF"),
    encoded(noise(20, 15), "TIFF"),
    encoded(noise(20, 15), "WEBP"),
    encoded(noise(20, 15), "BMP"),
    b"P6 20 15 200\n" + bytes(900),
]


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_mutated_pictures(data: st.DataObject) -> None:
    picture = bytearray(data.draw(st.sampled_from(VALID)))
    # Headers are where a flipped byte does the most.
    place = st.one_of(st.integers(0, min(120, len(picture)) - 1), st.integers(0, len(picture) - 1))
    for position, value in data.draw(st.lists(st.tuples(place, st.integers(0, 255)), max_size=6)):
        picture[position] = value
    decodes_or_gives_a_reason(bytes(picture[: data.draw(st.integers(0, len(picture)))]))


def test_real_photographs() -> None:
    files = sorted((PHOTOS / "nips17/images").glob("*.jpg"))[:20]
    if not files:
        pytest.skip(f"no photographs in {PHOTOS}")
    for file in files:
        assert (decode(file).mode, decode(file).size) == ("RGB", (256, 256))
