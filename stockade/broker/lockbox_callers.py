"""Whose calls open what a protected account keeps: those that its statement names, whatever the database says of keys, issuers and roles.

`platform`: whoever policy admits. `issuers`: tokens that a pinned key has signed, for an audience that the statement names or that is Azure's own.
`keys`: subscription keys whose SHA-256 stands there. A ten-minute token stands for a key, but the platform's processes can make one for any key: they
are lent what signs it. So it opens nothing where the platform is not trusted.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from hashlib import sha256
from typing import Final

from stockade.broker.evidence import Proven
from stockade.broker.grants import Grant
from stockade.broker.lockbox_statements import Bound
from stockade.identity.audiences import AI, AI_FOUNDRY
from stockade.identity.compact import NotVerified, import_key
from stockade.kernel.evidence import CallerKey, Evidence
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.principal import KeyCredential, TokenCredential
from stockade.lockbox.statement import Callers, PinnedIssuer, Statement
from stockade.policy.snapshot import IssuerPolicy, Snapshot, VerificationKey

NOT_NAMED: Final = "LockboxCallerNotNamed"
AZURE_AUDIENCES: Final = (AI, AI_FOUNDRY)


def check_caller(snapshot: Snapshot, bound: Bound, evidence: Evidence, proven: Proven) -> None:
    """Raise Fault(LOCKBOX_DENIED) unless the statement names whose evidence this is. proven: what it proves already, by policy."""
    callers = bound.statement.callers
    if callers.platform:
        return
    match proven:
        case Grant(statement=statement):
            if not callers.jobs or statement != bound.digest:
                why = (
                    "jobs are not among its callers" if not callers.jobs else "the job was started before the statement"
                )
                raise _refused(why, "set `jobs` among the callers of the next statement, and start the job again")
        case KeyCredential(via_token=True):
            why = "a token that stands for a subscription key could be one that the platform has made itself"
            raise _refused(why, "call with the subscription key, or with a token of an issuer that the statement pins")
        case KeyCredential():
            if not isinstance(evidence, CallerKey) or not _names_key(callers, evidence.key.reveal()):
                why = "this subscription key is not among its callers"
                raise _refused(why, "sign the key's SHA-256 into the `keys` of the next statement")
        case TokenCredential():
            _check_token(snapshot, callers, proven)


def check_jobs(bound: Bound) -> None:
    """Raise Fault(LOCKBOX_DENIED) where no job is to have keys."""
    callers = bound.statement.callers
    if not callers.platform and not callers.jobs:
        raise _refused("jobs are not among its callers", "set `jobs` among the callers of the next statement")


def check_pins(snapshot: Snapshot, told: Statement, forgotten: frozenset[str]) -> None:
    """Raise Fault(INVALID) for a statement that pins what pins nothing. forgotten: SHA-256 of the keys that the platform has no copy of."""
    for one in told.callers.issuers:
        policy: IssuerPolicy | None = snapshot.only("issuer", one.issuer)
        if policy is not None and policy.local:
            message = f"`{one.issuer}` is this platform, which signs with its own keys: `platform` among the callers says that."
            raise Fault(FaultKind.INVALID, message, code="InvalidStatement", target="callers.issuers")
    for digest in told.callers.keys:
        if digest not in forgotten:
            message = (
                f"`{digest}` is the SHA-256 of no subscription key that only its holder knows. Regenerate the key with "
                '"forget": true, which shows it once and keeps no copy, and sign the SHA-256 of the new one.'
            )
            raise Fault(FaultKind.INVALID, message, code="KeyNotForgotten", target="callers.keys")


def _names_key(callers: Callers, key: bytes) -> bool:
    shown = sha256(key).hexdigest()
    return any([hmac.compare_digest(shown, one) for one in callers.keys])  # noqa: C419 - all of them, whichever it is


def _check_token(snapshot: Snapshot, callers: Callers, shown: TokenCredential) -> None:
    pinned = next((one for one in callers.issuers if one.issuer == shown.issuer), None)
    if pinned is None:
        raise _refused(f"the issuer `{shown.issuer}` is not among its callers", "sign it into the next statement")
    why = _unpinned(snapshot, pinned, shown)
    if why:
        raise _refused(why, "sign a statement that says so, if this is how it should be")


def _unpinned(snapshot: Snapshot, pinned: PinnedIssuer, shown: TokenCredential) -> str:
    """Return what of a token the statement does not name; "" where it names all."""
    policy: IssuerPolicy | None = snapshot.only("issuer", shown.issuer)
    key: VerificationKey | None = snapshot.only("verification-key", (shown.issuer, shown.key_id))
    if policy is None or policy.local or key is None or _thumbprint(snapshot, key) not in pinned.keys:
        return (
            f"the key `{shown.key_id}` of `{shown.issuer}`, which has signed the token, is not the one that was pinned"
        )
    if shown.audience.rstrip("/") not in (pinned.audiences or AZURE_AUDIENCES):
        return f"the token is for `{shown.audience}`, which is not among the audiences"
    if policy.object_id_claim != pinned.claim:
        return f"principals are read from the claim `{policy.object_id_claim}`, and the statement says `{pinned.claim}`"
    if pinned.principals and shown.object_id not in pinned.principals:
        return f"the principal `{shown.object_id}` is not among those that were named"
    return ""


def _thumbprint(snapshot: Snapshot, key: VerificationKey) -> str:
    """Return the thumbprint of the key itself, as it is used, whatever name it has."""

    def compute() -> str:
        try:
            return import_key(key.jwk, key.algorithm).thumbprint()
        except NotVerified:
            return ""

    found: str = snapshot.remembered(("thumbprint", key.issuer, key.key_id), compute)
    return found


def _refused(why: str, helps: str) -> Fault:
    details: Mapping[str, str] = {"callers": why}
    message = f"The account's Lockbox statement does not let this caller read or write what it keeps: {why}. An approver can {helps}."
    return Fault(FaultKind.LOCKBOX_DENIED, message, code=NOT_NAMED, details=details)
