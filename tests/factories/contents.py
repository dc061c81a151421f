"""Kept content for tests: a key lender that can be turned off, and `Contents` on whatever database and store."""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from stockade.content.account_content import Contents, StoredContent
from stockade.content.objects import Bodies
from stockade.kernel.clock import Clock, ManualClock
from stockade.kernel.evidence import CallerKey, Evidence
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.keys.broker import Access, ObjectKeys, ObjectRef
from stockade.settings import Content, Settings
from stockade.storage.database import Database

ACCOUNT = "/subscriptions/5/resourcegroups/r/providers/microsoft.cognitiveservices/accounts/a"
EVIDENCE = CallerKey(Secret("a key"))
MASTER = b"m" * 32


class FakeLender:
    """Derives keys as the broker does, from everything that a reference names; remembers what it was asked."""

    def __init__(self, lease_s: float = 5.0) -> None:
        self.lease_s = lease_s
        self.newest = "d00000000001"
        self.refusal: Fault | None = None
        self.asked: list[tuple[str, tuple[ObjectRef, ...], Access, str]] = []

    def refuse(self, kind: FaultKind = FaultKind.CUSTOMER_KEY_UNAVAILABLE) -> None:
        self.refusal = Fault(kind, "The customer's key is disabled.")

    async def object_keys(
        self,
        account_id: str,
        objects: Sequence[ObjectRef],
        access: Access,
        data_action: str,
        evidence: Evidence,
        asked_by: str,
    ) -> ObjectKeys:
        self.asked.append((account_id, tuple(objects), access, asked_by))
        if self.refusal is not None:
            raise self.refusal
        keys = tuple(Secret(self._key(account_id, ref)) for ref in objects)
        return ObjectKeys(keys, self.newest, self.lease_s)

    def _key(self, account_id: str, ref: ObjectRef) -> bytes:
        named = "\n".join((account_id, ref.data_key or self.newest, ref.path, ref.version, ref.part))
        return hmac.digest(MASTER, named.encode(), "sha256")


class Kept:
    """Contents, and the parts a test turns."""

    def __init__(
        self,
        folder: Path,
        database: Database,
        *,
        bodies: Bodies | None = None,
        clock: Clock | None = None,
        lender: FakeLender | None = None,
        **content: Any,
    ) -> None:
        self.folder = folder
        self.clock = clock or ManualClock()
        self.lender = lender or FakeLender()
        self.settings = Settings(data_dir=folder, content=Content(**content))
        self.contents = Contents(self.settings, database, self.lender, clock=self.clock, bodies=bodies)

    def of(self, account: str = ACCOUNT) -> StoredContent:
        return self.contents.of(account, EVIDENCE, "Microsoft.CognitiveServices/accounts/OpenAI/files/read", "test")

    def stored(self) -> list[Path]:
        """Return the files of the local store."""
        return [path for path in (self.folder / "content").rglob("*") if path.is_file()]


async def pieces(data: bytes, size: int = 65_536) -> AsyncIterator[bytes]:
    """Yield data as a request brings it."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def whole(stream: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in stream])
