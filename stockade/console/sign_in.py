"""Signing in: an application's id and secret, as `stockade identity create` prints them, for a token to ARM from the token service.

The same service, checks, refusals and audit records as at the token endpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from stockade.console.attempts import Attempts
from stockade.console.sessions import Session, Sessions
from stockade.identity import compact
from stockade.identity.audiences import ARM
from stockade.identity.services import IdentityServices
from stockade.identity.tenant import tenant_of
from stockade.identity.token_service import Caller, ClientCredentials, TokenService
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret

MAX_FIELD: Final = 512
_REFUSED: Final = frozenset({FaultKind.UNAUTHENTICATED, FaultKind.NOT_FOUND})


class SignIn:
    """Turns what somebody typed into a session."""

    def __init__(self, services: IdentityServices, sessions: Sessions) -> None:
        self._services, self._sessions = services, sessions
        self._tokens = TokenService(services)
        self._attempts = Attempts(services.clock)

    def attempt(self, form: Mapping[str, str], caller: Caller) -> Session:
        """Return a session; Fault(UNAUTHENTICATED) that does not say whether the id or the secret was wrong, Fault(LIMIT)."""
        self._attempts.require(caller.address)
        client_id, secret = form.get("client_id", "").strip(), form.get("client_secret", "").strip()
        if not client_id or not secret or len(client_id) > MAX_FIELD or len(secret) > MAX_FIELD:
            raise Fault(FaultKind.INVALID, "Enter the application's id and its secret.")
        snapshot = self._services.snapshot()
        tenant = tenant_of(snapshot)
        if tenant is None:
            raise Fault(FaultKind.UNAVAILABLE, "The directory has no tenant yet.")
        asked = ClientCredentials(tenant=tenant.id, client_id=client_id, resource=ARM, secret=Secret(secret))
        try:
            issued = self._tokens.issue_to_client(asked, caller)
        except Fault as fault:
            if fault.kind not in _REFUSED:
                raise
            self._attempts.failed(caller.address)
            message = "That id and secret do not belong together, or the secret has expired. `stockade identity create` prints a pair."
            raise Fault(FaultKind.UNAUTHENTICATED, message) from fault
        object_id = str(compact.read(issued.token.reveal_text()).claims["oid"])
        known = snapshot.only("principal", object_id)
        name = str(known.display_name) if known is not None else client_id
        return Session(object_id, client_id.lower(), name, issued.token, float(issued.expires_on))
