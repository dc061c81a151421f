"""The keys our own tokens are signed with: RSA-2048, sealed, rotated, and published until nothing needs them any more.

A key is a document `/providers/stockade.identity/signingkeys/{kid}`. The current key has no end; rotation gives it
one, after the last token it can have signed has expired, and until then it stays published. Its private half is wiped
at rotation: what cannot sign cannot be stolen.
Source: RFC 7517 (JWK), RFC 7638 (kid is the thumbprint).
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from joserfc.jwk import RSAKey

from stockade.identity import tenant
from stockade.identity.compact import import_key
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.keys.root import RootKey
from stockade.policy.snapshot import Entry, Snapshot, VerificationKey
from stockade.storage.database import Reader, Writer
from stockade.storage.documents import Document

TYPE: Final = "stockade.identity/signingkeys"
PREFIX: Final = "/providers/stockade.identity/signingkeys/"
ALGORITHM: Final = "RS256"
BITS: Final = 2048
ROTATE_AFTER_DAYS: Final = 90
TOKEN_LIFE_S: Final = 3600
"""No token of ours lives longer."""
RETIREMENT_S: Final = TOKEN_LIFE_S + 600
"""How long a retired key stays published; the margin covers clocks and verifiers' leeway."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The key that signs, ready for use. It does not print its private half."""

    key_id: str
    key: RSAKey = field(repr=False)


class KeyRing:
    """Opens and rotates the signing keys. Opened keys are kept in memory, because opening one costs more than a signature."""

    def __init__(self, root_key: RootKey) -> None:
        self._root_key = root_key
        self._opened: SigningKey | None = None
        self._lock = threading.Lock()

    def current(self, reader: Reader) -> SigningKey:
        """Return the key new tokens are signed with; Fault(UNAVAILABLE) when there is none."""
        document = _current(reader)
        if document is None:
            raise Fault(FaultKind.UNAVAILABLE, "There is no signing key.")
        key_id = str(document.body["kid"])
        with self._lock:
            if self._opened is None or self._opened.key_id != key_id:
                sealed = base64.b64decode(document.private["sealed"])
                pem = self._root_key.unseal(sealed, bound_to=document.id)
                self._opened = SigningKey(key_id, RSAKey.import_key(pem.reveal()))
            return self._opened

    def held(self, snapshot: Snapshot, issuer: str) -> SigningKey | None:
        """Return the key opened last if the snapshot still has it as the current one; saves a read of the database per token."""
        opened = self._opened
        published = snapshot.only("verification-key", (issuer, opened.key_id)) if opened is not None else None
        return opened if published is not None and published.not_after is None else None

    def rotate(self, writer: Writer, now: float) -> str:
        """Make a new key the current one, give the others their end, and return the new key's id."""
        for document in writer.list(TYPE):
            if document.body["notAfter"] is None:
                writer.put(document.id, TYPE, {**document.body, "notAfter": now + RETIREMENT_S}, {})
        # 50 ms inside the transaction, once in 90 days.
        key = RSAKey.generate_key(BITS, auto_kid=False)
        key_id = key.thumbprint()
        document_id = (PREFIX + key_id).lower()
        sealed = self._root_key.seal(Secret(key.as_pem(private=True)), bound_to=document_id)
        body = {
            "name": key_id,
            "kid": key_id,
            "alg": ALGORITHM,
            "jwk": key.as_dict(private=False),
            "createdAt": now,
            "notAfter": None,
            "tenantId": tenant.required_tenant(writer).id,
        }
        writer.put(document_id, TYPE, body, {"sealed": base64.b64encode(sealed).decode()})
        return key_id

    def ensure(self, writer: Writer, now: float, *, rotate_after_days: float = ROTATE_AFTER_DAYS) -> bool:
        """Do what is due: a first key, a rotation, the end of keys nothing needs any more. Returns whether anything changed."""
        changed = False
        for document in writer.list(TYPE):
            if document.body["notAfter"] is not None and document.body["notAfter"] <= now:
                writer.remove(document)
                changed = True
        current = _current(writer)
        if current is None or current.body["createdAt"] + rotate_after_days * 86_400 <= now:
            self.rotate(writer, now)
            changed = True
        return changed

    def is_due(self, reader: Reader, now: float, *, rotate_after_days: float = ROTATE_AFTER_DAYS) -> bool:
        """Say whether `ensure` would change anything, without a write transaction."""
        current = _current(reader)
        ended = any(
            document.body["notAfter"] is not None and document.body["notAfter"] <= now for document in reader.list(TYPE)
        )
        return ended or current is None or current.body["createdAt"] + rotate_after_days * 86_400 <= now


def published(snapshot: Snapshot, issuer: str, now: float) -> list[dict[str, Any]]:
    """Return the public keys of our own issuer as JWKs, those that have ended left out."""
    keys = [
        key
        for name in snapshot.keys("verification-key")
        if isinstance(name, tuple)
        and name[0] == issuer
        and (key := snapshot.only("verification-key", name)) is not None
    ]
    live = sorted(
        (key for key in keys if key.not_after is None or key.not_after > now), key=lambda key: str(key.key_id)
    )
    return [{**key.jwk, "use": "sig", "kid": key.key_id, "alg": key.algorithm} for key in live]


def compile_signing_key(document: Document, authority: str) -> Iterable[Entry]:
    """Yield the public key that verifies tokens of our own issuer."""
    body = document.body
    issuer = tenant.local_issuer(authority, str(body["tenantId"]))
    import_key(body["jwk"], str(body["alg"]))
    yield (
        "verification-key",
        (issuer, str(body["kid"])),
        VerificationKey(issuer, str(body["kid"]), str(body["alg"]), dict(body["jwk"]), body["notAfter"]),
    )


def _current(reader: Reader) -> Document | None:
    live = [document for document in reader.list(TYPE) if document.body["notAfter"] is None]
    return max(live, key=lambda document: (document.body["createdAt"], document.id), default=None)
