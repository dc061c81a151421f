"""What an image is, by its first bytes."""

from __future__ import annotations

import pytest

from stockade.egress.media import image_type


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (b"\x89PNG\r\n\x1a\n....", "image/png"), (b"\xff\xd8\xff\xe0....", "image/jpeg"), (b"GIF89a....", "image/gif"),
        (b"GIF87a....", "image/gif"), (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp"), (b"II*\x00....", "image/tiff"),
        (b"BM\x00\x01\x00\x00\x00\x00\x00\x00....", "image/bmp"),
    ],
)  # fmt: skip
def test_image_is_known(data: bytes, media_type: str) -> None:
    assert image_type(data) == media_type


@pytest.mark.parametrize(
    "data",
    [b"", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"<html>", b'{"token":"s"}', b"BMW is a car", b"RIFF\x00\x00\x00\x00WAVEfmt ",
     b"-----BEGIN PRIVATE KEY-----", b"\x1f\x8b\x08", b" \x89PNG\r\n\x1a\n"],
)  # fmt: skip
def test_anything_else_is_not(data: bytes) -> None:
    assert image_type(data) is None
