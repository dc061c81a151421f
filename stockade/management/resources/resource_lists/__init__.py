"""`GET /subscriptions/{s}/resources` and the same of one group: every resource the caller may read, without its properties."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from urllib.parse import urlencode

from stockade.kernel.clock import iso
from stockade.kernel.faults import Fault, FaultKind
from stockade.management import authorization
from stockade.management.odata import Term, invalid_filter, parse_filter
from stockade.management.resource_type import Call, Plugin, ResourceType, Route
from stockade.storage.database import Reader
from stockade.storage.documents import Document, Json

PAGE = 1000
_SHOWN = ("id", "name", "type", "kind", "location", "managedBy", "sku", "plan", "tags", "identity", "zones")


class ResourceLists(Plugin):
    """Microsoft.Resources/resources."""

    name = "Microsoft.Resources/resources"

    @property
    def routes(self) -> Sequence[Route]:
        group = "/subscriptions/{subscription}/resourceGroups/{group}"
        return (
            Route("GET", "/subscriptions/{subscription}/resources", None, _list, scope="/subscriptions/{subscription}"),
            Route("GET", f"{group}/resources", None, _list, scope=group),
        )


def _list(call: Call, reader: Reader) -> Json:
    terms = parse_filter(call.query.get("$filter", ""))
    for term in terms:
        if (term.kind, term.name) not in _MATCHES:
            raise invalid_filter(call.query["$filter"])
    if not authorization.access_below(call.snapshot, call.credential, call.id.key, now=call.now):
        permission = "Microsoft.Resources/subscriptions/resources/read"
        raise authorization.refusal(call.snapshot, call.credential, permission, call.id.text, call.decision_id)
    if call.id.resource_group is not None and reader.get(call.id.key) is None:
        message = f"Resource group '{call.id.resource_group}' could not be found."
        raise Fault(FaultKind.NOT_FOUND, message, code="ResourceGroupNotFound")
    found = (document for document in _readable(call, reader) if all(_fits(document, term) for term in terms))
    after = call.query.get("$skiptoken", "")
    ordered = sorted((document for document in found if document.id > after), key=lambda document: document.id)
    answer: Json = {"value": [_shown(document, call.query.get("$expand", "")) for document in ordered[:PAGE]]}
    if len(ordered) > PAGE:
        answer["nextLink"] = _next(call, ordered[PAGE - 1].id)
    return answer


def _readable(call: Call, reader: Reader) -> Iterator[Document]:
    for kind in call.platform.types:
        if not _is_top_level(kind):
            continue
        permission = f"{kind.permissions_prefix}/read"
        for document in reader.list(
            kind.type, subscription=call.id.subscription, resource_group=call.id.resource_group
        ):
            if authorization.granted(call.snapshot, call.credential, permission, document.id, now=call.now):
                yield document


def _is_top_level(kind: ResourceType) -> bool:
    beside = kind.extension or kind.in_subscription or kind.type.startswith("Microsoft.Resources/")
    return kind.type.count("/") == 1 and not beside


def _shown(document: Document, expand: str) -> Json:
    body = {name: document.body[name] for name in _SHOWN if name in document.body}
    wanted = {name.strip().lower() for name in expand.split(",")}
    if "createdtime" in wanted:
        body["createdTime"] = iso(document.created_at)
    if "changedtime" in wanted:
        body["changedTime"] = iso(document.updated_at)
    if "provisioningstate" in wanted:
        properties = document.body.get("properties")
        body["provisioningState"] = (
            properties.get("provisioningState", "Succeeded") if isinstance(properties, Mapping) else "Succeeded"
        )
    return body


def _next(call: Call, last: str) -> str:
    query = {name: value for name, value in call.query.items() if name != "$skiptoken"} | {"$skiptoken": last}
    return f"{call.base_url}{call.id.text}/resources?{urlencode(query)}"


def _tags(document: Document) -> Mapping[str, str]:
    return {name.lower(): text for name, text in document.body.get("tags", {}).items()}


_MATCHES: Mapping[tuple[str, str], Callable[[Document, str], bool]] = {
    ("eq", "resourcetype"): lambda document, value: document.type == value.lower(),
    ("eq", "name"): lambda document, value: document.name.lower() == value.lower(),
    ("eq", "location"): lambda document, value: document.body.get("location") == value.replace(" ", "").lower(),
    ("eq", "resourcegroup"): lambda document, value: document.resource_group == value.lower(),
    ("eq", "tagname"): lambda document, value: value.lower() in _tags(document),
    ("eq", "tagvalue"): lambda document, value: value in _tags(document).values(),
    ("substringof", "name"): lambda document, value: value.lower() in document.name.lower(),
}


def _fits(document: Document, term: Term) -> bool:
    return _MATCHES[term.kind, term.name](document, term.value)


PLUGIN = ResourceLists()
