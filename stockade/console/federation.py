"""Signing in at another issuer: what begins here and comes back here, and the session that follows.

The browser keeps what has begun, sealed, for ten minutes; nothing of it is kept here, so nobody fills memory by beginning. Coming back is recorded
whatever comes of it. What the session may do is decided as always: its token is verified again for every request to ARM.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from stockade.console.address import Address
from stockade.console.attempts import Attempts
from stockade.console.sessions import Session
from stockade.console.visit import ROOT
from stockade.identity.audiences import arm_audiences
from stockade.identity.authorization_code import Answered, AuthorizationCode, Begun
from stockade.identity.services import IdentityServices
from stockade.identity.token_service import Caller
from stockade.identity.verify import verify
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.principal import TokenCredential
from stockade.kernel.record import AuditRecord
from stockade.kernel.secret import Secret
from stockade.kernel.threads import BoundedThreads
from stockade.lockbox.strict import base64url, from_base64url

OPERATION: Final = "Stockade.Console/signIn/action"
LONGEST_S: Final = 8 * 3600.0
"""Of a session, however long the issuer's token is good."""
_BOUND_TO: Final = "console-sign-in/1"


class Federation:
    """The issuers that people may sign in at."""

    def __init__(self, services: IdentityServices, threads: BoundedThreads) -> None:
        self._services, self._threads = services, threads
        self._attempts = Attempts(services.clock)
        self._clients = {
            issuer.console.name: AuthorizationCode(issuer, issuer.console, services.clock)
            for issuer in services.settings.issuers
            if issuer.console is not None
        }

    @property
    def names(self) -> list[str]:
        """What they are called in addresses and on the page."""
        return list(self._clients)

    async def begin(self, name: str, following: str, address: Address, caller: Caller) -> tuple[str, str]:
        """Return where to send the browser, and what it keeps until it returns."""
        client = self._client(name)
        self._attempts.require(caller.address)
        begun = Begun.now(client.client, following, self._services.clock.now())
        place = await client.address(begun, _redirect_uri(address, name))
        sealed = self._services.root_key.seal(Secret(msgspec.json.encode(begun)), _BOUND_TO)
        return place, base64url(sealed)

    async def finish(
        self, name: str, query: Mapping[str, str], kept: str, address: Address, caller: Caller
    ) -> tuple[Session, str]:
        """Return the session of somebody who comes back, and where to go on; Fault otherwise, which is on record like the success."""
        client = self._client(name)
        self._attempts.require(caller.address)
        credential: TokenCredential | None = None
        try:
            if not self._services.audit.healthy:
                message = "The audit log cannot be written, so nobody signs in."
                raise Fault(FaultKind.UNAVAILABLE, message, retry_after_s=5)
            begun = self._begun(name, kept)
            snapshot = await self._threads.run(self._services.snapshot)
            answered = await client.answer(begun, query, _redirect_uri(address, name), snapshot)
            token = answered.access_token.reveal_text()
            now, audiences = self._services.clock.now(), arm_audiences(self._services.settings)
            found = verify(snapshot, token, now, audiences)
            if not isinstance(found, TokenCredential) or found.issuer != client.issuer.issuer:
                reason = "another issuer's" if isinstance(found, TokenCredential) else found.reason
                message = (
                    f"You are signed in there, but the access token it gave is not one for this platform ({reason})."
                )
                raise Fault(FaultKind.UNAUTHENTICATED, message)
            credential = found
            known = snapshot.only("principal", credential.object_id)
        except Fault as fault:
            if fault.kind is FaultKind.UNAUTHENTICATED:
                self._attempts.failed(caller.address)
            await self._record(caller, client, None, fault)
            raise
        await self._record(caller, client, credential, None)
        return _session(
            credential, answered, str(known.display_name) if known is not None else "", now
        ), begun.following

    def _client(self, name: str) -> AuthorizationCode:
        client = self._clients.get(name)
        if client is None:
            raise Fault(FaultKind.NOT_FOUND, "There is no such page.")
        return client

    def _begun(self, name: str, kept: str) -> Begun:
        try:
            opened = self._services.root_key.unseal(from_base64url(kept[:4096]), _BOUND_TO)
            begun = msgspec.json.decode(opened.reveal(), type=Begun)
        except (Fault, ValueError) as failure:
            message = "This browser has begun no sign-in, or cookies are off. Begin again."
            raise Fault(FaultKind.UNAUTHENTICATED, message) from failure
        if begun.client != name:
            raise Fault(FaultKind.UNAUTHENTICATED, "Another issuer answered than was asked. Begin again.")
        return begun

    async def _record(
        self, caller: Caller, client: AuthorizationCode, credential: TokenCredential | None, fault: Fault | None
    ) -> None:
        record = AuditRecord(
            time=self._services.clock.now(),
            id=caller.request_id,
            category="Audit",
            phase="decision",
            operation=OPERATION,
            resource=client.issuer.issuer,
            caller_address=caller.address,
            client=caller.client,
            credential="token" if fault is None else "rejected:token",
            principal=credential.object_id if credential is not None else "",
            application=client.client.client_id,
            decision="allow" if fault is None else "deny",
            rule="" if fault is None else "credential",
            reason="" if fault is None else fault.kind.value,
            outcome="success" if fault is None else f"failed:{fault.kind.value}",
        )
        if self._services.audit.healthy:
            await self._services.audit.durable(record)  # nobody is in, or turned away, before that is on disk
        else:
            self._services.audit.record(record)


def _session(credential: TokenCredential, answered: Answered, known_as: str, now: float) -> Session:
    name = known_as or answered.name or answered.subject[:100]
    ends_at = min(credential.expires_at, now + LONGEST_S)
    return Session(credential.object_id, credential.app_id or "", name, answered.access_token, ends_at)


def _redirect_uri(address: Address, name: str) -> str:
    return f"{address.origin}{ROOT}/sign-in/{name}"
