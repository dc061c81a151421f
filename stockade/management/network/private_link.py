"""The two ends of a private link: a private endpoint, and the connection that an account has because of it.

They are two documents in two namespaces, each shown with its own resource; what happens to one is written to the other in the same transaction:

| What happens | The connection | The endpoint shows |
|---|---|---|
| an endpoint is created | Approved where its maker may approve and did not ask to be approved by hand, else Pending | the same |
| the account's administrator decides | Approved, Rejected | the same |
| the endpoint is deleted | Disconnected; it can only be deleted | - |
| the connection is deleted | - | Disconnected; it can only be deleted |

Source: contracts, control-plane section 8; Azure's life of a private endpoint connection.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from stockade.management.cognitive_services.kinds import ACCOUNTS
from stockade.management.network.bodies import PRIVATE_ENDPOINTS
from stockade.storage.database import Writer
from stockade.storage.documents import Document, Json, State

CONNECTIONS = f"{ACCOUNTS}/privateEndpointConnections"
APPROVAL = f"{ACCOUNTS}/privateEndpointConnectionsApproval/action"
GROUP_ID = "account"
"""The one sub-resource of an account that can be reached privately."""
NEXT: Final[Mapping[str, frozenset[str]]] = {
    "Pending": frozenset({"Pending", "Approved", "Rejected"}),
    "Approved": frozenset({"Approved", "Rejected"}),
    "Rejected": frozenset({"Rejected", "Approved"}),
    "Disconnected": frozenset(),
}
"""What an administrator may make of a connection, by its present status."""
LISTS = ("privateLinkServiceConnections", "manualPrivateLinkServiceConnections")
"""Where a private endpoint shows its connection: the second when its maker asked to be approved by hand."""


def state(status: str, description: str, actions: str = "None") -> Json:
    """Return a connection's state as both ends show it."""
    return {"status": status, "description": description, "actionsRequired": actions}


def connect(
    writer: Writer, endpoint: Document, account: Document, connection_id: str, address: str, decided: Json
) -> None:
    """Give an account the connection that an endpoint asks for. connection_id: in Azure's spelling."""
    name = connection_id.rsplit("/", 1)[-1]
    properties = {
        "privateEndpoint": {"id": endpoint.body["id"]},
        "groupIds": [GROUP_ID],
        "privateLinkServiceConnectionState": decided,
        "provisioningState": "Succeeded",
    }
    body = {"id": connection_id, "name": name, "type": CONNECTIONS, "properties": properties}
    writer.put(
        connection_id,
        CONNECTIONS,
        body,
        {"address": address},
        subscription=account.subscription,
        resource_group=account.resource_group,
    )
    show_in_account(writer, account.id)


def disconnect(writer: Writer, connection_id: str, description: str) -> None:
    """Put a connection out of force because its endpoint is gone; also one that went with a deleted account and may come back with it."""
    connection = writer.get(connection_id, State.LIVE, State.SOFT_DELETED)
    if connection is None:
        return
    writer.put(
        connection.id,
        connection.type,
        with_state(connection, state("Disconnected", description)),
        subscription=connection.subscription,
        resource_group=connection.resource_group,
        state=connection.state,
        purge_at=connection.purge_at,
    )
    show_in_account(writer, account_of(connection.id))


def with_state(connection: Document, decided: Json) -> Json:
    """Return a connection's body with another state."""
    properties = {**connection.body["properties"], "privateLinkServiceConnectionState": decided}
    return {**connection.body, "properties": properties}


def show_in_account(writer: Writer, account_id: str) -> Document | None:
    """Repeat the connections in their account's body, as Azure shows them; None when the account is gone or deleted."""
    account = writer.get(account_id)
    if account is None:
        return None
    shown = [dict(found.body) for found in writer.list(CONNECTIONS, under=account.id)]
    properties = {**account.body["properties"], "privateEndpointConnections": shown}
    return writer.put(
        account.id,
        account.type,
        {**account.body, "properties": properties},
        subscription=account.subscription,
        resource_group=account.resource_group,
    )


def show_in_endpoint(writer: Writer, connection: Document, decided: Mapping[str, Any]) -> None:
    """Repeat what was decided on a connection in the endpoint that asked for it; nothing happens when that is gone."""
    endpoint_id = (connection.body["properties"].get("privateEndpoint") or {}).get("id")
    endpoint = writer.get(str(endpoint_id)) if endpoint_id else None
    if (
        endpoint is None
        or endpoint.type != PRIVATE_ENDPOINTS.lower()
        or endpoint.private.get("connection") != connection.id
    ):
        return
    properties = dict(endpoint.body["properties"])
    for name in LISTS:
        properties[name] = [
            {**one, "properties": {**one["properties"], "privateLinkServiceConnectionState": dict(decided)}}
            for one in properties.get(name, [])
        ]
    writer.put(
        endpoint.id,
        endpoint.type,
        {**endpoint.body, "properties": properties},
        subscription=endpoint.subscription,
        resource_group=endpoint.resource_group,
    )


def account_of(connection_id: str) -> str:
    """Return the id of the account that a connection is of."""
    return connection_id.rsplit("/", 2)[0]
