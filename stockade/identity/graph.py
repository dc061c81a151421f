"""The few Microsoft Graph look-ups that `az` makes, answered from the directory. Read-only.

`az role assignment create --assignee APPID` asks here for the object id; without an answer it stores the application
id silently.
Source: contracts, clients 4b; Microsoft Graph v1.0 (servicePrincipal, user, group, application, directoryObject:
getByIds).
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stockade.identity.audiences import graph_audiences
from stockade.identity.directory import Directory
from stockade.identity.principals import Group, Principal
from stockade.identity.request_body import read_body
from stockade.identity.services import IdentityServices
from stockade.identity.verify import TokenCache, verify
from stockade.kernel.clock import iso
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.ids import new_guid
from stockade.kernel.principal import TokenCredential
from stockade.kernel.threads import BoundedThreads
from stockade.policy import rbac
from stockade.policy.snapshot import Snapshot
from stockade.storage.database import Reader

PAGE: Final = 100
MAX_PAGE: Final = 999
MAX_IDS: Final = 1_000
MAX_BODY_BYTES: Final = 128 * 1024
BODY_TIMEOUT_S: Final = 10.0
THREADS: Final = 4
MAX_WAITING: Final = 128

BY_KIND: Final[Mapping[FaultKind, tuple[int, str]]] = {
    FaultKind.INVALID: (400, "Request_BadRequest"),
    FaultKind.CONFLICTING_CREDENTIALS: (400, "Request_BadRequest"),
    FaultKind.UNAUTHENTICATED: (401, "InvalidAuthenticationToken"),
    FaultKind.KEY_REJECTED: (401, "InvalidAuthenticationToken"),
    FaultKind.LOCAL_AUTH_DISABLED: (403, "Authorization_RequestDenied"),
    FaultKind.SUBDOMAIN_REQUIRED: (400, "Request_BadRequest"),
    FaultKind.OUTBOUND_DENIED: (400, "Request_BadRequest"),
    FaultKind.PERMISSION_DENIED: (403, "Authorization_RequestDenied"),
    FaultKind.AUTHORIZATION_FAILED: (403, "Authorization_RequestDenied"),
    FaultKind.NETWORK_DENIED: (403, "Authorization_RequestDenied"),
    FaultKind.PUBLIC_ACCESS_DISABLED: (403, "Authorization_RequestDenied"),
    FaultKind.CUSTOMER_KEY_UNAVAILABLE: (403, "Authorization_RequestDenied"),
    FaultKind.LOCKBOX_DENIED: (403, "Authorization_RequestDenied"),
    FaultKind.NOT_FOUND: (404, "Request_ResourceNotFound"),
    FaultKind.DEPLOYMENT_NOT_FOUND: (404, "Request_ResourceNotFound"),
    FaultKind.METHOD_NOT_ALLOWED: (405, "Request_BadRequest"),
    FaultKind.UPGRADE_REQUIRED: (426, "Request_BadRequest"),
    FaultKind.CONFLICT: (409, "Request_MultipleObjectsWithSameKeyValue"),
    FaultKind.PRECONDITION_FAILED: (412, "Request_BadRequest"),
    FaultKind.TOO_LARGE: (413, "Request_BadRequest"),
    FaultKind.UNSUPPORTED_MEDIA_TYPE: (415, "Request_BadRequest"),
    FaultKind.TIMEOUT: (408, "Request_BadRequest"),
    FaultKind.LIMIT: (429, "TooManyRequests"),
    FaultKind.UPSTREAM_FAILED: (503, "Service_Unavailable"),
    FaultKind.UPSTREAM_TIMEOUT: (503, "Service_Unavailable"),
    FaultKind.UNAVAILABLE: (503, "Service_Unavailable"),
    FaultKind.UNSUPPORTED: (400, "Request_UnsupportedQuery"),
    FaultKind.INTERNAL: (500, "Service_InternalServerError"),
}
"""Status and Graph's error code per kind of fault."""

_QUOTED = r"'((?:[^']|'')*)'"
_EQUALS = re.compile(rf"(\w+) eq {_QUOTED}")
_ANY_NAME = re.compile(rf"servicePrincipalNames/any\((\w+): ?\1 eq {_QUOTED}\)")
_STARTS_WITH = re.compile(rf"startswith\((\w+), ?{_QUOTED}\)", re.IGNORECASE)

Json: TypeAlias = dict[str, Any]
log = logging.getLogger(__name__)


def routes(services: IdentityServices) -> list[Route]:
    """Return the look-ups below `/v1.0/`."""
    graph = _Graph(services)

    def route(path: str, answer: Callable[..., Json], *methods: str) -> Route:
        async def endpoint(request: Request) -> Response:
            return await graph.handle(request, answer)

        return Route(f"/v1.0/{path}", endpoint, methods=list(methods or ("GET",)))

    return [
        route("me", graph.me),
        route("servicePrincipals", graph.service_principals),
        route("servicePrincipals/{id}", graph.service_principal),
        route("servicePrincipals/{id}/getMemberObjects", graph.member_objects, "POST"),
        route("applications", graph.applications),
        route("users", graph.users),
        route("users/{id}", graph.user),
        route("groups", graph.groups),
        route("groups/{id}", graph.group),
        route("groups/{id}/members", graph.members),
        route("directoryObjects/getByIds", graph.by_ids, "POST"),
        route("directoryObjects/{id}", graph.directory_object),
    ]


class _Asked:
    """One authenticated look-up: the reader, who asks, and what the request says."""

    def __init__(
        self, reader: Reader, snapshot: Snapshot, caller: TokenCredential, request: Request, body: Json
    ) -> None:
        self.reader, self.snapshot, self.caller, self.body = reader, snapshot, caller, body
        self.query = request.query_params
        self.id: str = request.path_params.get("id", "")
        self.path = request.url.path


class _Graph:
    def __init__(self, services: IdentityServices) -> None:
        self._services = services
        self._directory = Directory(services.root_key, services.clock)
        self._audiences = graph_audiences(services.settings)
        self._endpoint = services.settings.arm_endpoint
        self._cache = TokenCache(512)
        self._threads = BoundedThreads(THREADS, MAX_WAITING)

    async def handle(self, request: Request, answer: Callable[[_Asked], Json]) -> Response:
        request_id = new_guid()
        try:
            snapshot = await self._threads.run(self._services.snapshot)
            caller = self._authenticate(request, snapshot)
            body = await _json_body(request) if request.method == "POST" else {}
            found = await self._threads.run(self._answer, snapshot, caller, request, body, answer)
            return JSONResponse(found, headers={**_HEADERS, "request-id": request_id})
        except Fault as fault:
            return self._refuse(fault, request, request_id)
        except Exception:
            log.exception("a directory look-up failed", extra={"request": request_id})
            return self._refuse(Fault(FaultKind.INTERNAL, "The request could not be handled."), request, request_id)

    def _answer(
        self,
        snapshot: Snapshot,
        caller: TokenCredential,
        request: Request,
        body: Json,
        answer: Callable[[_Asked], Json],
    ) -> Json:
        with self._services.database.read() as reader:
            return answer(_Asked(reader, snapshot, caller, request, body))

    def _authenticate(self, request: Request, snapshot: Snapshot) -> TokenCredential:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Fault(FaultKind.UNAUTHENTICATED, "Access token is empty.")
        found = verify(snapshot, token.strip(), self._services.clock.now(), self._audiences, self._cache)
        if not isinstance(found, TokenCredential):
            raise Fault(FaultKind.UNAUTHENTICATED, "Access token validation failure.")
        if snapshot.only("principal", found.object_id) is None:
            raise Fault(FaultKind.AUTHORIZATION_FAILED, "Only principals of this directory may read it.")
        return found

    def _refuse(self, fault: Fault, request: Request, request_id: str) -> Response:
        status, code = BY_KIND[fault.kind]
        inner = {
            "date": iso(self._services.clock.now())[:19],
            "request-id": request_id,
            "client-request-id": request.headers.get("client-request-id", request_id)[:64],
        }
        headers = {**_HEADERS, "request-id": request_id}
        if status == 401:
            headers["www-authenticate"] = f'Bearer realm="", authorization_uri="{self._services.settings.authority}"'
        if fault.retry_after_s is not None:
            headers["retry-after"] = str(int(fault.retry_after_s) + 1)
        return JSONResponse({"error": {"code": code, "message": fault.message, "innerError": inner}}, status, headers)

    # The look-ups

    def me(self, asked: _Asked) -> Json:
        return self._one(asked, asked.caller.object_id, _any_principal)

    def service_principal(self, asked: _Asked) -> Json:
        return self._one(asked, asked.id, _is_service_principal)

    def user(self, asked: _Asked) -> Json:
        return self._one(asked, asked.id, _is_user)

    def directory_object(self, asked: _Asked) -> Json:
        group = self._directory.group(asked.reader, asked.id)
        return _group(group) if group is not None else self._one(asked, asked.id, _any_principal)

    def service_principals(self, asked: _Asked) -> Json:
        found = [principal for principal in self._filtered(asked) if _is_service_principal(principal)]
        return self._page(asked, "servicePrincipals", [_principal(principal) for principal in found])

    def users(self, asked: _Asked) -> Json:
        found = [principal for principal in self._filtered(asked) if _is_user(principal)]
        return self._page(asked, "users", [_principal(principal) for principal in found])

    def applications(self, asked: _Asked) -> Json:
        found = [principal for principal in self._filtered(asked) if principal.kind == "application"]
        return self._page(asked, "applications", [_application(principal) for principal in found])

    def groups(self, asked: _Asked) -> Json:
        field, value, prefix = _filter(asked)
        found = self._directory.groups(asked.reader)
        if field == "id":
            found = [group for group in found if group.object_id == value.lower()]
        elif field == "displayName":
            found = [group for group in found if _fits(group.display_name, value, prefix)]
        elif field:
            raise _unsupported_filter()
        return self._page(asked, "groups", [_group(group) for group in found])

    def group(self, asked: _Asked) -> Json:
        return _group(self._group(asked))

    def members(self, asked: _Asked) -> Json:
        found = self._objects(asked.reader, self._group(asked).members)
        return self._page(asked, "directoryObjects", found)

    def member_objects(self, asked: _Asked) -> Json:
        self._one(asked, asked.id, _is_service_principal)
        groups = rbac.identities(asked.snapshot, asked.id) - {asked.id.lower()}
        return {"@odata.context": f"{self._endpoint}/v1.0/$metadata#Collection(Edm.String)", "value": sorted(groups)}

    def by_ids(self, asked: _Asked) -> Json:
        ids = asked.body.get("ids")
        if not isinstance(ids, list) or len(ids) > MAX_IDS or not all(isinstance(value, str) for value in ids):
            raise Fault(FaultKind.INVALID, f"'ids' must be a list of at most {MAX_IDS} texts.", target="ids")
        types = asked.body.get("types") or []
        wanted = {str(name).lower() for name in types} if isinstance(types, list) else set()
        found = self._objects(asked.reader, ids)
        fitting = [item for item in found if not wanted or item["@odata.type"].rpartition(".")[2].lower() in wanted]
        return {"@odata.context": f"{self._endpoint}/v1.0/$metadata#directoryObjects", "value": fitting}

    # Parts of them

    def _one(self, asked: _Asked, object_id: str, fits: Callable[[Principal], bool]) -> Json:
        principal = self._directory.get(asked.reader, object_id)
        if principal is None or not fits(principal):
            message = f"Resource '{object_id[:100]}' does not exist or one of its queried reference-property objects are not present."
            raise Fault(FaultKind.NOT_FOUND, message)
        return _principal(principal)

    def _group(self, asked: _Asked) -> Group:
        group = self._directory.group(asked.reader, asked.id)
        if group is None:
            raise Fault(FaultKind.NOT_FOUND, f"Resource '{asked.id[:100]}' does not exist.")
        return group

    def _objects(self, reader: Reader, ids: Sequence[str]) -> list[Json]:
        found: list[Json] = []
        for object_id in dict.fromkeys(ids):
            principal = self._directory.get(reader, object_id)
            group = self._directory.group(reader, object_id) if principal is None else None
            if principal is not None:
                found.append(_principal(principal))
            elif group is not None:
                found.append(_group(group))
        return found

    def _filtered(self, asked: _Asked) -> list[Principal]:
        field, value, prefix = _filter(asked)
        if not field:
            return self._directory.principals(asked.reader)
        if field in {"appId", "servicePrincipalNames"}:
            one = self._directory.by_app_id(asked.reader, value)
            return [one] if one is not None else []
        if field == "id":
            one = self._directory.get(asked.reader, value)
            return [one] if one is not None else []
        if field in {"displayName", "userPrincipalName", "mail"}:
            if not prefix:
                return self._directory.by_name(asked.reader, value)
            return [p for p in self._directory.principals(asked.reader) if _fits(p.display_name, value, prefix)]
        raise _unsupported_filter()

    def _page(self, asked: _Asked, kind: str, items: list[Json]) -> Json:
        size = asked.query.get("$top", str(PAGE))
        if not size.isascii() or not size.isdigit() or not 1 <= int(size[:6]) <= MAX_PAGE:
            raise Fault(FaultKind.INVALID, f"$top must be between 1 and {MAX_PAGE}.", target="$top")
        after = asked.query.get("$skiptoken", "")
        rest = [item for item in sorted(items, key=lambda item: str(item["id"])) if item["id"] > after]
        page: Json = {"@odata.context": f"{self._endpoint}/v1.0/$metadata#{kind}", "value": rest[: int(size)]}
        if len(rest) > int(size):
            kept = asked.query.multi_items()
            query = [(name, value) for name, value in kept if name != "$skiptoken"]
            query.append(("$skiptoken", rest[int(size) - 1]["id"]))
            page["@odata.nextLink"] = f"{self._endpoint}{asked.path}?{urlencode(query)}"
        return page


def _filter(asked: _Asked) -> tuple[str, str, bool]:
    """Return the field, the value and whether the value is a prefix; an empty field when there is no filter."""
    text = asked.query.get("$filter", "").strip()
    if not text:
        return "", "", False
    if (match := _ANY_NAME.fullmatch(text)) is not None:
        return "servicePrincipalNames", match[2].replace("''", "'"), False
    if (match := _EQUALS.fullmatch(text)) is not None:
        return match[1], match[2].replace("''", "'"), False
    if (match := _STARTS_WITH.fullmatch(text)) is not None:
        return match[1], match[2].replace("''", "'"), True
    raise _unsupported_filter()


def _unsupported_filter() -> Fault:
    return Fault(FaultKind.UNSUPPORTED, "Unsupported or invalid query filter clause specified.", target="$filter")


def _fits(name: str, value: str, prefix: bool) -> bool:
    return name.lower().startswith(value.lower()) if prefix else name.lower() == value.lower()


def _any_principal(principal: Principal) -> bool:
    return True


def _is_service_principal(principal: Principal) -> bool:
    return principal.type == "ServicePrincipal"


def _is_user(principal: Principal) -> bool:
    return principal.type == "User"


def _principal(principal: Principal) -> Json:
    shared = {
        "id": principal.object_id,
        "displayName": principal.display_name,
        "createdDateTime": iso(principal.created_at),
    }
    if principal.type == "User":
        return {"@odata.type": "#microsoft.graph.user", **shared, "userPrincipalName": principal.display_name}
    if principal.type != "ServicePrincipal":
        return {"@odata.type": f"#microsoft.graph.{principal.type[0].lower()}{principal.type[1:]}", **shared}
    return {
        "@odata.type": "#microsoft.graph.servicePrincipal",
        **shared,
        "accountEnabled": principal.enabled,
        "appId": principal.app_id,
        "appDisplayName": principal.display_name,
        "appOwnerOrganizationId": principal.tenant_id,
        "servicePrincipalType": "ManagedIdentity"
        if principal.kind in {"managedIdentity", "machine"}
        else "Application",
        "servicePrincipalNames": list(principal.service_principal_names),
        "alternativeNames": [principal.resource_id] if principal.resource_id is not None else [],
    }


def _application(principal: Principal) -> Json:
    # Here an application and its service principal are one object, so both carry one id.
    return {
        "@odata.type": "#microsoft.graph.application",
        "id": principal.object_id,
        "appId": principal.app_id,
        "displayName": principal.display_name,
        "createdDateTime": iso(principal.created_at),
        "identifierUris": [],
    }


def _group(group: Group) -> Json:
    return {
        "@odata.type": "#microsoft.graph.group",
        "id": group.object_id,
        "displayName": group.display_name,
        "createdDateTime": iso(group.created_at),
        "securityEnabled": True,
        "mailEnabled": False,
        "groupTypes": [],
    }


async def _json_body(request: Request) -> Json:
    data = await read_body(request, MAX_BODY_BYTES, BODY_TIMEOUT_S, "The request body")
    try:
        body = json.loads(data.decode() or "{}")
    except (ValueError, RecursionError) as failure:
        raise Fault(FaultKind.INVALID, "Unable to read JSON request payload.") from failure
    if not isinstance(body, dict):
        raise Fault(FaultKind.INVALID, "The request body must be a JSON object.")
    return body


_HEADERS: Final = {
    "cache-control": "no-store",
    "strict-transport-security": "max-age=31536000; includeSubDomains",
    "x-content-type-options": "nosniff",
}
