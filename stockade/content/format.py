"""How a stored body looks, version 1, and how its metadata is sealed. Pure; knows neither stores nor leases.

A body is eight bytes that name this format, then exactly what Tink calls AES256-GCM-HKDF streaming with segments of 512 KiB:

    header     0x28 | salt, 32 bytes | nonce prefix, 7 bytes
    segment    AES-256-GCM under HKDF-SHA256(object's key, salt, info = associated data), no associated data of its own,
               nonce = prefix | number, 4 bytes big-endian | 1 for the last segment, else 0; ciphertext, then a tag of 16 bytes

Every segment is 512 KiB but the last, and the first is shorter by the header. There is a last segment always, of an empty body an empty one.
What the associated data names (account, path, version) cannot stand in for anything else; numbers and the last byte keep segments in place.
Source: Tink's description of AES-GCM-HKDF streaming AEAD (developers.google.com/tink/streaming-aead/aes_gcm_hkdf_streaming).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret

BODY_MAGIC: Final = b"STKDOBJ\x01"
METADATA_MAGIC: Final = b"STKDMET\x01"
SEGMENT_BYTES: Final = 512 * 1024
"""Of ciphertext, its tag included."""
TAG_BYTES: Final = 16
SALT_BYTES: Final = 32
PREFIX_BYTES: Final = 7
NONCE_BYTES: Final = 12
HEADER_BYTES: Final = 1 + SALT_BYTES + PREFIX_BYTES
HEAD_BYTES: Final = len(BODY_MAGIC) + HEADER_BYTES
"""Before the first segment's ciphertext."""
FIRST_BYTES: Final = SEGMENT_BYTES - HEADER_BYTES - TAG_BYTES
REST_BYTES: Final = SEGMENT_BYTES - TAG_BYTES
"""Of the body in the first segment, and in every other one."""
MAX_METADATA_BYTES: Final = 4 * 1024 * 1024

Buffer: TypeAlias = bytes | bytearray | memoryview


class DamagedError(Exception):
    """What is stored is not what was written: changed, cut, extended, exchanged, or of a format that is not known here."""


@dataclass(frozen=True, slots=True)
class Head:
    """What a body begins with; drawn anew for every body."""

    salt: bytes = field(default_factory=lambda: os.urandom(SALT_BYTES))
    prefix: bytes = field(default_factory=lambda: os.urandom(PREFIX_BYTES))

    def encode(self) -> bytes:
        return BODY_MAGIC + bytes([HEADER_BYTES]) + self.salt + self.prefix

    @classmethod
    def decode(cls, stored: Buffer) -> Head:
        """Read the first `HEAD_BYTES` of a stored body."""
        data = bytes(stored[:HEAD_BYTES])
        start = len(BODY_MAGIC)
        if len(data) != HEAD_BYTES or data[:start] != BODY_MAGIC or data[start] != HEADER_BYTES:
            raise DamagedError("not a stored body of a known format")
        return cls(data[start + 1 : start + 1 + SALT_BYTES], data[-PREFIX_BYTES:])


class SegmentCipher:
    """The key of one body's segments, derived from the object's key. Let go of it when the lease ends."""

    __slots__ = ("_aead", "_prefix")

    def __init__(self, object_key: Secret, head: Head, bound: bytes) -> None:
        self._prefix = head.prefix
        derived = bytearray(32)
        try:
            HKDF(SHA256(), 32, head.salt, bound).derive_into(object_key.reveal(), derived)
            self._aead = AESGCM(derived)
        finally:
            derived[:] = bytes(32)

    def seal(self, number: int, plain: Buffer, *, last: bool) -> bytes:
        return self._aead.encrypt(self._nonce(number, last), plain, None)

    def open(self, number: int, sealed: Buffer, *, last: bool) -> bytes:
        """Return the segment's bytes of the body; DamagedError when it is not that segment as it was written."""
        try:
            return self._aead.decrypt(self._nonce(number, last), sealed, None)
        except InvalidTag as failure:
            raise DamagedError(f"segment {number} is not what was written") from failure

    def _nonce(self, number: int, last: bool) -> bytes:
        return self._prefix + number.to_bytes(4, "big") + (b"\1" if last else b"\0")


class Sealer:
    """Cuts a body that arrives in pieces of any size into segments and seals them; copies only what does not fill a segment by itself.

    size: bytes of the body so far.
    """

    __slots__ = ("_carry", "_filled", "_number", "size")

    def __init__(self) -> None:
        self._carry, self._filled, self._number, self.size = bytearray(), 0, 0, 0

    def add(self, cipher: SegmentCipher, pieces: Sequence[Buffer]) -> list[bytes]:
        """Return the segments that are certainly not the last one."""
        done: list[bytes] = []
        for piece in pieces:
            view = memoryview(piece)
            self.size += len(view)
            while view:
                room = self._room()
                if self._filled == room:
                    done.append(self._seal(cipher, memoryview(self._carry)[:room], last=False))
                elif self._filled or len(view) <= room:
                    view = view[self._keep(view[: room - self._filled]) :]
                else:
                    done.append(self._seal(cipher, view[:room], last=False))
                    view = view[room:]
        return done

    def finish(self, cipher: SegmentCipher) -> bytes:
        """Return the last segment."""
        return self._seal(cipher, memoryview(self._carry)[: self._filled], last=True)

    def _room(self) -> int:
        return REST_BYTES if self._number else FIRST_BYTES

    def _keep(self, part: memoryview) -> int:
        end = self._filled + len(part)
        if end > len(self._carry):
            # Small bodies need no room for a segment.
            self._carry.extend(bytes(min(max(end, 2 * len(self._carry)), REST_BYTES) - len(self._carry)))
        self._carry[self._filled : end] = part
        self._filled = end
        return len(part)

    def _seal(self, cipher: SegmentCipher, plain: memoryview, *, last: bool) -> bytes:
        sealed = cipher.seal(self._number, plain, last=last)
        self._number, self._filled = self._number + 1, 0
        return sealed


class Layout:
    """Where the segments of a body of a size lie."""

    __slots__ = ("last", "size", "stored")

    def __init__(self, size: int) -> None:
        self.size = size
        self.last = 0 if size <= FIRST_BYTES else -(-(size - FIRST_BYTES) // REST_BYTES)
        """The last segment's number."""
        self.stored = HEAD_BYTES + size + (self.last + 1) * TAG_BYTES
        """Bytes that the store has of it."""

    def segment_at(self, offset: int) -> int:
        """Return the number of the segment in which a byte of the body lies."""
        return 0 if offset < FIRST_BYTES else 1 + (offset - FIRST_BYTES) // REST_BYTES

    def starts_at(self, number: int) -> int:
        """Return the first byte of the body that lies in a segment."""
        return FIRST_BYTES + (number - 1) * REST_BYTES if number else 0

    def stored_at(self, number: int) -> tuple[int, int]:
        """Return where a segment begins and ends in the store."""
        start = len(BODY_MAGIC) + number * SEGMENT_BYTES if number else HEAD_BYTES
        return start, min(len(BODY_MAGIC) + (number + 1) * SEGMENT_BYTES, self.stored)

    def open(self, cipher: SegmentCipher, first: int, final: int, stored: memoryview) -> list[bytes]:
        """Open segments first to final, given what the store has of exactly these."""
        start = self.stored_at(first)[0]
        if len(stored) != self.stored_at(final)[1] - start:
            raise DamagedError("there is more or less of it than was written")
        opened: list[bytes] = []
        for number in range(first, final + 1):
            begin, end = self.stored_at(number)
            opened.append(cipher.open(number, stored[begin - start : end - start], last=number == self.last))
        return opened


def bound_to(magic: bytes, *names: str) -> bytes:
    """Return associated data: the format and names, each preceded by its length, so that no two lists of names look alike."""
    encoded = [name.encode() for name in names]
    return magic + b"".join(struct.pack(">I", len(name)) + name for name in encoded)


def body_bound_to(account_id: str, path: str, version: str) -> bytes:
    """Return what a body is bound to."""
    return bound_to(BODY_MAGIC, account_id, path, version)


def metadata_bound_to(
    account_id: str,
    path: str,
    version: str,
    status: str,
    created_at: float,
    expires_at: float | None,
    size: int,
    body_version: str,
) -> bytes:
    """Return what metadata is bound to: the item, and all that stands in clear of it, so that none of it is changed without the key."""
    times = f"{float(created_at)!r} {None if expires_at is None else float(expires_at)!r}"
    return bound_to(METADATA_MAGIC, account_id, path, version, status, times, str(size), body_version)


def pack_metadata(metadata: Mapping[str, Any]) -> bytes:
    """Return metadata as msgpack; Fault(TOO_LARGE), and Fault(INVALID) for numbers and text that msgpack has not."""
    try:
        packed = msgspec.msgpack.encode(dict(metadata))
    except (OverflowError, UnicodeEncodeError) as failure:
        raise Fault(FaultKind.INVALID, "It holds a number or a text that cannot be kept.") from failure
    if len(packed) > MAX_METADATA_BYTES:
        raise Fault(FaultKind.TOO_LARGE, f"What is kept beside a body has at most {MAX_METADATA_BYTES} bytes.")
    return packed


def seal_metadata(key: Secret, bound: bytes, packed: bytes) -> bytes:
    """Return packed metadata sealed: the format's name, a nonce of 12 bytes, AES-256-GCM."""
    nonce = os.urandom(NONCE_BYTES)
    return METADATA_MAGIC + nonce + AESGCM(key.reveal()).encrypt(nonce, packed, bound)


def open_metadata(key: Secret, bound: bytes, sealed: bytes) -> dict[str, Any]:
    """Return the metadata; DamagedError when it is not what was sealed for exactly this."""
    start = len(METADATA_MAGIC)
    if not sealed.startswith(METADATA_MAGIC) or len(sealed) < start + NONCE_BYTES + TAG_BYTES:
        raise DamagedError("not sealed metadata of a known format")
    nonce = sealed[start : start + NONCE_BYTES]
    try:
        packed = AESGCM(key.reveal()).decrypt(nonce, memoryview(sealed)[start + NONCE_BYTES :], bound)
    except InvalidTag as failure:
        raise DamagedError("the metadata is not what was sealed") from failure
    return msgspec.msgpack.decode(packed, type=dict[str, Any])
