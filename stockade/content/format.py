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
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import GCM
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
KEY_BYTES: Final = 32
FEW_PARTS: Final = 64
BATCH: Final = 4
"""Segments that are sealed at once, into one buffer."""
MAX_METADATA_BYTES: Final = 1024 * 1024

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
    """The key of one body's segments, derived from the object's key. Let go of it when the lease ends; it is overwritten then."""

    __slots__ = ("_aead", "_cipher", "_key", "_prefix")

    def __init__(self, object_key: Secret, head: Head, bound: bytes) -> None:
        self._prefix, self._key = head.prefix, bytearray(KEY_BYTES)
        HKDF(SHA256(), KEY_BYTES, head.salt, bound).derive_into(object_key.reveal(), self._key)
        self._aead, self._cipher = AESGCM(self._key), AES256(self._key)

    def __del__(self) -> None:
        self._key[:] = bytes(KEY_BYTES)

    def seal(self, number: int, parts: Sequence[Buffer], *, last: bool, room: memoryview) -> int:
        """Seal a segment that comes in parts into the beginning of `room`; return how many bytes it has there."""
        nonce, end = self._nonce(number, last), 0
        if not 1 < len(parts) <= FEW_PARTS:
            plain = parts[0] if len(parts) == 1 else b"".join(parts)
            return self._aead.encrypt_into(nonce, plain, None, room[: len(plain) + TAG_BYTES])
        # The same cipher part by part: putting them together first would cost half of what AES does.
        encryptor = Cipher(self._cipher, GCM(nonce)).encryptor()
        update_into = encryptor.update_into
        for part in parts:
            end += update_into(part, room[end:])
        encryptor.finalize()
        room[end : end + TAG_BYTES] = encryptor.tag
        return end + TAG_BYTES

    def open(self, number: int, sealed: Buffer, *, last: bool) -> bytes:
        """Return the segment's bytes of the body; DamagedError when it is not that segment as it was written."""
        try:
            return self._aead.decrypt(self._nonce(number, last), sealed, None)
        except InvalidTag as failure:
            raise DamagedError(f"segment {number} is not what was written") from failure

    def _nonce(self, number: int, last: bool) -> bytes:
        return self._prefix + number.to_bytes(4, "big") + (b"\1" if last else b"\0")


class Buffers:
    """Room for sealed segments, used again once whoever was given it has let go of it.

    Memory that is new to a process costs the kernel more time than AES takes to fill it.
    """

    __slots__ = ("_all",)

    def __init__(self) -> None:
        self._all: list[bytearray] = []

    def take(self, segments: int) -> bytearray:
        """Return room for some segments."""
        if segments < BATCH:
            return bytearray(segments * SEGMENT_BYTES)
        for buffer in self._all:
            try:
                buffer.append(0)  # a bytearray of which somebody has a view does not grow
            except BufferError:
                continue
            del buffer[-1]
            return buffer
        self._all.append(bytearray(BATCH * SEGMENT_BYTES))
        return self._all[-1]


class Sealer:
    """Cuts a body that arrives in pieces of any size into segments and seals them.

    size: bytes of the body so far.
    """

    __slots__ = ("_buffers", "_held", "_holds", "_number", "size")

    def __init__(self) -> None:
        self._buffers, self._held = Buffers(), deque[memoryview]()
        self._holds = self._number = self.size = 0

    def add(self, cipher: SegmentCipher, pieces: Iterable[Buffer]) -> list[memoryview]:
        """Return the segments that are certainly not the last one, several in each buffer."""
        for piece in pieces:
            if piece:
                self._held.append(memoryview(piece))
            self._holds += len(piece)
            self.size += len(piece)
        done: list[memoryview] = []
        while (ready := self._ready()) > 0:
            room = memoryview(self._buffers.take(ready))
            end = 0
            for _ in range(min(ready, BATCH)):
                end += cipher.seal(self._number, self._take(self._room()), last=False, room=room[end:])
                self._number += 1
            done.append(room[:end])
        return done

    def finish(self, cipher: SegmentCipher) -> memoryview:
        """Return the last segment."""
        room = memoryview(bytearray(self._holds + TAG_BYTES))
        cipher.seal(self._number, self._take(self._holds), last=True, room=room)
        return room

    def _room(self) -> int:
        return REST_BYTES if self._number else FIRST_BYTES

    def _ready(self) -> int:
        """Return how many segments are full and have something behind them."""
        over = self._holds - self._room()
        return 0 if over <= 0 else 1 + (over - 1) // REST_BYTES

    def _take(self, size: int) -> list[memoryview]:
        """Return the next bytes in the parts in which they came."""
        held, parts = self._held, list[memoryview]()
        self._holds -= size
        while size:
            part = held.popleft()
            length = len(part)
            if length > size:
                held.appendleft(part[size:])
                part, length = part[:size], size
            parts.append(part)
            size -= length
        return parts


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

    def open(self, cipher: SegmentCipher, first: int, final: int, stored: memoryview) -> Iterator[bytes]:
        """Yield segments first to final, opened, given what the store has of exactly these."""
        start = self.stored_at(first)[0]
        if len(stored) != self.stored_at(final)[1] - start:
            raise DamagedError("there is more or less of it than was written")
        for number in range(first, final + 1):
            begin, end = self.stored_at(number)
            yield cipher.open(number, stored[begin - start : end - start], last=number == self.last)


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
