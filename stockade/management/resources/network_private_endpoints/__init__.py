"""`Microsoft.Network/privateEndpoints`: an address in a subnet at which one account answers, once the account's side has approved.

Creating one makes the account's connection (`management/network/private_link.py`) and takes an address of the subnet. The listener at that
address is no document: a process of its own opens it while the connection is approved.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct, field

from stockade.identity.audiences import DEFAULT_DOMAIN
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.ids import new_guid
from stockade.kernel.resource_id import ResourceId
from stockade.management import authorization
from stockade.management.cognitive_services.kinds import ACCOUNTS
from stockade.management.network import private_link
from stockade.management.network.bodies import (
    PRIVATE_ENDPOINTS,
    PROVIDER,
    SUBNETS,
    Reference,
    referred,
    tracked,
    wanted,
)
from stockade.management.network.private_link import GROUP_ID, LISTS
from stockade.management.network.subnets import free_address, hold, release
from stockade.management.resource_type import Call, Planned, Reply, ResourceType, display_id
from stockade.policy.snapshot import Entry
from stockade.settings import Settings
from stockade.storage.database import Reader, Writer
from stockade.storage.documents import Document, Json

JOIN = f"{SUBNETS}/join/action"
MAX_MESSAGE = 140
_READ_ONLY = frozenset({"provisioningState", "networkInterfaces", "customDnsConfigs"})


class ConnectionProperties(Struct, rename="camel"):
    """Which resource, and what to say to whoever approves."""

    private_link_service_id: str | None = None
    group_ids: list[str] | None = None
    request_message: str | None = None


class Connection(Struct, rename="camel"):
    """One connection asked for."""

    name: str | None = None
    properties: ConnectionProperties | None = None


class IpConfigurationProperties(Struct, rename="camel"):
    """A static address."""

    group_id: str | None = None
    member_name: str | None = None
    private_ip_address: str | None = field(name="privateIPAddress", default=None)


class IpConfiguration(Struct, rename="camel"):
    """A named static address."""

    name: str | None = None
    properties: IpConfigurationProperties | None = None


class Properties(Struct, rename="camel"):
    """A private endpoint's properties."""

    subnet: Reference | None = None
    private_link_service_connections: list[Connection] | None = None
    manual_private_link_service_connections: list[Connection] | None = None
    ip_configurations: list[IpConfiguration] | None = None
    custom_network_interface_name: str | None = None


class PrivateEndpoint(Struct, rename="camel"):
    """The whole body."""

    location: str | None = None
    tags: dict[str, object] | None = None
    properties: Properties | None = None


class PrivateEndpoints(ResourceType):
    """Microsoft.Network/privateEndpoints."""

    type = name = PRIVATE_ENDPOINTS
    methods = frozenset({"GET", "PUT", "DELETE"})
    name_pattern = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9_.-]{0,62}[a-zA-Z0-9_])?")
    has_system_data = False

    def plan(self, call: Call, current: Document | None, reader: Reader) -> Planned:
        body, typed_body = wanted(call, current, PrivateEndpoint, _READ_ONLY)
        asked, properties = typed_body.properties or Properties(), body["properties"]
        place = tracked(call, current, body)
        which, connection = _only_connection(asked)
        account = _account(connection, reader)
        subnet = _subnet(call, asked, current, reader)
        address = _address(asked, subnet, current)
        properties["subnet"] = {"id": display_id(subnet)}
        for name in LISTS:
            properties[name] = []
        if current is not None:
            private = dict(current.private)
            properties[which] = _unchanged(current, which, connection, account)
        else:
            private, shown = _new_connection(call, account, connection, which, address, subnet)
            properties[which] = [shown]
        interface = asked.custom_network_interface_name or f"{call.id.name}.nic.{new_guid()}"
        interfaces = [{"id": f"{_group(call)}/providers/{PROVIDER}/networkInterfaces/{interface}"}]
        if current is not None:
            interfaces = current.body["properties"]["networkInterfaces"]
        properties |= {
            "customNetworkInterfaceName": asked.custom_network_interface_name or "",
            "networkInterfaces": interfaces,
            "customDnsConfigs": [{"fqdn": host_name(call.platform.settings, account), "ipAddresses": [address]}],
            "provisioningState": "Succeeded",
        }
        properties.setdefault("ipConfigurations", [])
        return Planned({**body, **place}, private)

    def after_write(self, call: Call, writer: Writer, document: Document, previous: Document | None) -> Document:
        if previous is not None:
            return document
        private = document.private
        subnet, account = writer.get(private["subnet"]), writer.get(private["account"])
        if subnet is None or account is None:  # `plan` has seen both in this transaction
            raise Fault(FaultKind.INTERNAL, "The subnet or the account of a private endpoint is gone.")
        hold(writer, subnet, private["address"], document)
        [shown] = [one for name in LISTS for one in document.body["properties"][name]]
        decided = shown["properties"]["privateLinkServiceConnectionState"]
        private_link.connect(writer, document, account, private["connectionName"], private["address"], decided)
        return document

    def remove(self, call: Call, writer: Writer, document: Document) -> Reply | None:
        super().remove(call, writer, document)
        release(writer, document.private["subnet"], document)
        private_link.disconnect(writer, document.private["connection"], "The private endpoint has been deleted.")
        return None

    def compile(self, document: Document) -> Iterable[Entry]:
        return ()  # the connection, which the account's side decides on, is what is in force


def host_name(settings: Settings, account: Document) -> str:
    """Return the name under which callers reach an account privately: its own, since the certificate and the gateway know no other."""
    return f"{account.body['properties']['customSubDomainName']}.ai.{settings.names.domain or DEFAULT_DOMAIN}"


def _only_connection(asked: Properties) -> tuple[str, Connection]:
    lists = (asked.private_link_service_connections or [], asked.manual_private_link_service_connections or [])
    found = [(name, one) for name, connections in zip(LISTS, lists, strict=True) for one in connections]
    if len(found) != 1:
        message = f"A private endpoint has exactly one connection, in one of {' and '.join(LISTS)}, not {len(found)}."
        raise Fault(
            FaultKind.INVALID, message, code="InvalidPrivateLinkServiceConnections", target=f"properties.{LISTS[0]}"
        )
    return found[0]


def _account(connection: Connection, reader: Reader) -> Document:
    asked, target = connection.properties or ConnectionProperties(), "properties.privateLinkServiceConnections"
    if not connection.name:
        message = "A connection of a private endpoint has a name."
        raise Fault(FaultKind.INVALID, message, code="InvalidRequestContent", target=f"{target}.name")
    if asked.group_ids != [GROUP_ID]:
        message = f"An account has one group, and a connection names it: groupIds is ['{GROUP_ID}']."
        raise Fault(FaultKind.INVALID, message, code="InvalidGroupId", target=f"{target}.groupIds")
    if len(asked.request_message or "") > MAX_MESSAGE:
        message = f"A request message has at most {MAX_MESSAGE} characters."
        raise Fault(FaultKind.INVALID, message, code="InvalidRequestContent", target=f"{target}.requestMessage")
    account_id = referred(Reference(asked.private_link_service_id), ACCOUNTS, f"{target}.privateLinkServiceId")
    account = reader.get(account_id.key)
    if account is None:
        message = f"The account '{account_id.text}' was not found, so nothing can be connected to it."
        raise Fault(
            FaultKind.INVALID, message, code="PrivateLinkServiceNotFound", target=f"{target}.privateLinkServiceId"
        )
    if not account.body["properties"].get("customSubDomainName"):
        message = "Private endpoints need a custom subdomain: set properties.customSubDomainName of the account first."
        raise Fault(
            FaultKind.INVALID, message, code="CustomSubDomainNameRequired", target=f"{target}.privateLinkServiceId"
        )
    return account


def _subnet(call: Call, asked: Properties, current: Document | None, reader: Reader) -> Document:
    target = "properties.subnet"
    subnet_id = referred(asked.subnet, SUBNETS, target)
    if current is not None and subnet_id.key != current.private["subnet"]:
        message = f"The private endpoint '{call.id.name}' stands in a subnet already and cannot move to another."
        raise Fault(FaultKind.INVALID, message, code="PropertyChangeNotAllowed", target=target)
    authorization.authorise(
        call.snapshot, call.credential, JOIN, subnet_id.key, subnet_id.text, call.decision_id, now=call.now
    )
    subnet = reader.get(subnet_id.key)
    if subnet is None:
        message = f"The subnet '{subnet_id.text}' was not found."
        raise Fault(FaultKind.INVALID, message, code="SubnetNotFound", target=target)
    return subnet


def _address(asked: Properties, subnet: Document, current: Document | None) -> str:
    target = "properties.ipConfigurations"
    configurations = asked.ip_configurations or []
    if len(configurations) > 1:
        message = "An account has one member, so a private endpoint to it has at most one ipConfiguration."
        raise Fault(FaultKind.INVALID, message, code="TooManyIpConfigurations", target=target)
    static = configurations[0].properties if configurations else None
    if configurations and (static is None or not static.private_ip_address or static.group_id not in (None, GROUP_ID)):
        message = f"An ipConfiguration has a privateIPAddress, the groupId '{GROUP_ID}' and the memberName 'default'."
        raise Fault(FaultKind.INVALID, message, code="InvalidIpConfiguration", target=target)
    address = static.private_ip_address if static is not None else None
    if current is not None:
        if address is not None and address != current.private["address"]:
            message = f"The private endpoint has the address {current.private['address']}, and keeps it."
            raise Fault(FaultKind.INVALID, message, code="PropertyChangeNotAllowed", target=target)
        return str(current.private["address"])
    return free_address(subnet, address)


def _new_connection(
    call: Call, account: Document, connection: Connection, which: str, address: str, subnet: Document
) -> tuple[Json, Json]:
    """Return the private part of a new endpoint, and its connection as it shows it."""
    by_hand = which == LISTS[1]
    approves = authorization.granted(call.snapshot, call.credential, private_link.APPROVAL, account.id, now=call.now)
    message = (connection.properties.request_message if connection.properties is not None else None) or ""
    if approves and not by_hand:
        decided = private_link.state("Approved", "Auto-Approved")
    else:
        decided = private_link.state("Pending", message or "Please approve this connection.")
    name = f"{display_id(account)}/privateEndpointConnections/{call.id.name}.{new_guid()}"
    private = {
        "connection": name.lower(),
        "connectionName": name,
        "account": account.id,
        "address": address,
        "subnet": subnet.id,
    }
    shown = {
        "id": f"{call.id.text}/{which}/{connection.name}",
        "name": connection.name,
        "type": f"{PRIVATE_ENDPOINTS}/{which}",
        "properties": {
            "privateLinkServiceId": display_id(account),
            "groupIds": [GROUP_ID],
            **({"requestMessage": message} if message else {}),
            "privateLinkServiceConnectionState": decided,
            "provisioningState": "Succeeded",
        },
    }
    return private, shown


def _unchanged(current: Document, which: str, connection: Connection, account: Document) -> list[Json]:
    """Return the connection an endpoint has; Fault when another is asked for."""
    there: Sequence[Mapping[str, Any]] = current.body["properties"].get(which, [])
    if account.id != current.private["account"] or [one["name"] for one in there] != [connection.name]:
        message = (
            f"The private endpoint '{current.name}' has a connection already; make another endpoint for another one."
        )
        raise Fault(FaultKind.INVALID, message, code="PropertyChangeNotAllowed", target=f"properties.{which}")
    return [dict(one) for one in there]


def _group(call: Call) -> str:
    group = ResourceId.parse(call.id.text)
    return f"/subscriptions/{group.subscription}/resourceGroups/{group.resource_group}"


PLUGIN = PrivateEndpoints()
