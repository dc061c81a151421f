"""`Microsoft.CognitiveServices/accounts/privateEndpointConnections`: who asked to reach an account privately, and what was decided.

A private endpoint makes its connection (`management/network/private_link.py`); here it is approved, rejected and removed. One that is put without
an endpoint can be decided on too, but has no address, so nothing listens for it. Which status may follow which: `private_link.NEXT`.
Source: contracts, control-plane section 8.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from stockade.kernel.faults import Fault, FaultKind
from stockade.management.merge import merge_patch
from stockade.management.network.private_link import (
    CONNECTIONS,
    GROUP_ID,
    NEXT,
    account_of,
    show_in_account,
    show_in_endpoint,
    state,
)
from stockade.management.resource_type import Call, Planned, Reply, ResourceType
from stockade.management.shape import one_of, respelled, typed
from stockade.policy.snapshot import Entry, PrivateEndpointPolicy
from stockade.storage.database import Reader, Writer
from stockade.storage.documents import Document

STATES = ("Pending", "Approved", "Rejected")
"""What an administrator can decide."""


class ConnectionState(Struct, rename="camel"):
    """What was decided, and why."""

    status: str | None = None
    description: str | None = None
    actions_required: str | None = None


class Properties(Struct, rename="camel"):
    """A connection's properties."""

    private_link_service_connection_state: ConnectionState | None = None
    group_ids: list[str] | None = None


class Connection(Struct, rename="camel"):
    """The whole body."""

    properties: Properties | None = None


class PrivateEndpointConnections(ResourceType):
    """A stored private endpoint connection."""

    type = name = CONNECTIONS
    methods = frozenset({"GET", "PUT", "DELETE"})
    created_status = 200  # SDKs take 200 and 202 here, not 201

    def plan(self, call: Call, current: Document | None, reader: Reader) -> Planned:
        body = merge_patch({}, respelled(call.body, Connection))
        asked = typed(body, Connection).properties or Properties()
        decided = asked.private_link_service_connection_state
        target = "properties.privateLinkServiceConnectionState"
        if decided is None:
            raise Fault(
                FaultKind.INVALID, f"The property '{target}' is required.", code="InvalidRequestContent", target=target
            )
        status = one_of(decided.status or "Pending", STATES, f"{target}.status")
        if any(group != GROUP_ID for group in asked.group_ids or ()):
            raise Fault(
                FaultKind.INVALID,
                "An account has one group: 'account'.",
                code="InvalidGroupId",
                target="properties.groupIds",
            )
        account = reader.get(call.id.parent)
        if account is None or not account.body["properties"].get("customSubDomainName"):
            message = (
                "Private endpoints need a custom subdomain: set properties.customSubDomainName of the account first."
            )
            raise Fault(FaultKind.INVALID, message, code="CustomSubDomainNameRequired", target="properties")
        properties = dict(body["properties"])
        properties["privateLinkServiceConnectionState"] = {
            **properties["privateLinkServiceConnectionState"],
            "status": status,
        }
        # Whose connection it is follows from the endpoint that made it, never from what is sent here.
        properties.pop("privateEndpoint", None)
        if current is not None:
            before = current.body["properties"]
            _check_step(current, before["privateLinkServiceConnectionState"]["status"], status)
            if "privateEndpoint" in before:
                properties["privateEndpoint"] = before["privateEndpoint"]
        return Planned({**body, "properties": {**properties, "groupIds": [GROUP_ID], "provisioningState": "Succeeded"}})

    def after_write(self, call: Call, writer: Writer, document: Document, previous: Document | None) -> Document:
        show_in_account(writer, account_of(document.id))
        show_in_endpoint(writer, document, document.body["properties"]["privateLinkServiceConnectionState"])
        return document

    def remove(self, call: Call, writer: Writer, document: Document) -> Reply | None:
        super().remove(call, writer, document)
        show_in_account(writer, account_of(document.id))
        show_in_endpoint(
            writer, document, state("Disconnected", "The connection has been removed by the account's side.")
        )
        return None

    def compile(self, document: Document) -> Iterable[Entry]:
        properties = document.body["properties"]
        endpoint = (properties.get("privateEndpoint") or {}).get("id")
        policy = PrivateEndpointPolicy(
            id=document.id,
            account_id=document.id.rsplit("/", 2)[0],
            status=properties["privateLinkServiceConnectionState"]["status"],
            address=document.private.get("address"),
            endpoint_id=str(endpoint).lower() if endpoint else None,
        )
        yield ("private-endpoint-connection", document.id, policy)
        if policy.status == "Approved":
            yield ("private-endpoints", "", policy)


def _check_step(connection: Document, before: str, after: str) -> None:
    if after not in NEXT[before]:
        allowed = ", ".join(sorted(NEXT[before])) or "nothing but deletion"
        message = f"The private endpoint connection '{connection.name}' is {before} and cannot become {after}; possible: {allowed}."
        raise Fault(
            FaultKind.CONFLICT,
            message,
            code="InvalidPrivateEndpointConnectionState",
            target="properties.privateLinkServiceConnectionState.status",
        )


PLUGIN = PrivateEndpointConnections()
