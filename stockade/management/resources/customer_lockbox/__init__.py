"""`Microsoft.CustomerLockbox`: opting in, and what customers decide on. In Azure's shapes; `management/lockbox/` has the wire and all the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from stockade.kernel.faults import Fault, FaultKind
from stockade.lockbox.workflow import Status
from stockade.management.lockbox import deciding, documents, events, view
from stockade.management.lockbox.documents import Request
from stockade.management.odata import invalid_filter, parse_filter
from stockade.management.resource_type import Call, Plugin, Reply, Route, bodies
from stockade.policy.compile import Compile
from stockade.storage.database import Reader, Writer
from stockade.storage.documents import Json

PROVIDER: Final = "Microsoft.CustomerLockbox"
VERSION: Final = "2018-02-28-preview"
_REQUESTS = f"/subscriptions/{{subscription}}/providers/{PROVIDER}/requests"
_READ = f"{PROVIDER}/requests/read"
_REGISTER = f"{PROVIDER}/register/action"
"""What opting in and out takes, at the tenant's root: Azure has it for its Global Administrator, here it is Owner of the tenant."""


class CustomerLockbox(Plugin):
    """Microsoft.CustomerLockbox."""

    name = PROVIDER

    @property
    def routes(self) -> Sequence[Route]:
        return (
            Route("GET", f"/providers/{PROVIDER}/operations", None, _operations),
            Route("GET", f"/providers/{PROVIDER}/tenantOptedIn/{{tenant}}", None, _opted_in),
            Route("POST", f"/providers/{PROVIDER}/enableLockbox", _REGISTER, _enable, writes=True),
            Route("POST", f"/providers/{PROVIDER}/disableLockbox", _REGISTER, _disable, writes=True),
            Route("GET", _REQUESTS, _READ, _list, version=VERSION),
            Route("GET", f"{_REQUESTS}/{{request}}", _READ, _get),
            Route(
                "POST",
                f"{_REQUESTS}/{{request}}/updateApproval",
                deciding.UPDATE_APPROVAL,
                deciding.update_approval,
                writes=True,
            ),
        )

    @property
    def documents(self) -> Mapping[str, Compile]:
        return {documents.TENANTS: documents.compile_tenant}


def _opted_in(call: Call, reader: Reader) -> Json:
    if call.parameters["tenant"].lower() != call.platform.tenant_id.lower():
        raise Fault(FaultKind.NOT_FOUND, f"There is no tenant '{call.parameters['tenant'][:80]}' here.")
    return {"isOptedIn": documents.is_opted_in(call.snapshot)}


def _enable(call: Call, writer: Writer) -> Reply:
    documents.opt(writer, opted_in=True)
    return Reply(200)


def _disable(call: Call, writer: Writer) -> Reply:
    documents.opt(writer, opted_in=False)
    return Reply(200)


def _list(call: Call, reader: Reader) -> Json:
    wanted = _status(call.query.get("$filter", ""))
    found = documents.every(reader, call.parameters["subscription"].lower())
    shown = [view.shown(one, call.now) for one in found if _concerns_customer(one)]
    return bodies(one for one in shown if wanted is None or one["properties"]["status"] == wanted)


def _get(call: Call, reader: Reader) -> Json:
    request = deciding.asked_about(call, reader)
    if not _concerns_customer(request):
        raise Fault(FaultKind.NOT_FOUND, f"The Lockbox request '{call.parameters['request'][:80]}' was not found.")
    return deciding.shown(call, reader, request)


def _concerns_customer(request: Request) -> bool:
    """Say whether the customer has been asked: what an operator's reviewer still looks at is not the customer's yet."""
    return request.course.status is not Status.INITIALIZING


def _status(text: str) -> str | None:
    terms = parse_filter(text)
    if not terms:
        return None
    if len(terms) > 1 or (terms[0].kind, terms[0].name) != ("eq", "properties/status"):
        raise invalid_filter(text)
    for status in Status:
        if status.value.lower() == terms[0].value.lower():
            return status.value
    raise invalid_filter(text)


def _operations(call: Call, reader: Reader) -> Json:
    azure = [name for name in events.OPERATIONS.values() if name.startswith(PROVIDER)]
    names = [_READ, *azure, _REGISTER, deciding.UPDATE_APPROVAL]
    return bodies(
        {
            "name": name,
            "isDataAction": "false",
            "display": {
                "provider": PROVIDER,
                "resource": name.split("/")[1],
                "operation": name.split("/")[-2],
                "description": _DESCRIPTIONS.get(name, ""),
            },
        }
        for name in names
    )


_DESCRIPTIONS: Final[Mapping[str, str]] = {
    _READ: "Read requests for access to the subscription's content",
    _REGISTER: "Turn Customer Lockbox on or off",
    deciding.UPDATE_APPROVAL: "Approve or deny a request",
}

PLUGIN = CustomerLockbox()
