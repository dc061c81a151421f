"""Bodies sealed and opened in one go, as the streaming code does it piece by piece."""

from __future__ import annotations

from random import Random

from stockade.content.format import HEAD_BYTES, Head, Layout, Sealer, SegmentCipher
from stockade.kernel.secret import Secret

KEY = bytes(range(32))
BOUND = b"bound"


def some(size: int, seed: int = 1) -> bytes:
    return Random(seed).randbytes(size)


def seal(
    body: bytes, *, key: bytes = KEY, bound: bytes = BOUND, head: Head | None = None, piece: int = 65_536
) -> bytes:
    head = head or Head()
    cipher, sealer = SegmentCipher(Secret(key), head, bound), Sealer()
    segments: list[bytes | memoryview] = [head.encode()]
    for start in range(0, len(body), piece):
        segments += sealer.add(cipher, [body[start : start + piece]])
    return b"".join([*segments, sealer.finish(cipher)])


def open_whole(stored: bytes, size: int, *, key: bytes = KEY, bound: bytes = BOUND) -> bytes:
    """Open a body of a size as a reader would; DamagedError."""
    cipher = SegmentCipher(Secret(key), Head.decode(stored), bound)
    layout = Layout(size)
    return b"".join(layout.open(cipher, 0, layout.last, memoryview(stored)[HEAD_BYTES:]))
