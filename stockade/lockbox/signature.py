"""Signatures over statements and approvals: detached JWS by a key, or a WebAuthn assertion by a passkey.

A JWS has its payload taken out (RFC 7515, appendix F: `header..signature`); what is signed is `BASE64URL(header).BASE64URL(payload)` as always.
Its header has three members and no others: `alg` (ES256, ES384, PS256, RS256 or Ed25519, as fits the key that the statement has, whatever the
header says), `kid`, the approver's id, and `typ`, so that nothing that the same key signs elsewhere counts here. A passkey's challenge is the
SHA-256 of the payload; origin and relying party are the statement's, and the user has to have been verified. Authenticators' counters are not
compared: synced passkeys have none, and a signature is for one payload, with the broker's nonce in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256, sha384
from typing import Any, Final

import msgspec
from joserfc.errors import JoseError
from joserfc.jws import JWSRegistry

from stockade.kernel.faults import Fault, FaultKind
from stockade.lockbox import strict
from stockade.lockbox.public_keys import Algorithm, PublicKey, algorithms_of, import_jwk
from stockade.lockbox.statement import Approver, Passkey

TYPE: Final = "stockade-lockbox"
MAX_SIGNATURES: Final = 16
_MAX_JWS: Final = 4096
_MAX_PART: Final = 8192


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


def verified(signed: Signed, approvers: Sequence[Approver]) -> tuple[Approver, ...]:
    """Return who has signed; Fault(PERMISSION_DENIED) when any one signature is not good, is a stranger's, or there twice."""
    known = {one.id: one for one in approvers}
    names = [one.key for one in signed.signatures]
    if not 0 < len(names) <= MAX_SIGNATURES or len(set(names)) != len(names):
        raise _refused("it has no signature, too many, or two of one key")
    for one in signed.signatures:
        approver = known.get(one.key)
        if approver is None:
            raise _refused(f"the statement has no key `{one.key[:64]}`")
        if not _holds(one, approver, signed.payload):
            raise _refused(f"the signature of `{approver.id}` does not verify")
    return tuple(known[name] for name in names)


def require(
    signed: Signed, approvers: Sequence[Approver], threshold: int, *, without: Iterable[str] = ()
) -> tuple[Approver, ...]:
    """Return who has signed, and that they are enough: so many keys, of so many principals. Fault(PERMISSION_DENIED) otherwise.

    without: principals that do not count: nobody approves their own request.
    """
    own = frozenset(without)
    counted = tuple(one for one in verified(signed, approvers) if one.principal not in own)
    if min(len({one.id for one in counted}), len({one.principal for one in counted})) < threshold:
        note = ", and nobody signs for their own request" if own else ""
        raise _refused(f"{threshold} of its approvers have to sign, each another person{note}")
    return counted


def signing_input(payload: bytes, key_id: str, algorithm: Algorithm) -> bytes:
    """Return the bytes that a JWS of a payload signs."""
    return f"{_header(key_id, algorithm)}.{strict.base64url(payload)}".encode()


def sign(payload: bytes, key_id: str, key: PublicKey) -> Signature:
    """Return the signature of a private key that is in this process's memory. key_id: the approver's id in the statement."""
    algorithm = algorithms_of(key.as_dict(private=False))[0]
    value = JWSRegistry.algorithms[algorithm].sign(signing_input(payload, key_id, algorithm), key)
    return _jws(key_id, algorithm, value)


def sign_elsewhere(
    payload: bytes, key_id: str, algorithm: Algorithm, sign_digest: Callable[[bytes], bytes]
) -> Signature:
    """Return the signature of a key that is elsewhere, a key vault's say.

    sign_digest: given the digest (SHA-384 for ES384, else SHA-256), returns the signature as JWA has it: of an EC key r and s, each as long as
    the curve's numbers. Ed25519 signs no digest: ValueError.
    """
    if algorithm == "Ed25519":
        raise ValueError("Ed25519 signs messages, not digests")
    hashed = sha384 if algorithm == "ES384" else sha256
    return _jws(key_id, algorithm, sign_digest(hashed(signing_input(payload, key_id, algorithm)).digest()))


def challenge(payload: bytes) -> bytes:
    """Return what a passkey is asked to sign for a payload."""
    return sha256(payload).digest()


def signed_by_passkey(key_id: str, response: Mapping[str, Any]) -> Signature:
    """Return the signature in what a browser's `PublicKeyCredential.toJSON()` gave; ValueError for anything else."""
    try:
        answer = response["response"]
        assertion = Assertion(
            credential_id=str(response["id"]),
            authenticator_data=str(answer["authenticatorData"]),
            client_data_json=str(answer["clientDataJSON"]),
            signature=str(answer["signature"]),
        )
    except (KeyError, TypeError) as failure:
        raise ValueError("that is no passkey's answer") from failure
    return Signature(key=key_id, assertion=assertion)


def _holds(signature: Signature, approver: Approver, payload: bytes) -> bool:
    try:
        if approver.jwk is not None and signature.assertion is None:
            return _jws_holds(signature.jws, approver, import_jwk(approver.jwk), payload)
        if approver.passkey is not None and signature.assertion is not None and not signature.jws:
            return _assertion_holds(signature.assertion, approver.passkey, payload)
    except (ValueError, JoseError):
        pass
    return False


def _jws_holds(jws: str, approver: Approver, key: PublicKey, payload: bytes) -> bool:
    if len(jws) > _MAX_JWS or jws.count(".") != 2:
        return False
    header, between, value = jws.split(".")
    said = strict.members(strict.from_base64url(header))
    algorithm = said.get("alg")
    if between or set(said) != {"alg", "kid", "typ"} or said["kid"] != approver.id or said["typ"] != TYPE:
        return False
    if algorithm not in algorithms_of(approver.jwk or {}):
        return False
    message = f"{header}.{strict.base64url(payload)}".encode()
    return JWSRegistry.algorithms[algorithm].verify(message, strict.from_base64url(value), key)


def _assertion_holds(assertion: Assertion, passkey: Passkey, payload: bytes) -> bool:
    from webauthn import verify_authentication_response  # a tenth of a second that only passkeys are worth

    if assertion.credential_id != passkey.credential_id:
        return False
    answer = {
        "authenticatorData": assertion.authenticator_data,
        "clientDataJSON": assertion.client_data_json,
        "signature": assertion.signature,
    }
    if any(len(part) > _MAX_PART for part in answer.values()):
        return False
    for part in answer.values():
        strict.from_base64url(part)
    if strict.members(strict.from_base64url(assertion.client_data_json)).get("crossOrigin", False) is not False:
        return False
    try:
        verify_authentication_response(
            credential={
                "id": assertion.credential_id,
                "rawId": assertion.credential_id,
                "type": "public-key",
                "response": answer,
            },
            expected_challenge=challenge(payload),
            expected_rp_id=passkey.rp_id,
            expected_origin=passkey.origin,
            credential_public_key=strict.from_base64url(passkey.public_key),
            credential_current_sign_count=0,
            require_user_verification=True,
        )
    except Exception:  # noqa: BLE001 - the library lets through whatever its readers raise, and all of it means no
        return False
    return True


def _header(key_id: str, algorithm: Algorithm) -> str:
    return strict.base64url(msgspec.json.encode({"alg": algorithm, "kid": key_id, "typ": TYPE}))


def _jws(key_id: str, algorithm: Algorithm, value: bytes) -> Signature:
    return Signature(key=key_id, jws=f"{_header(key_id, algorithm)}..{strict.base64url(value)}")


def _refused(why: str) -> Fault:
    return Fault(FaultKind.PERMISSION_DENIED, f"That has not been signed as it has to be: {why}.", code="NotSigned")
