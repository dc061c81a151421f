"""The Entra-compatible endpoints of the control plane: discovery, published keys, tokens.

Source: contracts, control-plane section 5 and clients 4a, 4b; OpenID Connect Discovery 1.0; RFC 6749 sections 2.3.1
and 4.4.
"""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import parse_qsl, unquote_plus, urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stockade.identity import client_assertion, entra_wire, graph, signing_keys
from stockade.identity.compact import MAX_TOKEN_BYTES
from stockade.identity.request_body import read_body
from stockade.identity.services import IdentityServices
from stockade.identity.tenant import Tenant, local_issuer, tenant_of
from stockade.identity.token_service import PLACEHOLDER_TENANTS, Caller, ClientCredentials, TokenService
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.ids import new_guid
from stockade.kernel.resource_id import is_guid
from stockade.kernel.secret import Secret
from stockade.kernel.threads import BoundedThreads

MAX_FORM_BYTES: Final = 32 * 1024
MAX_FIELDS: Final = 40
BODY_TIMEOUT_S: Final = 10.0
THREADS: Final = 4
"""Tokens signed at once; a signature is a millisecond of CPU."""
MAX_WAITING: Final = 256
"""Token requests under way; above it the answer is 503, so that a flood cannot fill memory."""
DEFAULT_SCOPE: Final = "/.default"

log = logging.getLogger(__name__)


def routes(services: IdentityServices) -> list[Route]:
    """Return the control plane's identity routes, the directory look-ups included. They must stand before any catch-all route."""
    endpoints = _Endpoints(services)
    paths: list[tuple[str, Callable[[Request], Any]]] = [
        ("/common/discovery/instance", endpoints.instance),
        ("/{tenant}/v2.0/.well-known/openid-configuration", endpoints.discovery_v2),
        ("/{tenant}/.well-known/openid-configuration", endpoints.discovery_v1),
        ("/{tenant}/discovery/v2.0/keys", endpoints.keys),
        ("/{tenant}/discovery/keys", endpoints.keys),
        ("/{tenant}/oauth2/v2.0/token", endpoints.token_v2),
        ("/{tenant}/oauth2/token", endpoints.token_v1),
        ("/{tenant}/oauth2/v2.0/authorize", endpoints.interactive),
        ("/{tenant}/oauth2/authorize", endpoints.interactive),
        ("/{tenant}/oauth2/v2.0/devicecode", endpoints.interactive),
        ("/{tenant}/oauth2/devicecode", endpoints.interactive),
    ]
    return [Route(path, endpoint, methods=["GET", "POST"]) for path, endpoint in paths] + graph.routes(services)


class _Endpoints:
    def __init__(self, services: IdentityServices) -> None:
        self._services = services
        self._authority = services.settings.authority
        self._tokens = TokenService(services)
        self._threads = BoundedThreads(THREADS, MAX_WAITING)

    # Discovery

    async def discovery_v2(self, request: Request) -> Response:
        return await self._guarded(request, self._discovery, version="v2.0")

    async def discovery_v1(self, request: Request) -> Response:
        return await self._guarded(request, self._discovery, version="")

    async def keys(self, request: Request) -> Response:
        return await self._guarded(request, self._keys)

    async def instance(self, request: Request) -> Response:
        return await self._guarded(request, self._instance)

    async def interactive(self, request: Request) -> Response:
        return await self._guarded(request, self._interactive)

    async def _discovery(self, request: Request, *, version: str) -> Response:
        _, named = await self._tenant(request)
        base = f"{self._authority}/{named}"
        part = f"/{version}" if version else ""
        # For `common` the issuer is a template, as Entra publishes it: which tenant will issue is not known yet.
        issuer = local_issuer(self._authority, "{tenantid}" if named in PLACEHOLDER_TENANTS else named)
        document = {
            "issuer": issuer + version,
            "token_endpoint": f"{base}/oauth2{part}/token",
            "authorization_endpoint": f"{base}/oauth2{part}/authorize",
            "device_authorization_endpoint": f"{base}/oauth2{part}/devicecode",
            "jwks_uri": f"{base}/discovery{part}/keys",
            "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic", "private_key_jwt"],
            "token_endpoint_auth_signing_alg_values_supported": ["RS256", "RS384", "RS512", "PS256", "ES256", "ES384"],
            "grant_types_supported": ["client_credentials"],
            "response_types_supported": ["token"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": [signing_keys.ALGORITHM],
            "claims_supported": [
                "aud",
                "iss",
                "iat",
                "nbf",
                "exp",
                "appid",
                "appidacr",
                "oid",
                "sub",
                "tid",
                "uti",
                "ver",
                "groups",
            ],
            "request_uri_parameter_supported": False,
            "http_logout_supported": False,
            "tenant_region_scope": self._services.settings.names.location,
            "cloud_instance_name": urlsplit(self._authority).netloc,
            "msgraph_host": urlsplit(self._services.settings.arm_endpoint).netloc,
        }
        return JSONResponse(document, headers=_PUBLIC)

    async def _keys(self, request: Request) -> Response:
        tenant, _ = await self._tenant(request)
        snapshot = await self._threads.run(self._services.snapshot)
        issuer = local_issuer(self._authority, tenant.id)
        return JSONResponse(
            {"keys": signing_keys.published(snapshot, issuer, self._services.clock.now())}, headers=_PUBLIC
        )

    async def _instance(self, request: Request) -> Response:
        asked = urlsplit(request.query_params.get("authorization_endpoint", ""))
        own = urlsplit(self._authority).netloc
        if asked.scheme != "https" or asked.netloc.lower() != own.lower():
            raise Fault(FaultKind.INVALID, "Unknown or invalid instance.", code="50049")
        found = {
            "tenant_discovery_endpoint": f"{self._authority}/common/v2.0/.well-known/openid-configuration",
            "api-version": "1.1",
            "metadata": [{"preferred_network": own, "preferred_cache": own, "aliases": [own]}],
        }
        return JSONResponse(found, headers=_PUBLIC)

    async def _interactive(self, request: Request) -> Response:
        message = "People do not sign in here; use client credentials or a managed identity."
        raise Fault(FaultKind.INVALID, message, code="700051")

    # Tokens

    async def token_v2(self, request: Request) -> Response:
        return await self._guarded(request, self._token, version=2, record=True)

    async def token_v1(self, request: Request) -> Response:
        return await self._guarded(request, self._token, version=1, record=True)

    async def _token(self, request: Request, *, version: int) -> Response:
        if request.method != "POST":
            raise Fault(
                FaultKind.METHOD_NOT_ALLOWED, "The endpoint only accepts POST requests. Received a GET request."
            )
        form = await _form(request)
        asked = _client_credentials(request, form, version)
        request.state.recorded = True
        issued = await self._threads.run(self._tokens.issue_to_client, asked, self._caller(request))
        now = self._services.clock.now()
        left = issued.expires_in(now)
        if version == 2:
            body: dict[str, Any] = {"token_type": "Bearer", "expires_in": left, "ext_expires_in": left}
        else:
            body = {
                "token_type": "Bearer",
                "expires_in": str(left),
                "ext_expires_in": str(left),
                "expires_on": str(issued.expires_on),
                "not_before": str(issued.not_before),
                "resource": issued.audience,
            }
        return entra_wire.answer({**body, "access_token": issued.token.reveal_text()}, request.state.request_id)

    # Shared

    def _caller(self, request: Request) -> Caller:
        peer = request.client.host if request.client is not None else ""
        address = self._services.client_address(peer, request.headers.get("x-forwarded-for", ""))
        return Caller(address, request.headers.get("user-agent", ""), request.state.request_id)

    async def _tenant(self, request: Request) -> tuple[Tenant, str]:
        """Return our tenant, and its name as the paths of the answer spell it; Fault when the path names another."""
        tenant = tenant_of(await self._threads.run(self._services.snapshot))
        named = request.path_params["tenant"].lower()
        if tenant is None or (named != tenant.id and named not in PLACEHOLDER_TENANTS):
            raise Fault(FaultKind.NOT_FOUND, f"Tenant '{named[:100]}' not found. Check the tenant id.", code="90002")
        return tenant, named

    async def _guarded(
        self, request: Request, handler: Callable[..., Any], *, record: bool = False, **options: Any
    ) -> Response:
        request.state.request_id = new_guid()
        request.state.recorded = not record
        try:
            response: Response = await handler(request, **options)
            return response
        except Fault as fault:
            failed = fault
        except Exception:
            log.exception("a request to the token service failed", extra={"request": request.state.request_id})
            failed = Fault(FaultKind.INTERNAL, "The request could not be handled.")
        if not request.state.recorded:
            try:
                await self._threads.run(self._tokens.refuse, self._caller(request), failed)
            except Fault as unwritable:
                failed = unwritable
        sent = request.headers.get("client-request-id", "")
        correlation = sent if is_guid(sent) else request.state.request_id
        now = self._services.clock.now()
        return entra_wire.refuse(failed, request_id=request.state.request_id, correlation_id=correlation, now=now)


_PUBLIC: Final = {
    "cache-control": "max-age=300",
    "access-control-allow-origin": "*",
    "strict-transport-security": "max-age=31536000; includeSubDomains",
    "x-content-type-options": "nosniff",
}


async def _form(request: Request) -> dict[str, str]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise _missing("grant_type")
    data = await read_body(request, MAX_FORM_BYTES, BODY_TIMEOUT_S, "The request body")
    try:
        pairs = parse_qsl(data.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    except ValueError as failure:
        raise Fault(FaultKind.INVALID, "The request body is not a well-formed form.") from failure
    form = dict(pairs)
    if len(form) != len(pairs):
        raise Fault(FaultKind.INVALID, "A parameter is given more than once.")
    return form


def _client_credentials(request: Request, form: dict[str, str], version: int) -> ClientCredentials:
    grant = form.get("grant_type")
    if not grant:
        raise _missing("grant_type")
    if grant != "client_credentials":
        raise Fault(
            FaultKind.UNSUPPORTED,
            f"The grant type '{grant[:60]}' is not supported; use client_credentials.",
            code="70003",
        )
    client_id, secret = form.get("client_id", ""), form.get("client_secret", "")
    basic = _basic(request)
    if basic is not None:
        if (client_id and client_id.lower() != basic[0].lower()) or (secret and secret != basic[1]):
            raise Fault(
                FaultKind.CONFLICTING_CREDENTIALS, "The Authorization header and the body name different credentials."
            )
        client_id, secret = basic
    assertion = form.get("client_assertion", "")
    if assertion and secret:
        raise Fault(FaultKind.CONFLICTING_CREDENTIALS, "Send either a client_secret or a client_assertion.")
    if assertion and form.get("client_assertion_type") != client_assertion.TYPE:
        raise _missing("client_assertion_type")
    if len(assertion) > MAX_TOKEN_BYTES:
        raise Fault(FaultKind.TOO_LARGE, "The client assertion is too large.")
    if not client_id:
        raise _missing("client_id")
    resource = _resource_of_scope(form.get("scope", "")) if version == 2 else form.get("resource", "")
    if not resource:
        raise _missing("scope" if version == 2 else "resource")
    return ClientCredentials(
        tenant=request.path_params["tenant"],
        client_id=client_id,
        resource=resource,
        secret=Secret(secret) if secret else None,
        assertion=assertion or None,
    )


def _resource_of_scope(scope: str) -> str:
    """Return the resource of `<resource>/.default`; a resource that ends in a slash gives two, which is how `az` asks."""
    if not scope:
        return ""
    if len(scope.split()) != 1 or not scope.strip().endswith(DEFAULT_SCOPE):
        message = (
            f"The provided value for the input parameter 'scope' is not valid: '{scope[:200]}'. "
            "It must be one resource followed by /.default."
        )
        raise Fault(FaultKind.INVALID, message, code="70011", target="scope")
    return scope.strip().removesuffix(DEFAULT_SCOPE)


def _basic(request: Request) -> tuple[str, str] | None:
    header = request.headers.get("authorization", "")
    scheme, _, value = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        client_id, separator, secret = base64.b64decode(value.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError) as failure:
        raise Fault(FaultKind.UNAUTHENTICATED, "The Authorization header is not readable.", code="7000215") from failure
    if not separator:
        raise Fault(FaultKind.UNAUTHENTICATED, "The Authorization header is not readable.", code="7000215")
    return unquote_plus(client_id), unquote_plus(secret)


def _missing(parameter: str) -> Fault:
    message = f"The request body must contain the following parameter: '{parameter}'."
    return Fault(FaultKind.INVALID, message, code="900144", target=parameter)
