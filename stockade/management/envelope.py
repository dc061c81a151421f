"""The part of a reply that is the same for every resource type: identity, entity tags, system data, pages, and what 404 says."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from urllib.parse import quote, urlencode

from stockade.kernel.clock import iso
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.resource_id import ResourceId
from stockade.management.resource_type import Call, Reply, ResourceType, display_id
from stockade.storage.documents import Document, Json

PAGE = 1000
"""Entries of a list in one reply; more follow at `nextLink`."""


def rendered(call: Call, kind: ResourceType, document: Document) -> Json:
    """Return what clients see of a document."""
    body = dict(kind.render(call, document))
    if kind.has_etag and document.etag:
        body["etag"] = f'"{document.etag}"'
    return body


def document_reply(call: Call, kind: ResourceType, document: Document, status: int) -> Reply:
    """Return a document as a reply, with its entity tag as a header too."""
    return Reply(status, rendered(call, kind, document), {"etag": f'"{document.etag}"'} if document.etag else {})


def envelope(call: Call, kind: ResourceType, planned: Json, current: Document | None, parent: Document | None) -> Json:
    """Return the body with its identity: the first spelling of the name is kept, everything around it has Azure's spelling."""
    body = {name: value for name, value in planned.items() if name not in ("id", "name", "type", "etag", "systemData")}
    if current is not None:
        spelled = display_id(current)
    else:
        stored = kind.stored_as(call.id)
        above = display_id(parent) if parent is not None and parent.id == stored.parent.lower() else ""
        spelled = f"{above}/{_relative(stored, kind)}"
    body = {"id": spelled, "name": spelled.rsplit("/", 1)[-1], "type": kind.type, **body}
    if kind.has_system_data:
        who = {"By": call.credential.app_id or call.credential.object_id}
        who["ByType"] = "Application" if call.credential.identity_type == "app" else "User"
        who["At"] = iso(call.now)
        before = current.body.get("systemData") if current is not None else None
        created = before if isinstance(before, Mapping) else {f"created{part}": value for part, value in who.items()}
        body["systemData"] = {**created, **{f"lastModified{part}": value for part, value in who.items()}}
    return body


def _relative(resource: ResourceId, kind: ResourceType) -> str:
    """Return an id's last part in Azure's spelling, relative to what it lies in."""
    if resource.type is None:
        return f"resourceGroups/{resource.resource_group}"
    namespace, *types = kind.type.split("/")
    nested = f"{types[-1]}/{resource.name}"
    return nested if len(types) > 1 else f"providers/{namespace}/{nested}"


def check_preconditions(headers: Mapping[str, str], live: Document | None) -> None:
    """Honour If-Match and If-None-Match; Fault(PRECONDITION_FAILED)."""
    wanted, unwanted = headers.get("if-match"), headers.get("if-none-match")
    if wanted is not None and (live is None or not _tag_matches(wanted, live.etag)):
        raise Fault(
            FaultKind.PRECONDITION_FAILED, "The resource is not the one named by If-Match; read it again and retry."
        )
    if unwanted is not None and live is not None and _tag_matches(unwanted, live.etag):
        raise Fault(
            FaultKind.PRECONDITION_FAILED, "The resource exists already, and If-None-Match asks that it does not."
        )


def _tag_matches(header: str, etag: str) -> bool:
    return any(tag.strip().removeprefix("W/").strip('"') in ("*", etag) for tag in header.split(","))


def not_found(resource: ResourceId, kind: ResourceType | None, *, parent: bool = False) -> Fault:
    """Return ARM's 404 for a resource or group; parent: something was to be put into it."""
    if resource.type is None and resource.resource_group is not None:
        message = f"Resource group '{resource.resource_group}' could not be found."
        return Fault(FaultKind.NOT_FOUND, message, code="ResourceGroupNotFound")
    name = f"{kind.type if kind is not None else resource.type}/{'/'.join(resource.names)}"
    message = f"The Resource '{name}' under resource group '{resource.resource_group or '<null>'}' was not found."
    return Fault(FaultKind.NOT_FOUND, message, code="ParentResourceNotFound" if parent else None)


def page(call: Call, kind: ResourceType, documents: Sequence[Document], path: Sequence[str]) -> Json:
    """Return one page of a list, with the address of the next one when there is more. path: the decoded segments that were asked for."""
    after, size = _decode_token(call.query.get("$skiptoken", "")), _top(call.query)
    left = [document for document in documents if document.id > after] if after else list(documents)
    answer: Json = {}
    if len(left) > size:
        left = sorted(left, key=lambda document: document.id)[:size]
        rest = {name: value for name, value in call.query.items() if name != "$skiptoken"}
        rest["$skiptoken"] = base64.urlsafe_b64encode(left[-1].id.encode()).decode()
        answer["nextLink"] = f"{call.base_url}{quote('/' + '/'.join(path))}?{urlencode(rest)}"
    answer["value"] = [rendered(call, kind, document) for document in left]
    return answer


def _decode_token(text: str) -> str:
    try:
        return base64.urlsafe_b64decode(text.encode("ascii")).decode() if text else ""
    except (binascii.Error, ValueError) as failure:
        raise Fault(FaultKind.INVALID, "The $skipToken is not one of ours.", target="$skipToken") from failure


def _top(query: Mapping[str, str]) -> int:
    text = query.get("$top", "")
    if not text:
        return PAGE
    if not (text.isascii() and text.isdigit()) or len(text) > 9 or int(text) == 0:
        raise Fault(FaultKind.INVALID, "$top is a positive number.", target="$top")
    return min(int(text), PAGE)
