"""What evidence proves: verified here, against this process's own snapshot, whatever the asking process has found already.

A subscription key by its keyed digest, a token by its issuer's signature, a job's grant by the MAC of this broker. Proven, it is asked what it
may do: keys carry every data action of their account, principals need a role, a grant says it itself.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Final

from stockade.broker.grants import Grant, Grants
from stockade.identity.audiences import ai_audiences, arm_audiences, vault_audiences
from stockade.identity.verify import TokenCache, verify
from stockade.kernel.control import Control
from stockade.kernel.evidence import ArmToken, CallerKey, CallerToken, Evidence, JobGrant, OperatorGrant
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.principal import KeyCredential, RejectedCredential, TokenCredential
from stockade.kernel.secret import Secret
from stockade.keys.content_actions import PREFIX, relative
from stockade.keys.root import RootKey
from stockade.keys.session_token import SessionTokens
from stockade.keys.subscription import DIGEST_PURPOSE, KeyDigester
from stockade.policy import rbac
from stockade.policy.snapshot import AccountPolicy, KeyPolicy, Snapshot
from stockade.services.session_tokens.service import PURPOSE as SESSION_PURPOSE
from stockade.settings import Settings

MAX_KEY: Final = 512
MAX_TOKEN: Final = 32 * 1024

Proven = KeyCredential | TokenCredential | Grant


@dataclass(frozen=True, slots=True)
class Named:
    """How a record names who showed something."""

    kind: str
    """`key`, `token`, `job`, `arm`; `policy` where nobody asked and what is stored decided."""
    credential: str
    principal: str = ""
    application: str = ""


def named(evidence: Evidence | None, proven: Proven | None) -> Named:
    """Return how to name who showed evidence, None: nobody did; proven: None where it did not hold."""
    if evidence is None:
        return Named("policy", "none")
    kind = {CallerKey: "key", CallerToken: "token", JobGrant: "job", ArmToken: "arm", OperatorGrant: "operator"}[
        type(evidence)
    ]
    match proven:
        case KeyCredential(slot=slot, via_token=via_token):
            return Named(kind, f"sts:{slot}" if via_token else slot)
        case TokenCredential(object_id=object_id, app_id=app_id):
            return Named(kind, "token", object_id, app_id or "")
        case Grant(job=job, starter=starter):
            return Named(kind, f"job:{job}", starter)
    return Named(kind, "rejected")


class Verifier:
    """Verifies evidence. keys: derives what subscription keys' digests and session tokens are made with."""

    def __init__(self, settings: Settings, keys: RootKey, grants: Grants) -> None:
        self._digester = KeyDigester(keys.derive(DIGEST_PURPOSE))
        self._sessions = SessionTokens(keys.derive(SESSION_PURPOSE))
        self._grants = grants
        self._ai, self._vault, self._arm = ai_audiences(settings), vault_audiences(settings), arm_audiences(settings)
        # The same token is shown once a lease; a cache belongs to one thread, hence the lock.
        self._proofs, self._lock = TokenCache(), threading.Lock()

    def prove(self, snapshot: Snapshot, account: AccountPolicy, evidence: Evidence, now: float) -> Proven:
        """Return what evidence proves to an account; Fault(UNAUTHENTICATED) for what does not hold, Fault(KEY_REJECTED) for a strange key."""
        found: KeyCredential | TokenCredential | RejectedCredential
        match evidence:
            case CallerKey(key=key):
                found = self._key(snapshot, key.reveal())
            case CallerToken(token=token):
                found = self._token(snapshot, token.reveal(), now)
            case JobGrant(grant=grant):
                return self._grants.read(grant, account.id, now)
            case ArmToken():
                raise _not_proven("What was shown to ARM opens no content.")
            case OperatorGrant():  # which `lockbox.py` proves
                raise _not_proven("An operator's grant opens content for reading, and nothing else.")
        match found:
            case RejectedCredential(reason=reason):
                raise _not_proven(f"The credential does not hold: {reason}.")
            case KeyCredential(account_id=account_id) if account_id != account.id:
                raise Fault(FaultKind.KEY_REJECTED, "The subscription key is not this resource's.")
            case KeyCredential() if not account.local_auth and account.mode(Control.LOCAL_AUTH) == "enforce":
                raise Fault(FaultKind.LOCAL_AUTH_DISABLED, "The resource takes no subscription keys.")
        return found

    def prove_to_vault(self, snapshot: Snapshot, evidence: Evidence, now: float) -> TokenCredential:
        """Return the principal that a vault's caller is; Fault(UNAUTHENTICATED) for everything but a token for key vaults."""
        if not isinstance(evidence, CallerToken):
            raise _not_proven("Key vaults take access tokens only.")
        return self._principal(snapshot, evidence.token, now, self._vault)

    def prove_to_arm(self, snapshot: Snapshot, evidence: ArmToken, now: float) -> TokenCredential:
        """Return the principal that ARM's caller is; Fault(UNAUTHENTICATED) for everything but a token for ARM."""
        return self._principal(snapshot, evidence.token, now, self._arm)

    def _principal(self, snapshot: Snapshot, shown: Secret, now: float, audiences: frozenset[str]) -> TokenCredential:
        found = self._verify(snapshot, _text(shown.reveal(), MAX_TOKEN), now, audiences)
        if isinstance(found, RejectedCredential):
            raise _not_proven(f"The token does not hold: {found.reason}.")
        return found

    def _key(self, snapshot: Snapshot, key: bytes) -> KeyCredential | RejectedCredential:
        if len(key) > MAX_KEY:
            return RejectedCredential("key", "too_long")
        digest = self._digester.digest(key)
        found: KeyPolicy | None = snapshot.only("key", digest)
        if found is None:
            raise Fault(FaultKind.KEY_REJECTED, "The subscription key is not this resource's.")
        return KeyCredential(found.account_id, found.slot, digest)

    def _token(
        self, snapshot: Snapshot, presented: bytes, now: float
    ) -> KeyCredential | TokenCredential | RejectedCredential:
        token = _text(presented, MAX_TOKEN)
        if not self._sessions.is_one(token):
            return self._verify(snapshot, token, now, self._ai)
        found = self._sessions.read(token, now)
        if isinstance(found, KeyCredential):
            key: KeyPolicy | None = snapshot.only("key", found.digest)
            if key is None or key.account_id != found.account_id:
                return RejectedCredential("token", "key_regenerated")
        return found

    def _verify(
        self, snapshot: Snapshot, token: str, now: float, audiences: frozenset[str]
    ) -> TokenCredential | RejectedCredential:
        with self._lock:
            return verify(snapshot, token, now, audiences, self._proofs)


def check_action(snapshot: Snapshot, account: AccountPolicy, proven: Proven, data_action: str, now: float) -> None:
    """Raise Fault(PERMISSION_DENIED) unless what is proven carries a data action on the account."""
    action = relative(data_action)
    match proven:
        case KeyCredential():
            return
        case Grant(data_action=granted):
            if granted.lower() != action.lower():
                raise Fault(FaultKind.PERMISSION_DENIED, "The job was not granted that data action.")
        case TokenCredential(object_id=object_id, groups=groups):
            if account.mode(Control.RBAC) != "enforce":
                return
            whole = PREFIX + action
            access = rbac.check(snapshot, object_id, groups, whole, account.id, now=now, data=True)
            if not isinstance(access, rbac.Granted):
                message = f"The principal `{object_id}` lacks the data action `{whole}`."
                raise Fault(FaultKind.PERMISSION_DENIED, message, details={"dataAction": whole})


def _text(value: bytes, limit: int) -> str:
    if len(value) > limit:
        raise _not_proven("The credential does not hold: too_long.")
    try:
        return value.decode()
    except UnicodeDecodeError as failure:
        raise _not_proven("The credential does not hold: malformed.") from failure


def _not_proven(message: str) -> Fault:
    return Fault(FaultKind.UNAUTHENTICATED, message)
