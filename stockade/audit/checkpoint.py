"""Signed tree heads: checkpoints (C2SP tlog-checkpoint) with Ed25519 note signatures (C2SP signed-note), which other people's tools read too.

    stockade/<tenant>/<log>                        the origin, and the name of the key
    20852163                                       how many records
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=   the root over them
    time 2026-11-26T12:00:00.000Z                  when it was signed

    — stockade/<tenant>/<log> Az3grlgtzPIC...      over the lines above the empty one

Of a text there is one reading, and of a head one text: what is read must be what would be printed, or it is refused.
A file of heads (`heads` in a log's folder, a witness's file) is one after another, each with an empty line behind it.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final, NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from stockade.audit.tree import HASH
from stockade.kernel.faults import Fault, FaultKind

MAX_NOTE: Final = 16 * 1024
MAX_SIGNATURES: Final = 16
_ED25519: Final = b"\x01"
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_TIME: Final = re.compile(r"time ([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3})Z")
_KEY_NAME: Final = re.compile(r"[^\s+]{1,200}")
DASH: Final = "\N{EM DASH} "


def origin_of(tenant_id: str, log: str) -> str:
    """Return what a log's heads say they are of."""
    return f"stockade/{tenant_id}/{log}"


@dataclass(frozen=True, slots=True)
class Head:
    """How many records a log had at a time (seconds since the epoch; milliseconds count), and the root over them."""

    origin: str
    size: int
    root: bytes
    time: float

    @property
    def log(self) -> str:
        """The log's name, as the origin has it."""
        return self.origin.rpartition("/")[2]

    def text(self) -> bytes:
        """Return what is signed."""
        when = datetime.fromtimestamp(self.time, UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")
        return f"{self.origin}\n{self.size}\n{b64encode(self.root).decode()}\ntime {when}Z\n".encode()


@dataclass(frozen=True, slots=True)
class Signature:
    """One line below a head: whose key says so, the key's id (four bytes), and the signature."""

    name: str
    key_id: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class SignedHead:
    """A head as it was read; nobody has verified it yet. note: the whole text."""

    head: Head
    signatures: tuple[Signature, ...]
    note: bytes


@dataclass(frozen=True, slots=True)
class HeadKey:
    """A public key (Ed25519, 32 bytes) that heads are verified with. name: the only origin it is good for; "" for each."""

    public: bytes
    name: str = ""

    def id_for(self, name: str) -> bytes:
        """Return the id that signatures with this key have under a name."""
        return sha256(name.encode() + b"\n" + _ED25519 + self.public).digest()[:4]

    def text(self, name: str = "") -> str:
        """Return the key as C2SP's tools take it (vkey): name, id and key, joined by `+`."""
        name = name or self.name
        return f"{name}+{self.id_for(name).hex()}+{b64encode(_ED25519 + self.public).decode()}"

    def pem(self) -> str:
        key = Ed25519PublicKey.from_public_bytes(self.public)
        return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def read_keys(text: str) -> list[HeadKey]:
    """Read public keys: a PEM, or one or more lines in the vkey form. Fault(INVALID) for anything else."""
    if "-----BEGIN" in text:
        try:
            key = load_pem_public_key(text.encode())
        except ValueError as failure:
            raise Fault(FaultKind.INVALID, "That is no public key in PEM.") from failure
        if not isinstance(key, Ed25519PublicKey):
            raise Fault(FaultKind.INVALID, "Tree heads are verified with an Ed25519 key; that is another kind.")
        return [HeadKey(key.public_bytes(Encoding.Raw, PublicFormat.Raw))]
    return [_vkey(line) for line in text.split()] or _refuse("There is no key in it.")


def _vkey(text: str) -> HeadKey:
    name, _, rest = text.partition("+")
    key_id, _, encoded = rest.partition("+")
    value = _base64(encoded, 33)
    if not name or value is None or value[:1] != _ED25519:
        return _refuse(f"'{text[:60]}' is no public key (name+id+key) of the Ed25519 kind.")
    found = HeadKey(value[1:], name)
    return found if found.text() == text else _refuse(f"The id {key_id[:8]} is not that of the key '{name[:60]}'.")


def sign_note(head: Head, key: HeadKey, sign: Callable[[bytes], bytes]) -> bytes:
    """Return a head with the signature that `sign` makes under the key."""
    text = head.text()
    value = b64encode(key.id_for(head.origin) + sign(text)).decode()
    return text + f"\n{DASH}{head.origin} {value}\n".encode()


def read_note(note: bytes) -> SignedHead:
    """Read a signed head. Fault(INVALID) unless it is one, to the byte."""
    if len(note) > MAX_NOTE:
        _refuse("A tree head is not as long as that.")
    try:
        text, _, below = note.decode().partition("\n\n")
    except UnicodeDecodeError as failure:
        raise Fault(FaultKind.INVALID, "A tree head is text in UTF-8.") from failure
    lines = below.split("\n")
    if lines.pop() or not 0 < len(lines) <= MAX_SIGNATURES:
        _refuse("A tree head ends with its signatures, a line each.")
    return SignedHead(_head(text), tuple(_signature(line) for line in lines), note)


def _head(text: str) -> Head:
    lines = text.split("\n")
    if len(lines) != 4 or _KEY_NAME.fullmatch(lines[0]) is None or _SIZE.fullmatch(lines[1]) is None:
        return _refuse("A tree head has four lines: origin, size, root and time.")
    root, time = _base64(lines[2], HASH), _TIME.fullmatch(lines[3])
    if root is None or time is None:
        return _refuse("A tree head's root is 32 bytes in base64, its time like `time 2026-11-26T12:00:00.000Z`.")
    try:
        when = datetime.fromisoformat(f"{time[1]}+00:00").timestamp()
    except ValueError as failure:
        raise Fault(FaultKind.INVALID, "A tree head's time is none.") from failure
    found = Head(lines[0], int(lines[1]), root, when)
    return found if found.text() == f"{text}\n".encode() else _refuse("A tree head is written in one way only.")


def _signature(line: str) -> Signature:
    name, _, encoded = line.removeprefix(DASH).partition(" ")
    value = _base64(encoded)
    if not line.startswith(DASH) or _KEY_NAME.fullmatch(name) is None or value is None or len(value) < 5:
        return _refuse("A signature's line is `— name base64`.")
    return Signature(name, value[:4], value[4:])


def verify(signed: SignedHead, keys: Iterable[HeadKey]) -> Head:
    """Return the head if one of the keys has signed it for its own origin; Fault(INVALID) otherwise.

    Signatures of others are nobody's concern here; one that is said to be of a known key, and is not, spoils the whole.
    """
    head, proven = signed.head, False
    for key in keys:
        if key.name not in ("", head.origin):
            continue
        for signature in signed.signatures:
            if signature.name == head.origin and signature.key_id == key.id_for(head.origin):
                try:
                    Ed25519PublicKey.from_public_bytes(key.public).verify(signature.value, head.text())
                except (InvalidSignature, ValueError) as failure:
                    message = f"The signature of {head.origin} at {head.size} records is not its key's."
                    raise Fault(FaultKind.INVALID, message) from failure
                proven = True
    return (
        head
        if proven
        else _refuse(f"The head of {head.origin} at {head.size} records is not signed with the given key.")
    )


def read_file(data: bytes) -> tuple[list[SignedHead], bytes]:
    """Read a file of heads; returns them and what stands behind the last one. Fault(INVALID) for what is none before that."""
    parts = data.split(b"\n\n")
    rest = parts.pop()
    if len(parts) % 2:
        rest = parts.pop() + b"\n\n" + rest
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return [read_note(text + b"\n\n" + signatures + b"\n") for text, signatures in pairs], rest


def _base64(text: str, length: int | None = None) -> bytes | None:
    """Decode base64 that is written as it would be printed; None for anything else."""
    try:
        found = b64decode(text, validate=True)
    except ValueError:
        return None
    return found if b64encode(found).decode() == text and length in (None, len(found)) else None


def _refuse(message: str) -> NoReturn:
    raise Fault(FaultKind.INVALID, message)
