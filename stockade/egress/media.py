"""What an image is: by its own first bytes, not by what a server calls it.

An engine gets what is called an image and is one; a page, a key file or a directory listing that a server calls `image/png` is not handed over.
SVG is not among them: it is a document that names further URIs. Sources: MIME Sniffing Standard, section 6.1; RFC 9649 (WebP); TIFF 6.0.
"""

from __future__ import annotations

from typing import Final

DECLARED: Final = ("image/", "application/octet-stream", "binary/octet-stream")
"""What a server may call an image: object stores often know no better than the last two."""

_SIGNATURES: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
)


def image_type(data: bytes) -> str | None:
    """Return the media type of an image; None for anything else."""
    if data[:4] == b"RIFF" and data[8:14] == b"WEBPVP":
        return "image/webp"
    if data[:2] == b"BM" and data[6:10] == bytes(4):  # two letters alone would let text pass
        return "image/bmp"
    return next((media_type for signature, media_type in _SIGNATURES if data.startswith(signature)), None)
