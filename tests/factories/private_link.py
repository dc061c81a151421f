"""Virtual networks and private endpoints of a running server, made by plain ARM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.live import Live, wait_for

VERSION = "2024-05-01"


@dataclass(frozen=True)
class Endpoint:
    """A private endpoint, and the account's connection to it."""

    id: str
    address: str
    connection: str


def network(live: Live, name: str, prefix: str, *, serves: bool = False) -> str:
    """Create a virtual network with one subnet that fills it; return the subnet's id. serves: the subnet has the service endpoint."""
    subnet: dict[str, Any] = {"addressPrefix": prefix}
    if serves:
        subnet["serviceEndpoints"] = [{"service": "Microsoft.CognitiveServices"}]
    properties = {
        "addressSpace": {"addressPrefixes": [prefix]},
        "subnets": [{"name": "default", "properties": subnet}],
    }
    path = f"{live.group_id}/providers/Microsoft.Network/virtualNetworks/{name}"
    made = live.request("PUT", path, {"location": live.location, "properties": properties}, version=VERSION)
    assert made.status_code in (200, 201), made.text
    return f"{path}/subnets/default"


def endpoint(live: Live, account: str, name: str, subnet: str, address: str) -> Endpoint:
    """Create a private endpoint of an account at an address of a subnet; the administrator's are approved at once."""
    link = {"privateLinkServiceId": live.account_id(account), "groupIds": ["account"]}
    static = {"groupId": "account", "memberName": "default", "privateIPAddress": address}
    properties = {
        "subnet": {"id": subnet},
        "privateLinkServiceConnections": [{"name": "link", "properties": link}],
        "ipConfigurations": [{"name": "static", "properties": static}],
    }
    path = f"{live.group_id}/providers/Microsoft.Network/privateEndpoints/{name}"
    made = live.request("PUT", path, {"location": live.location, "properties": properties}, version=VERSION)
    assert made.status_code in (200, 201), made.text
    shown = live.request("GET", f"{live.account_id(account)}/privateEndpointConnections").json()["value"]
    (connection,) = [
        one["id"] for one in shown if str(one["properties"]["privateEndpoint"]["id"]).lower() == path.lower()
    ]
    return Endpoint(path, address, connection)


def decide(live: Live, made: Endpoint, status: str) -> None:
    """Approve or reject the connection of a private endpoint, as the account's administrator."""
    body = {"properties": {"privateLinkServiceConnectionState": {"status": status, "description": "test"}}}
    done = live.request("PUT", made.connection, body)
    assert done.status_code in (200, 202), done.text


def stands(live: Live, address: str) -> dict[str, Any]:
    """Wait until `stockade status` says that an address is listened on, and return what it says."""

    def look() -> dict[str, Any] | None:
        return next(
            (one for one in states(live) if one["address"] == address and one["state"] == "listening"),
            None,
        )

    found: dict[str, Any] = wait_for(look, f"{address} is listened on", 60)
    return found


def states(live: Live) -> list[dict[str, Any]]:
    """Return the private listeners as the server tells them."""
    from stockade.serve import private_states
    from stockade.settings import load

    found = private_states.read(load(live.data_dir, environment={}))
    return [{name: getattr(one, name) for name in one.__dataclass_fields__} for one in found or ()]
