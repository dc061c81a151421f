"""Logs of a few records in a folder of a test's own, and a key that signs their heads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from stockade.audit.checkpoint import Head, HeadKey, origin_of, sign_note
from stockade.audit.heads import Heads, sign_newest
from stockade.audit.ledger import log_of
from stockade.audit.reading import Reader
from stockade.audit.store import Logs
from stockade.kernel.record import AuditRecord

TENANT = "72f988bf-86f1-41af-91ab-2d7cd011db47"
LOG = "11111111-2222-3333-4444-555555555555"


def lines(count: int, start: int = 0) -> list[bytes]:
    """Return records of different lengths; the one with number n always reads the same."""
    return [b'{"id":"%d","pad":"%s"}' % (number, b"x" * (number * 7 % 40)) for number in range(start, start + count)]


class Signer:
    """Signs whatever it is asked to, unlike the key broker."""

    def __init__(self, seed: bytes = b"s" * 32) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.key = HeadKey(self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))

    def sign(self, log: str, size: int, root: bytes, time: float, consistency: Sequence[bytes]) -> bytes:
        return sign_note(Head(origin_of(TENANT, log), size, root, time), self.key, self._key.sign)


def filled(audit_dir: Path, sizes: Sequence[int], segment_bytes: int = 2000, name: str = LOG) -> Logs:
    """Return logs of which one was synced and signed at each of the sizes."""
    logs, signer = Logs(audit_dir, segment_bytes), Signer()
    writer = logs.writer(name)
    heads = Heads(writer.folder)
    for size in sizes:
        writer.append(lines(size - writer.size, writer.size))
        writer.sync()
        sign_newest(writer, heads, signer.sign, 1000.0 + size)
    return logs


class PlacedLogs(Logs):
    """Logs that have every record there is by the time that they are read, signed by `signer`: what the audit process does within seconds."""

    def __init__(self, audit_dir: Path, recorded: Callable[[], Sequence[AuditRecord]]) -> None:
        super().__init__(audit_dir)
        self.signer, self._recorded, self._placed = Signer(), recorded, 0

    def reader(self, name: str) -> Reader:
        new = self._recorded()[self._placed :]
        self._placed += len(new)
        placed: dict[str, list[bytes]] = {}
        for record in new:
            placed.setdefault(log_of(record.resource), []).append(msgspec.json.encode(record))
        for log, records in placed.items():
            writer = self.writer(log)
            writer.append(records)
            writer.sync()
            sign_newest(writer, Heads(writer.folder), self.signer.sign, 1000.0 + writer.size)
        return super().reader(name)
