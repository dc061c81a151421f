"""The token service without its wire: who proved what, and which token that earns. Every answer is an audit record.

Synchronous: callers run it in threads. One database read per token; the signature takes most of the time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from stockade.audit.log import commit_refusal
from stockade.identity import client_assertion, tokens
from stockade.identity.audiences import audience_for
from stockade.identity.client_secrets import MAX_LENGTH, SecretDigester
from stockade.identity.compact import NotVerified
from stockade.identity.principals import PRINCIPALS, Principal, view
from stockade.identity.services import IdentityServices
from stockade.identity.signing_keys import TOKEN_LIFE_S, KeyRing
from stockade.identity.tenant import local_issuer, tenant_of
from stockade.identity.tokens import IssuedToken
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.record import AuditRecord
from stockade.kernel.secret import Secret
from stockade.policy import rbac
from stockade.policy.snapshot import Snapshot
from stockade.storage.documents import Document

OPERATION: Final = "Stockade.Identity/tokens/issue"
HELD_LIMIT: Final = 1_024
"""Tokens of managed identities kept for the next caller."""
PLACEHOLDER_TENANTS: Final = frozenset({"common", "organizations", "consumers"})

Proof: TypeAlias = Literal["secret", "certificate", "managed"]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as far as the network tells."""

    address: str
    client: str
    request_id: str


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """A client-credentials request, taken apart. Exactly one of `secret` and `assertion` is used."""

    tenant: str
    client_id: str
    resource: str
    secret: Secret | None = field(default=None, repr=False)
    assertion: str | None = field(default=None, repr=False)


class TokenService:
    """Issues tokens to applications that prove themselves, and to managed identities."""

    def __init__(self, services: IdentityServices) -> None:
        self._services = services
        self._keys = KeyRing(services.root_key)
        self._digester = SecretDigester(services.root_key)
        self._held: OrderedDict[tuple[str, str], IssuedToken] = OrderedDict()

    def issue_to_client(self, request: ClientCredentials, caller: Caller) -> IssuedToken:
        """Issue a token for client credentials; Fault with the AADSTS code otherwise."""
        proof: Proof = "secret" if request.assertion is None else "certificate"
        known: list[Principal] = []
        try:
            snapshot = self._snapshot()
            self._check_tenant(snapshot, request.tenant)
            document = self._application(snapshot, request)
            known.append(view(document))
            if request.assertion is None:
                self._check_secret(document, request)
            else:
                self._check_assertion(document, request.tenant, request.assertion)
            issued = self._issue(snapshot, known[0], request.resource, proof)
        except Fault as fault:
            self._audit(caller, proof, request.client_id, known[0] if known else None, request.resource, fault)
            raise
        self._audit(caller, proof, request.client_id, known[0], request.resource, None)
        return issued

    def issue_to_identity(self, object_id: str, resource: str, caller: Caller) -> IssuedToken:
        """Issue a token to a managed identity or this machine. The caller has decided that it may have one.

        A token that has more than half of its life left is given out again: programs that do not cache ask for every call they make.
        """
        principal: Principal | None = None
        try:
            snapshot = self._snapshot()
            with self._services.database.read() as reader:
                document = reader.get(PRINCIPALS + object_id)
            principal = view(document) if document is not None else None
            if principal is None or principal.kind not in {"managedIdentity", "machine"} or not principal.enabled:
                raise Fault(FaultKind.NOT_FOUND, "Identity not found")
            issued = self._held_token(object_id, resource) or self._issue(snapshot, principal, resource, "managed")
        except Fault as fault:
            self._audit(
                caller, "managed", principal.app_id if principal is not None else "", principal, resource, fault
            )
            raise
        self._held[object_id, resource] = issued
        while len(self._held) > HELD_LIMIT:
            self._held.popitem(last=False)
        self._audit(caller, "managed", principal.app_id, principal, resource, None)
        return issued

    def refuse(self, caller: Caller, fault: Fault) -> None:
        """Record a request that was refused before it was understood, in a thread; Fault(UNAVAILABLE) when it cannot be."""
        self._audit(caller, "", "", None, "", fault)

    def _held_token(self, object_id: str, resource: str) -> IssuedToken | None:
        held = self._held.get((object_id, resource))
        return held if held is not None and held.expires_in(self._services.clock.now()) > TOKEN_LIFE_S / 2 else None

    def _snapshot(self) -> Snapshot:
        if not self._services.audit.healthy:
            message = f"The audit log cannot be written ({self._services.audit.why}), so no tokens are issued."
            raise Fault(FaultKind.UNAVAILABLE, message, retry_after_s=5)
        return self._services.snapshot()

    def _check_tenant(self, snapshot: Snapshot, named: str) -> None:
        if named.lower() in PLACEHOLDER_TENANTS:
            raise Fault(
                FaultKind.INVALID, f"'{named}' names no tenant; use the tenant's id for this grant.", code="50059"
            )
        tenant = tenant_of(snapshot)
        if tenant is None or named.lower() != tenant.id:
            raise Fault(FaultKind.NOT_FOUND, f"Tenant '{named[:100]}' not found. Check the tenant id.", code="90002")

    def _application(self, snapshot: Snapshot, request: ClientCredentials) -> Document:
        object_id = snapshot.only("application", request.client_id.lower())
        with self._services.database.read() as reader:
            document = reader.get(PRINCIPALS + object_id) if isinstance(object_id, str) else None
        if document is None:
            message = f"Application with identifier '{request.client_id[:100]}' was not found in the directory '{request.tenant}'."
            raise Fault(FaultKind.NOT_FOUND, message, code="700016")
        if document.body["enabled"] is not True:
            raise Fault(
                FaultKind.UNAUTHENTICATED, f"Application '{request.client_id[:100]}' is disabled.", code="7000112"
            )
        return document

    def _check_secret(self, document: Document, request: ClientCredentials) -> None:
        app_id, now, presented = str(document.body["appId"]), self._services.clock.now(), request.secret
        if presented is None or not len(presented):
            message = "The request body must contain the following parameter: 'client_assertion' or 'client_secret'."
            raise Fault(FaultKind.UNAUTHENTICATED, message, code="7000218")
        held: list[Mapping[str, Any]] = (
            list(document.private.get("secrets", ())) if len(presented) <= MAX_LENGTH else []
        )
        # Every stored secret is compared, whether or not an earlier one fits: time tells nothing about which.
        fitting = [entry for entry in held if self._digester.matches(entry["digest"], app_id, presented)]
        if not fitting:
            message = (
                "Invalid client secret provided. Send the secret's value, not its id, "
                f"and one that belongs to application '{app_id}'."
            )
            raise Fault(FaultKind.UNAUTHENTICATED, message, code="7000215")
        if all(entry["expiresAt"] <= now for entry in fitting):
            raise Fault(
                FaultKind.UNAUTHENTICATED,
                f"The provided client secret of application '{app_id}' has expired.",
                code="7000222",
            )

    def _check_assertion(self, document: Document, tenant_id: str, assertion: str) -> None:
        base = f"{self._services.settings.authority}/{tenant_id.lower()}"
        audiences = {base, f"{base}/v2.0", f"{base}/oauth2/v2.0/token", f"{base}/oauth2/token"}
        certificates, now = document.private.get("certificates", ()), self._services.clock.now()
        try:
            client_assertion.check_assertion(assertion, str(document.body["appId"]), certificates, audiences, now)
        except NotVerified as refusal:
            code, message = _ASSERTION_REFUSALS.get(refusal.reason, _ASSERTION_MALFORMED)
            raise Fault(FaultKind.UNAUTHENTICATED, message, code=code, details={"reason": refusal.reason}) from refusal

    def _issue(self, snapshot: Snapshot, principal: Principal, resource: str, proof: Proof) -> IssuedToken:
        audience = audience_for(self._services.settings, resource)
        if audience is None:
            message = f"The resource principal named {resource[:200]} was not found in the tenant named {principal.tenant_id}."
            raise Fault(FaultKind.NOT_FOUND, message, code="500011")
        authority = self._services.settings.authority
        key = self._keys.held(snapshot, local_issuer(authority, principal.tenant_id))
        if key is None:
            with self._services.database.read() as reader:
                key = self._keys.current(reader)
        return tokens.issue(
            key,
            principal,
            authority=authority,
            audience=audience,
            proof=proof,
            groups=rbac.identities(snapshot, principal.object_id) - {principal.object_id},
            now=self._services.clock.now(),
        )

    def _audit(
        self,
        caller: Caller,
        proof: str,
        client_id: str | None,
        principal: Principal | None,
        resource: str,
        fault: Fault | None,
    ) -> None:
        record = AuditRecord(
            time=self._services.clock.now(),
            id=caller.request_id,
            category="Audit",
            phase="decision",
            operation=OPERATION,
            resource=_printable(resource),
            caller_address=caller.address,
            client=_printable(caller.client),
            credential=proof if fault is None else f"rejected:{proof}",
            principal=principal.object_id if principal is not None else "",
            application=_printable(client_id or ""),
            decision="allow" if fault is None else "deny",
            rule="" if fault is None else "credential",
            reason="" if fault is None else (fault.code or fault.kind.value),
            outcome="success" if fault is None else f"failed:{fault.kind.value}",
        )
        if fault is None:
            self._services.audit.record(record)
        else:
            commit_refusal(self._services.audit, record)


_ASSERTION_MALFORMED: Final = ("50027", "The client assertion is not a JWT of the accepted form.")
_ASSERTION_REFUSALS: Final[Mapping[str, tuple[str, str]]] = {
    "bad_signature": ("700027", "The client assertion's signature does not verify with the registered certificate."),
    "bad_algorithm": (
        "700027",
        "The client assertion is signed with an algorithm that does not belong to the registered certificate.",
    ),
    "unknown_certificate": (
        "700027",
        "The client assertion names a certificate that is not registered for the application.",
    ),
    "certificate_expired": ("700027", "The certificate the client assertion is signed with has expired."),
    "expired": ("700024", "The client assertion is not within its valid time range."),
    "lives_too_long": ("700024", "The client assertion's lifetime is too long; an hour is the most."),
    "wrong_audience": ("700023", "The client assertion's audience is not this token endpoint."),
    "wrong_application": ("700021", "The client assertion's issuer and subject are not the client_id of the request."),
}


def _printable(text: str) -> str:
    """Cut what a stranger sent to something a log line can hold."""
    return "".join(character if character.isprintable() else "?" for character in text[:120])
