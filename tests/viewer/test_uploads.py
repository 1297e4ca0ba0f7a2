"""Uploads: what is taken, and what is refused without decoding it."""

import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient
from viewer_world import World, application, encoded

from secondlens.viewer.server.uploads import Limits, Refused, decode_upload

PNG = {"content-type": "image/png"}


def bomb(width: int, height: int) -> bytes:
    """A small PNG that says it is large and whose pixels would indeed unfold to that."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer = zlib.compressobj(9)
    row = b"\0" * (width // 8 + 1)
    pixels = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_pictures_are_answered(client: Any, kind: str) -> None:
    answer = client.post("/api/image", content=encoded(kind=kind), headers={"content-type": f"image/{kind.lower()}"})
    assert answer.status_code == 200
    assert answer.json()["measure"] == "cosine"
    assert len(answer.json()["predictions"]) == 5


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"", "image/png", 400),
        (b"not a picture", "image/png", 400),
        (encoded()[:60], "image/png", 400),
        (encoded()[:-20] + b"\0" * 20, "image/png", 400),
        (b"\x89PNG\r\n\x1a\n" + b"\xff" * 500, "image/png", 400),
        (b"\xff\xd8\xff" + b"\0" * 100, "image/jpeg", 400),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n(/etc/passwd) run\n", "image/png", 400),
        (encoded(kind="TIFF"), "image/png", 400),
        (encoded(kind="GIF"), "image/png", 400),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml", 415),
        (encoded(), "text/html", 415),
        (encoded(), "multipart/form-data; boundary=x", 415),
    ],
)
def test_what_is_no_picture_of_ours_is_refused(client: Any, content: bytes, kind: str, status: int) -> None:
    answer = client.post("/api/image", content=content, headers={"content-type": kind})
    assert answer.status_code == status, answer.text
    assert isinstance(answer.json()["detail"], str)


def test_a_picture_of_sixteen_bits_says_why(client: Any) -> None:
    answer = client.post("/api/image", content=encoded(Image.new("I;16", (8, 8))), headers=PNG)
    assert answer.status_code == 400
    assert "16-bit" in answer.json()["detail"]


def test_bombs_are_refused_by_their_header() -> None:
    content = bomb(16_000, 16_000)
    assert len(content) < 200_000
    tracemalloc.start()
    try:
        with pytest.raises(Refused, match="pixels") as caught:
            decode_upload(content, Limits())
        # 256 million pixels would be 32 MB packed and 768 MB as RGB.
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()
    assert caught.value.status == 413
    for width, height in ((60_000, 60_000), (2**31 - 1, 2**31 - 1)):
        header = content[:16] + struct.pack(">II", width, height) + content[24:29]
        damaged = header + struct.pack(">I", zlib.crc32(header[12:29])) + content[33:]
        with pytest.raises(Refused) as caught:
            decode_upload(damaged, Limits())
        assert caught.value.status == 413


def test_a_bomb_over_http(client: Any) -> None:
    answer = client.post("/api/image", content=bomb(16_000, 16_000), headers=PNG)
    assert answer.status_code == 413


def test_long_bodies_are_given_up_with_and_without_a_length(world: World) -> None:
    with TestClient(application(world, limits=Limits(bytes=1000)), base_url="http://localhost") as client:
        assert client.post("/api/image", content=b"x" * 1001, headers=PNG).status_code == 413

        taken = 0

        def endless() -> Any:
            nonlocal taken
            for _ in range(10_000):
                taken += 1
                yield b"x" * 500

        answer = client.post("/api/image", content=endless(), headers=PNG)
        assert answer.status_code == 413
        assert "0.000953674 MiB" in answer.json()["detail"]


def test_nothing_is_left_on_disk(client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    large = encoded(Image.effect_noise((1200, 1200), 90).convert("RGB"))
    assert len(large) > 2**20
    assert client.post("/api/image", content=large, headers=PNG).status_code == 200
    assert list(tmp_path.iterdir()) == []


def test_large_pictures_within_the_limit_are_taken() -> None:
    picture = decode_upload(encoded(Image.new("L", (3000, 2000))), Limits(pixels=6_000_000))
    assert (picture.size, picture.mode) == ((3000, 2000), "RGB")
    with pytest.raises(Refused):
        decode_upload(encoded(Image.new("L", (3000, 2001))), Limits(pixels=6_000_000))
