"""What the platform signs when it destroys the keys of an account, and how anybody can check it without the platform.

The statement is the JSON text exactly as it was signed; the signature is Ed25519 over its UTF-8 bytes (RFC 8032). It names nothing that it
would be a pity to show: the account by the SHA-256 of its lower-case id, keys by version and the SHA-256 of their wrapped form, counts, the time.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from stockade.kernel.faults import Fault, FaultKind

if TYPE_CHECKING:  # the broker's messages hold receipts, and receipts of keys tell of what the broker wraps
    from stockade.keys.broker import WrappedDataKey

KIND: Final = "stockade.keys/destruction/1"
ALGORITHM: Final = "Ed25519"
KEY_BYTES: Final = 32
MAX_LISTED: Final = 100
"""Data keys that a statement lists; of all together it has the number and one digest."""
MAX_STATEMENT: Final = 64 * 1024


def statement(
    receipt_id: str,
    account_id: str,
    internal_id: str,
    destroyed_at: str,
    keys: Iterable[tuple[str, WrappedDataKey]],
    items: int,
    size: int,
) -> str:
    """Return the text to be signed. keys: each with the id of what it belonged to, the account or one of its encryption scopes."""
    held = list(keys)
    content = {
        "statement": KIND,
        "id": receipt_id,
        "accountSha256": digest(account_id.lower().encode()),
        "accountInternalId": internal_id,
        "destroyedAt": destroyed_at,
        "dataKeyCount": len(held),
        "wrappedSha256": digest(b"".join(sha256(key.wrapped).digest() for _, key in held)),
        "dataKeys": [_listed(owner, key) for owner, key in held[:MAX_LISTED]],
        "content": {"items": items, "bytes": size},
    }
    return json.dumps(content, sort_keys=True, separators=(",", ":"))


def verify(receipt: Mapping[str, Any], public_key: bytes) -> dict[str, Any]:
    """Return what a receipt states; Fault(INVALID) unless exactly that was signed with this key.

    receipt: `{"statement": text, "signature": base64url}`, or ARM's document of it. public_key: 32 bytes.
    """
    properties = receipt.get("properties")
    held = properties if isinstance(properties, Mapping) else receipt
    text, signature = held.get("statement"), held.get("signature")
    if not isinstance(text, str) or not isinstance(signature, str) or len(text) > MAX_STATEMENT:
        raise Fault(FaultKind.INVALID, "That is no receipt: it has no statement, or no signature.")
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(from_text(signature), text.encode())
        stated = json.loads(text)
    except (InvalidSignature, ValueError) as failure:
        raise Fault(
            FaultKind.INVALID, "The receipt was not signed with this key, or was changed afterwards."
        ) from failure
    if not isinstance(stated, dict) or stated.get("statement") != KIND:
        raise Fault(FaultKind.INVALID, "What was signed is no receipt of destruction.")
    return stated


def to_text(value: bytes) -> str:
    """Return bytes as base64url without padding."""
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def from_text(text: str) -> bytes:
    """Read base64url; Fault(INVALID) for anything else."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error) as failure:
        raise Fault(FaultKind.INVALID, "That is not base64url.") from failure


def digest(value: bytes) -> str:
    """Return the SHA-256 in hex."""
    return sha256(value).hexdigest()


def _listed(owner: str, key: WrappedDataKey) -> dict[str, Any]:
    listed: dict[str, Any] = {
        "ownerSha256": digest(owner.lower().encode()),
        "version": key.version,
        "createdAt": key.created_at,
        "wrappedSha256": digest(key.wrapped),
        "platformKeyVersion": key.platform,
    }
    return {**listed, "customerKeySha256": digest(key.customer.encode())} if key.customer else listed
