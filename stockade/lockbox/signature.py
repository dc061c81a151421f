"""Signatures over statements and approvals: detached JWS by a key, or a WebAuthn assertion by a passkey.

A JWS (RFC 7515, RFC 7797 for the detached payload) has `alg` of ES256, ES384, PS256, RS256 or Ed25519 and `kid` the approver's id. A passkey's
challenge is the SHA-256 of the payload: what the authenticator signs is that and nothing else.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class Assertion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an authenticator answered, in base64url without padding."""

    credential_id: str
    authenticator_data: str
    client_data_json: str
    signature: str


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One approver's. key: the approver's id in the statement. Exactly one of jws and assertion."""

    key: str
    jws: str = ""
    assertion: Assertion | None = None


class Signed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A payload exactly as it was signed, and who signed it."""

    payload: bytes
    signatures: tuple[Signature, ...]


SignatureForm = Literal["jws", "assertion"]
