"""The managed-identity endpoint: plain HTTP on loopback, in the forms of Azure's instance metadata and of App Service.

The metadata form has no secret, so it serves only this machine's identity and the user-assigned ones the operator
names in the settings. Programs that forward what strangers send them are its danger: the `Metadata` header, the
refusal of `X-Forwarded-For` and the check of `Host` keep browsers, proxies and rebound DNS names out. The App Service
form takes a secret per identity, which also selects it.
Source: contracts, control-plane section 5 (managed identity) and clients 4a.
"""

from __future__ import annotations

import base64
import hmac
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stockade.identity.services import IdentityServices
from stockade.identity.token_service import Caller, TokenService
from stockade.identity.tokens import IssuedToken
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.ids import new_guid
from stockade.kernel.resource_id import is_guid
from stockade.kernel.secret import Secret
from stockade.kernel.threads import BoundedThreads
from stockade.keys.root import RootKey
from stockade.policy.snapshot import Snapshot

HOSTS: Final = frozenset({"localhost", "127.0.0.1", "[::1]", "169.254.169.254"})
REQUESTS_PER_S: Final = 20.0
BURST: Final = 40.0
"""Per identity; refused requests share one allowance."""
THREADS: Final = 4
MAX_WAITING: Final = 128
MAX_VALUE: Final = 2_048

BY_KIND: Final[Mapping[FaultKind, tuple[int, str]]] = dict.fromkeys(FaultKind, (400, "invalid_request")) | {
    FaultKind.UNAUTHENTICATED: (401, "unauthorized_client"),
    FaultKind.KEY_REJECTED: (401, "unauthorized_client"),
    FaultKind.PERMISSION_DENIED: (403, "unauthorized_client"),
    FaultKind.AUTHORIZATION_FAILED: (403, "unauthorized_client"),
    FaultKind.METHOD_NOT_ALLOWED: (405, "invalid_request"),
    FaultKind.LIMIT: (429, "too_many_requests"),
    FaultKind.UNAVAILABLE: (503, "temporarily_unavailable"),
    FaultKind.UPSTREAM_FAILED: (503, "temporarily_unavailable"),
    FaultKind.UPSTREAM_TIMEOUT: (503, "temporarily_unavailable"),
    FaultKind.INTERNAL: (500, "unknown"),
}
"""Status and error word per kind of fault. An unknown identity is 400: that is what credential chains take for "none here"."""

log = logging.getLogger(__name__)


def identity_header(root_key: RootKey, object_id: str) -> Secret:
    """Return the value of `IDENTITY_HEADER` for one identity. It is derived, so nothing is stored, and lives as long as the identity."""
    key = root_key.derive("identity-header/1")
    proof = hmac.new(key.reveal(), object_id.lower().encode(), sha256).digest()
    return Secret(f"{object_id.lower()}.{base64.urlsafe_b64encode(proof).rstrip(b'=').decode()}")


def metadata_app(services: IdentityServices) -> Starlette:
    """Return the ASGI application of the metadata port."""
    endpoints = _Endpoints(services)
    methods = ["GET", "POST", "PUT", "DELETE", "PATCH"]
    return Starlette(
        routes=[
            Route("/metadata/identity/oauth2/token", endpoints.instance, methods=methods),
            Route("/metadata/identity/oauth2/token/", endpoints.instance, methods=methods),
            Route("/msi/token", endpoints.app_service, methods=methods),
            Route("/msi/token/", endpoints.app_service, methods=methods),
        ]
    )


class Pace:
    """A token bucket per name. The names are our own identities, so their number is bounded."""

    def __init__(self, per_second: float, burst: float) -> None:
        self._per_second, self._burst = per_second, burst
        self._levels: dict[str, tuple[float, float]] = {}

    def take(self, name: str, now: float) -> None:
        """Take one; Fault(LIMIT) with the time to wait when none is left. now: monotonic seconds."""
        level, since = self._levels.get(name, (self._burst, now))
        level = min(self._burst, level + (now - since) * self._per_second)
        if level < 1:
            self._levels[name] = (level, now)
            raise Fault(FaultKind.LIMIT, "Too many requests.", retry_after_s=(1 - level) / self._per_second)
        self._levels[name] = (level - 1, now)


@dataclass(frozen=True, slots=True)
class _Selectors:
    """How a request names a user-assigned identity; all empty for the default one."""

    client_id: str
    object_id: str
    resource_id: str

    def fits(self, snapshot: Snapshot, object_id: str) -> bool:
        """Say whether everything that was named means this identity."""
        return (
            (not self.client_id or snapshot.only("application", self.client_id.lower()) == object_id)
            and (not self.object_id or self.object_id.lower() == object_id)
            and (not self.resource_id or snapshot.only("managed-identity", self.resource_id.lower()) == object_id)
        )

    @property
    def empty(self) -> bool:
        return not (self.client_id or self.object_id or self.resource_id)


class _Endpoints:
    def __init__(self, services: IdentityServices) -> None:
        self._services = services
        self._tokens = TokenService(services)
        self._pace = Pace(REQUESTS_PER_S, BURST)
        self._threads = BoundedThreads(THREADS, MAX_WAITING)
        self._offered = frozenset(name.lower() for name in services.settings.metadata.user_assigned)

    async def instance(self, request: Request) -> Response:
        """Answer in the form of Azure's instance metadata service."""
        return await self._answer(request, self._instance_identity, _imds_refusal)

    async def app_service(self, request: Request) -> Response:
        """Answer in the form of App Service, 2019-08-01 and 2017-09-01."""
        return await self._answer(request, self._app_service_identity, _app_service_refusal)

    async def _answer(
        self,
        request: Request,
        identify: Callable[[Request, Snapshot], str],
        refuse: Callable[[Fault, str], Response],
    ) -> Response:
        caller = Caller(
            request.client.host if request.client is not None else "", request.headers.get("user-agent", ""), new_guid()
        )
        recorded = False
        try:
            _check_origin(request)
            snapshot = await self._threads.run(self._services.snapshot)
            object_id = identify(request, snapshot)
            resource = _parameter(request, "resource")
            if not resource:
                raise Fault(FaultKind.INVALID, "Required query variable 'resource' is missing", target="resource")
            self._pace.take(object_id, self._services.clock.monotonic())
            recorded = True
            issued = await self._threads.run(self._tokens.issue_to_identity, object_id, resource, caller)
            return self._granted(issued, resource, snapshot, object_id, caller.request_id)
        except Fault as fault:
            failed = fault
        except Exception:
            log.exception("a request to the metadata endpoint failed", extra={"request": caller.request_id})
            failed = Fault(FaultKind.INTERNAL, "The request could not be handled.")
        if not recorded:
            try:
                self._pace.take("", self._services.clock.monotonic())
            except Fault as limit:
                return refuse(limit, caller.request_id)
            try:
                await self._threads.run(self._tokens.refuse, caller, failed)
            except Fault as unwritable:
                failed = unwritable
        return refuse(failed, caller.request_id)

    def _granted(
        self, issued: IssuedToken, resource: str, snapshot: Snapshot, object_id: str, request_id: str
    ) -> Response:
        left = str(issued.expires_in(self._services.clock.now()))
        principal = snapshot.only("principal", object_id)
        body = {
            "access_token": issued.token.reveal_text(),
            "client_id": principal.app_id if principal is not None else "",
            "expires_in": left,
            "expires_on": str(issued.expires_on),
            "ext_expires_in": left,
            "not_before": str(issued.not_before),
            "resource": resource,
            "token_type": "Bearer",
        }
        return JSONResponse(body, headers={**_HEADERS, "x-ms-request-id": request_id})

    def _instance_identity(self, request: Request, snapshot: Snapshot) -> str:
        if request.headers.get("metadata", "").lower() != "true":
            raise Fault(FaultKind.INVALID, "Required metadata header not specified", target="Metadata")
        if not _parameter(request, "api-version"):
            raise Fault(FaultKind.INVALID, "Required query variable 'api-version' is missing", target="api-version")
        selectors = _selectors(request)
        machine = snapshot.only("machine", "")
        if isinstance(machine, str) and selectors.fits(snapshot, machine):
            return machine
        if not selectors.empty:
            for name in self._offered:
                found = snapshot.only("managed-identity", name)
                if isinstance(found, str) and selectors.fits(snapshot, found):
                    return found
        raise Fault(FaultKind.NOT_FOUND, "Identity not found")

    def _app_service_identity(self, request: Request, snapshot: Snapshot) -> str:
        version = _parameter(request, "api-version")
        if version not in {"2019-08-01", "2017-09-01"}:
            raise Fault(FaultKind.INVALID, "Use api-version 2019-08-01 or 2017-09-01.", target="api-version")
        presented = request.headers.get("x-identity-header" if version == "2019-08-01" else "secret", "")
        object_id = presented.partition(".")[0].lower()
        expected = identity_header(self._services.root_key, object_id if is_guid(object_id) else "")
        if not expected.matches(presented.encode("utf-8", "surrogateescape")) or not is_guid(object_id):
            raise Fault(FaultKind.UNAUTHENTICATED, "The identity header is missing or not valid.")
        if not _selectors(request).fits(snapshot, object_id):
            raise Fault(FaultKind.NOT_FOUND, "Identity not found")
        return object_id


def _check_origin(request: Request) -> None:
    if request.method != "GET":
        raise Fault(FaultKind.METHOD_NOT_ALLOWED, "Use GET.")
    if "x-forwarded-for" in request.headers:
        raise Fault(FaultKind.INVALID, "Forwarded requests are not answered.", target="X-Forwarded-For")
    host = request.headers.get("host", "").lower()
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    if name not in HOSTS:
        raise Fault(FaultKind.INVALID, "The Host header is not a loopback address.", target="Host")


def _selectors(request: Request) -> _Selectors:
    return _Selectors(
        client_id=_either(request, "client_id", "clientid"),
        object_id=_either(request, "object_id", "principal_id"),
        resource_id=_either(request, "msi_res_id", "mi_res_id").rstrip("/"),
    )


def _either(request: Request, *names: str) -> str:
    given = {value for name in names if (value := _parameter(request, name))}
    if len(given) > 1:
        raise Fault(FaultKind.INVALID, f"'{names[0]}' and '{names[1]}' disagree.", target=names[0])
    return given.pop() if given else ""


def _parameter(request: Request, name: str) -> str:
    values = request.query_params.getlist(name)
    if len(values) > 1 or any(len(value) > MAX_VALUE for value in values):
        raise Fault(FaultKind.INVALID, f"Query variable '{name}' is too long or given more than once", target=name)
    return values[0] if values else ""


def _imds_refusal(fault: Fault, request_id: str) -> Response:
    status, error = BY_KIND[fault.kind]
    if fault.code == "500011":
        error = "invalid_resource"
    description = f"AADSTS{fault.code}: {fault.message}" if fault.code is not None else fault.message
    return JSONResponse({"error": error, "error_description": description}, status, _refusal_headers(fault, request_id))


def _app_service_refusal(fault: Fault, request_id: str) -> Response:
    status, _ = BY_KIND[fault.kind]
    message = f"AADSTS{fault.code}: {fault.message}" if fault.code is not None else fault.message
    body = {"statusCode": status, "message": message, "correlationId": request_id}
    return JSONResponse(body, status, _refusal_headers(fault, request_id))


def _refusal_headers(fault: Fault, request_id: str) -> dict[str, str]:
    headers = {**_HEADERS, "x-ms-request-id": request_id}
    if fault.retry_after_s is not None:
        headers["retry-after"] = str(max(1, math.ceil(fault.retry_after_s)))
    return headers


_HEADERS: Final = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
