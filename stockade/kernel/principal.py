"""Who is asking, once that has been proven. Unproven claims never have these types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

PrincipalType: TypeAlias = Literal["User", "Group", "ServicePrincipal", "ForeignGroup", "Device"]

EVERYONE = "00000000-0000-0000-0000-000000000000"
"""Deny assignments name this GUID (type SystemDefined) for all principals."""


@dataclass(frozen=True, slots=True)
class KeyCredential:
    """A subscription key that was found in the policy snapshot. `digest` is its keyed digest, never the key."""

    account_id: str
    slot: Literal["Key1", "Key2"]
    digest: bytes
    via_token: bool = False
    """True when presented as a ten-minute token issued for that key."""


@dataclass(frozen=True, slots=True)
class TokenCredential:
    """A verified Entra access token."""

    tenant_id: str
    object_id: str
    app_id: str | None
    audience: str
    issuer: str
    expires_at: float
    groups: tuple[str, ...] = ()
    """Group ids the issuer put into the token; the directory's own memberships are added by the snapshot."""
    scopes: tuple[str, ...] = ()
    identity_type: Literal["app", "user"] = "app"
    token_id: str = ""
    signed_in_at: float = 0.0
    """When its principal proved who it is: `auth_time`, else `iat`. 0: the token does not say."""
    methods: tuple[str, ...] | None = None
    """How (`amr`, RFC 8176): `pwd`, `mfa`. None: the token does not say."""
    key_id: str = ""
    """Of the issuer's key that has signed it: index "verification-key", by (issuer, key id)."""


@dataclass(frozen=True, slots=True)
class RejectedCredential:
    """Something was presented and did not verify. `reason` is a short code for the audit record, e.g. `expired`, `unknown_key`."""

    form: Literal["key", "token", "several"]
    reason: str


@dataclass(frozen=True, slots=True)
class Person:
    """Who did something: a principal, whatever it proved itself with."""

    object_id: str
    app_id: str | None
    name: str

    def is_same(self, other: Person) -> bool:
        """Say whether both are one principal: by object id, or as one application."""
        return self.object_id.lower() == other.object_id.lower() or (
            self.app_id is not None and other.app_id is not None and self.app_id.lower() == other.app_id.lower()
        )


PLATFORM = Person("", None, "Stockade")
"""Who does what becomes due by itself."""


Credential: TypeAlias = KeyCredential | TokenCredential | RejectedCredential
