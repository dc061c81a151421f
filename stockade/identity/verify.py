"""Verify access tokens, of our own token service and of further issuers.

Pure: snapshot, token and time in, credential or refusal out. The expensive half (reading, signature) depends on the
token and the key alone, so it can be remembered; the cheap half (is the key still published, the issuer still
trusted, the principal still there and enabled, is it still valid) is asked of the snapshot every time. That is why a
deleted principal's token dies with the next request although its proof is in the cache, and an unrelated change costs
nothing.
Source: RFC 8725 (JWT best current practices), RFC 9068 section 4, contracts, control-plane section 5.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

from joserfc.jwk import ECKey, RSAKey

from stockade.identity.audiences import WELL_KNOWN
from stockade.identity.compact import Compact, NotVerified, check_signature, import_key, instant, read, text
from stockade.identity.external_ids import object_id_of
from stockade.kernel.principal import EVERYONE, RejectedCredential, TokenCredential
from stockade.policy.snapshot import IssuerPolicy, PrincipalPolicy, Snapshot, VerificationKey

LEEWAY_S: Final = 30.0
"""How far clocks may differ, for every time claim."""
MAX_GROUPS: Final = 1_000
MAX_AUDIENCES: Final = 32
MAX_METHODS: Final = 16
CACHE_LIMIT: Final = 8_192


@dataclass(slots=True)
class _Proof:
    """A token whose signature was good under one key, and what it says. Only `built` is ever assigned again."""

    issuer: str
    key_id: str
    key: VerificationKey
    policy: IssuerPolicy
    audiences: tuple[str, ...]
    tenant_id: str | None
    object_id: str
    app_id: str | None
    groups: tuple[str, ...]
    scopes: tuple[str, ...]
    token_id: str
    not_before: float
    expires_at: float
    signed_in_at: float
    methods: tuple[str, ...] | None
    built: tuple[frozenset[str], TokenCredential] | None = None
    """The credential for one listener's audiences. Building it takes as long as all the checks before it."""


class TokenCache:
    """Remembers proofs by the token's digest, the least recently used falling out. For one thread; tokens themselves are not kept."""

    __slots__ = ("_limit", "_proofs")

    def __init__(self, limit: int = CACHE_LIMIT) -> None:
        self._limit = limit
        self._proofs: OrderedDict[bytes, _Proof] = OrderedDict()

    def __len__(self) -> int:
        return len(self._proofs)

    def get(self, digest: bytes) -> _Proof | None:
        proof = self._proofs.get(digest)
        if proof is not None:
            self._proofs.move_to_end(digest)
        return proof

    def put(self, digest: bytes, proof: _Proof) -> None:
        self._proofs[digest] = proof
        if len(self._proofs) > self._limit:
            self._proofs.popitem(last=False)

    def drop(self, digest: bytes) -> None:
        self._proofs.pop(digest, None)


def verify(
    snapshot: Snapshot, token: str, now: float, audiences: frozenset[str], cache: TokenCache | None = None
) -> TokenCredential | RejectedCredential:
    """Return the credential a token proves, or why it proves none.

    audiences: those of this listener, without trailing slashes (`audiences.ai_audiences`, `audiences.arm_audiences`).
    cache:     remembers what does not change; one per worker.
    """
    try:
        if cache is None:
            return _credential(snapshot, _prove(snapshot, token), now, audiences)
        digest = blake2b(token.encode(), digest_size=32).digest()
        proof = cache.get(digest)
        if proof is None or not _in_force(snapshot, proof):
            cache.drop(digest)
            proof = _prove(snapshot, token)
            if proof.expires_at + LEEWAY_S > now:
                cache.put(digest, proof)
        return _credential(snapshot, proof, now, audiences)
    except NotVerified as refusal:
        return RejectedCredential("token", refusal.reason)
    except UnicodeEncodeError:
        return RejectedCredential("token", "malformed")


def _in_force(snapshot: Snapshot, proof: _Proof) -> bool:
    key = snapshot.only("verification-key", (proof.issuer, proof.key_id))
    policy = snapshot.only("issuer", proof.issuer)
    # Unchanged documents keep their compiled objects from snapshot to snapshot, so identity is the usual answer and equality the rare one.
    return (key is proof.key or key == proof.key) and (policy is proof.policy or policy == proof.policy)


def _prove(snapshot: Snapshot, token: str) -> _Proof:
    """Read the token and check its signature with the one key that its issuer publishes under its key id."""
    compact = read(token)
    issuer = compact.claims.get("iss")
    policy = snapshot.only("issuer", issuer) if isinstance(issuer, str) else None
    if not isinstance(policy, IssuerPolicy):
        raise NotVerified("unknown_issuer")
    key_id = compact.header.get("kid")
    if not isinstance(key_id, str):
        raise NotVerified("no_key_id")
    key = snapshot.only("verification-key", (policy.issuer, key_id))
    if not isinstance(key, VerificationKey):
        raise NotVerified("unknown_key")
    imported: RSAKey | ECKey = snapshot.remembered(
        ("imported-key", policy.issuer, key_id), lambda: import_key(key.jwk, key.algorithm)
    )
    check_signature(compact, key.algorithm, imported)
    return _read_claims(compact, policy, key)


def _read_claims(compact: Compact, policy: IssuerPolicy, key: VerificationKey) -> _Proof:
    claims = compact.claims
    expires_at, not_before, issued_at = (instant(claims, name) for name in ("exp", "nbf", "iat"))
    if expires_at is None:
        raise NotVerified("no_expiry")
    subject = text(claims, policy.object_id_claim)
    if subject is None or subject == EVERYONE:
        raise NotVerified("no_object_id")
    scopes = claims.get("scp", "")
    return _Proof(
        issuer=policy.issuer,
        key_id=key.key_id,
        key=key,
        policy=policy,
        audiences=_audiences(claims),
        tenant_id=text(claims, "tid"),
        object_id=subject.lower() if policy.local else object_id_of(policy.issuer, subject),
        app_id=_lower(text(claims, policy.app_id_claim) or text(claims, "azp")),
        groups=() if policy.local else _groups(policy.issuer, claims),
        scopes=tuple(scopes.split()) if isinstance(scopes, str) else (),
        token_id=text(claims, "uti") or text(claims, "jti") or "",
        not_before=max(not_before or 0.0, issued_at or 0.0),
        expires_at=expires_at,
        signed_in_at=instant(claims, "auth_time") or issued_at or 0.0,
        methods=_methods(claims),
    )


def _credential(snapshot: Snapshot, proof: _Proof, now: float, audiences: frozenset[str]) -> TokenCredential:
    """Do every check that time or policy can change the answer of."""
    policy = proof.policy
    if proof.expires_at + LEEWAY_S <= now:
        raise NotVerified("expired")
    if proof.not_before - LEEWAY_S > now:
        raise NotVerified("not_yet_valid")
    if proof.key.not_after is not None and proof.key.not_after <= now:
        raise NotVerified("key_retired")
    if policy.keys_expire_at is not None and policy.keys_expire_at <= now:
        raise NotVerified("issuer_keys_expired")
    principal: PrincipalPolicy | None = snapshot.only("principal", proof.object_id)
    if policy.local:
        _check_local(proof, principal)
    elif principal is not None:
        _check_external(proof, principal)
    if proof.built is not None and proof.built[0] is audiences and not proof.groups:
        return proof.built[1]
    audience = next((name for name in proof.audiences if _fits(name, policy, audiences)), None)
    if audience is None:
        raise NotVerified("wrong_audience")
    credential = TokenCredential(
        tenant_id=policy.tenant_id,
        object_id=proof.object_id,
        app_id=proof.app_id,
        audience=audience,
        issuer=proof.issuer,
        expires_at=proof.expires_at,
        groups=_own_groups(snapshot, proof) if proof.groups else (),
        scopes=proof.scopes,
        identity_type="user" if proof.scopes else "app",
        token_id=proof.token_id,
        signed_in_at=proof.signed_in_at,
        methods=proof.methods,
        key_id=proof.key_id,
    )
    proof.built = (audiences, credential)
    return credential


def _check_local(proof: _Proof, principal: PrincipalPolicy | None) -> None:
    if proof.tenant_id != proof.policy.tenant_id:
        raise NotVerified("wrong_tenant")
    if principal is None or principal.issuer is not None:
        raise NotVerified("unknown_principal")
    if not principal.enabled:
        raise NotVerified("disabled_principal")
    if principal.app_id != proof.app_id:
        raise NotVerified("wrong_application")


def _check_external(proof: _Proof, principal: PrincipalPolicy) -> None:
    # An issuer speaks for its own principals only, even when it writes someone else's object id into a token.
    if principal.issuer != proof.issuer:
        raise NotVerified("foreign_principal")
    if not principal.enabled:
        raise NotVerified("disabled_principal")
    if principal.type == "Group":
        raise NotVerified("group_as_principal")


def _fits(audience: str, policy: IssuerPolicy, audiences: frozenset[str]) -> bool:
    if not policy.audiences:
        return audience in audiences
    return audience in policy.audiences and (audience in audiences or audience not in WELL_KNOWN)


def _own_groups(snapshot: Snapshot, proof: _Proof) -> tuple[str, ...]:
    """Leave out what the directory knows as someone else's, or as no group."""
    kept = []
    for group in proof.groups:
        known: PrincipalPolicy | None = snapshot.only("principal", group)
        if known is None or (known.issuer == proof.issuer and known.type == "Group"):
            kept.append(group)
    return tuple(kept)


def _audiences(claims: Mapping[str, Any]) -> tuple[str, ...]:
    value = claims.get("aud")
    values = value if isinstance(value, list) else [value]
    names = [name.removesuffix("/") for name in values if isinstance(name, str)]
    if len(values) > MAX_AUDIENCES or len(names) != len(values):
        raise NotVerified("malformed")
    return tuple(names)


def _groups(issuer: str, claims: Mapping[str, Any]) -> tuple[str, ...]:
    value = claims.get("groups", [])
    if not isinstance(value, list) or len(value) > MAX_GROUPS or not all(isinstance(name, str) for name in value):
        raise NotVerified("malformed")
    return tuple(object_id_of(issuer, name, group=True) for name in value)


def _methods(claims: Mapping[str, Any]) -> tuple[str, ...] | None:
    value = claims.get("amr")
    if value is None:
        return None
    if not isinstance(value, list) or len(value) > MAX_METHODS or not all(isinstance(name, str) for name in value):
        raise NotVerified("malformed")
    return tuple(value)


def _lower(value: str | None) -> str | None:
    return value.lower() if value is not None else None
